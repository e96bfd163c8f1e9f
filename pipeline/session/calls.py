"""Calls and ids: how an object came to be, written so that the same chain has the same id.

An id is a letter of the type and a digest of the canonical call: the receiver's id, the field, the arguments
that differ from their defaults with objects by id. What depends on the session or on time is pinned before:
a host directory by its content, an image by its digest. Values of lists stand for themselves. An id never
begins with a digit, since clients would write it as a number then.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

ID: Final = re.compile("[A-Z_a-z][0-9a-f]{64}")
"""What an id looks like."""
PINNED: Final = ""
"""The field name of a call that is a value: its arguments are the value."""


class UnknownId(EngineError):
    """No object of this store has the id."""

    def __init__(self, identifier: str) -> None:
        shown = identifier if len(identifier) < 100 else f"{identifier[:100]}…"
        super().__init__(f"cannot load `{shown}`: no object of this engine has that id")
        self.identifier = identifier


class WrongType(EngineError):
    """An id stands for an object of another type than is needed."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"load {expected}: expected {expected}, got {got}")
        self.expected = expected
        self.got = got


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a chain; without a receiver it is one of `Query`, or a value if `name` is `PINNED`."""

    type: str
    receiver: Call | None = None
    name: str = PINNED
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        receiver = self.receiver.id if self.receiver is not None else ""
        text = json.dumps([receiver, self.recipe()], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        object.__setattr__(self, "id", self.type[0] + digest)

    def recipe(self) -> dict[str, Any]:
        """Return the call as JSON can express it, without its receiver."""
        return {"type": self.type, "field": self.name, "arguments": dict(self.arguments)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """A value of the engine with its GraphQL type and the call that made it; `Query` has none.

    `made` remembers what its pure fields answered, by their names and arguments.
    """

    type: str
    value: Any
    call: Call | None
    made: dict[str, Object] = field(default_factory=dict, compare=False, repr=False)
