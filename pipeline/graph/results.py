"""Results of stages as JSON and back: what can be stored is what comes back equal."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import PipelineError

_SIMPLE: Final = (str, int, bool, float, type(None))


class NotStorable(PipelineError):
    """A stage's result cannot be written down and read back equal; the stage works, but is never cached."""


class ResultUnreadable(PipelineError):
    """A stored result does not fit the type the stage returns now."""


def to_plain(value: object, kind: object) -> Any:
    """`value` as JSON can hold it, proven by reading it back as `kind`.

    Raises:
        NotStorable: It is of a kind that JSON cannot express, or came back different.
    """
    if kind in _SIMPLE and type(value) is not kind:
        wanted = getattr(kind, "__name__", kind)
        raise NotStorable(f"cannot store a result of type `{type(value).__name__}`: `{wanted}` is promised")
    if value is None or type(value) in (str, int, bool):
        return value
    try:
        text = json.dumps(_converter().unstructure(value))
        again = from_plain(json.loads(text), kind)
    except Exception as error:
        raise NotStorable(f"cannot store a result of type `{type(value).__name__}`: {error}") from error
    if again != value or type(again) is not type(value):
        raise NotStorable(
            f"cannot store a result of type `{type(value).__name__}`: it came back different; "
            "the return annotation must name its exact type"
        )
    return json.loads(text)


def from_plain(data: Any, kind: object) -> Any:
    """The value `to_plain` wrote.

    Raises:
        ResultUnreadable: The data is not of that type.
    """
    if data is None or kind is Any:
        return data
    try:
        return _converter().structure(data, kind)
    except Exception as error:  # a group of cattrs, or whatever a hook of a foreign type raises
        raise ResultUnreadable(f"cannot read a stored result as `{kind}`: {error}") from error


@lru_cache(maxsize=1)
def _converter() -> Any:
    # Imported late: listings and plans never read a result.
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)
