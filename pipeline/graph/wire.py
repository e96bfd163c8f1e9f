"""Events as JSON lines and back: `kind` is the class name, fields keep their names.

By hand and not by a library, since every listing reads and every stage writes these.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Final

from pipeline.errors import PipelineError
from pipeline.graph import events
from pipeline.graph.outcome import Failure, Outcome

KINDS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        events.RunStarted,
        events.StageStarted,
        events.StageOutput,
        events.StageStep,
        events.StageQuiet,
        events.StageRetried,
        events.StageFinished,
        events.RunFinished,
    )
}


class BadEvent(PipelineError):
    """A line is not an event this version knows."""

    def __init__(self, line: str, why: str) -> None:
        super().__init__(f"cannot read the event `{line[:80]}`: {why}")
        self.line = line


def event_to_line(event: events.Event) -> str:
    """One line of JSON, without the line end."""
    return json.dumps({"kind": type(event).__name__, **plain(event)}, ensure_ascii=False)


def event_from_line(line: str) -> events.Event:
    """The event of a line; fields this version does not know are left out.

    Raises:
        BadEvent: The line is no JSON object, of an unknown kind, or lacks a field.
    """
    try:
        data = json.loads(line)
        kind = KINDS[data.pop("kind")]
        known = {item.name for item in fields(kind)}
        made: events.Event = kind(**{k: _value(k, v) for k, v in data.items() if k in known})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadEvent(line, str(error)) from error
    return made


def plain(value: Any) -> Any:
    """A dataclass of plain values as JSON can hold it."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    names = _field_names(type(value))  # type: ignore[arg-type]  # every class is hashable
    if names:
        return {name: plain(getattr(value, name)) for name in names}
    return str(value) if isinstance(value, str) else value


@lru_cache(maxsize=64)
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind)) if is_dataclass(kind) else ()


def failure_from_plain(data: dict[str, Any]) -> Failure:
    """The failure `plain` wrote."""
    known = {item.name for item in fields(Failure)}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Failure(**{name: value for name, value in values.items() if name in known})


def _value(name: str, value: Any) -> Any:
    if name == "failure" and value is not None:
        return failure_from_plain(value)
    if name == "outcome":
        return Outcome(value)
    if name == "stages":
        return tuple(events.PlannedStage(**{k: _value(k, v) for k, v in row.items()}) for row in value)
    return tuple(value) if isinstance(value, list) else value
