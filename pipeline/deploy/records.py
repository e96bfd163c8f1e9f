"""Values of this room as JSON and back: a line of text each, readable by people and by later versions."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from cattrs import Converter

T = TypeVar("T")


class RecordUnreadable(PipelineError):
    """A record is damaged, or of a version that this one does not know."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read the record `{name}`: {what}")
        self.name = name


def write_record(value: DataclassInstance) -> bytes:
    """Return `value` as one line of JSON, keys in order, with a newline at its end."""
    plain = _converter().unstructure(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def read_record(data: bytes, kind: type[T], name: str) -> T:
    """Return what `write_record` wrote; keys that are new to us are passed over.

    Raises:
        RecordUnreadable: It is not JSON, or not of that kind; `name` is what it is called in the sentence.
    """
    try:
        return _converter().structure(json.loads(data), kind)
    except Exception as error:  # cattrs raises groups, and whatever a field's type raises
        raise RecordUnreadable(name, f"it is no {kind.__name__}") from error


@lru_cache(maxsize=1)
def _converter() -> Converter:
    from cattrs import Converter

    return Converter()
