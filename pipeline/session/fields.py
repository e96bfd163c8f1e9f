"""What a row of a field table says, and helpers for rows that follow a rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import EngineError
from pipeline.session.schema import snake

if TYPE_CHECKING:
    from pipeline.session.calls import Call
    from pipeline.session.scope import Scope

Resolve = Callable[["Scope", Any, Mapping[str, Any]], Any]
"""From scope, receiver and all arguments (objects loaded, defaults filled) to the result, or an awaitable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a type.

    `objects` names the type of each argument that is an id; `hidden` are arguments that no id may depend on;
    `pinned` rewrites the call once its result is known; `replay` makes the object again from a stored call
    where `resolve` cannot; `never_cached` says why the field is carried out each time; `is_pure` ones answer
    from the receiver's value and their arguments alone.
    """

    resolve: Resolve
    objects: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    pinned: Callable[[Call, Any], Call] | None = None
    replay: Resolve | None = None
    never_cached: str = ""
    is_pure: bool = False


Table = Mapping[str, Field]


class Unsupported(EngineError):
    """The field is in the schema but not in this engine."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not supported by the embedded engine (use the dagger engine)")
        self.field = name


@dataclass(frozen=True, slots=True)
class UnsupportedValue:
    """The result of an unsupported field: chained on, it fails where something is asked of it."""

    field: str


def pure(
    method: Callable[..., Any],
    *,
    rename: Mapping[str, str] | None = None,
    objects: Mapping[str, str] | None = None,
    drop: tuple[str, ...] = (),
    **fixed: Any,
) -> Field:
    """Make the row of a field that is one pure method of the engine's value.

    Arguments go by their names in snake case, or by `rename`; those in `drop` mean nothing to this engine;
    null goes as the method's own default.
    """
    names = rename or {}
    defaults = {
        name: p.default
        for name, p in inspect.signature(method).parameters.items()
        if p.default is not p.empty
    }

    def resolve(_: Scope, value: Any, arguments: Mapping[str, Any]) -> Any:
        given = {names.get(n, snake(n)): v for n, v in arguments.items() if n not in drop}
        kept = {n: v for n, v in given.items() if v is not None or n not in defaults}
        return method(value, **kept, **fixed)

    return Field(resolve=resolve, objects=objects or {}, is_pure=True)


def unchanged(*, objects: Mapping[str, str] | None = None) -> Field:
    """Make the row of a field that answers its receiver as it is."""
    return Field(resolve=lambda _, value, __: value, objects=objects or {})


def data(*names: str) -> Table:
    """Make the table of a type whose values are mappings of these fields."""

    def item(name: str) -> Field:
        return Field(resolve=lambda _, value, __: value[name])

    return {name: item(name) for name in names}
