"""What a deployment was about to do and did: one durable line before each action and one after it.

Whoever comes after a crash reads it and knows what may have happened. A last line that was cut off counts as
not written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pipeline.deploy.records import RecordUnreadable, read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.deploy.state import State

Event: TypeAlias = Literal["open", "intent", "done", "failed", "undo", "undone", "stuck", "held", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line; `step` is the step's place in the plan, from 0, and -1 for the deployment as a whole."""

    event: Event
    step: int = -1
    at: float  # seconds since 1970
    detail: Mapping[str, Any] = field(default_factory=dict)


def journal_name(deployment: str) -> str:
    """The record a deployment's journal is kept in."""
    return f"journals/{deployment}.jsonl"


async def write_line(state: State, deployment: str, line: Line) -> None:
    """Add a line, durably, before anything else goes on."""
    await state.append(journal_name(deployment), write_record(line))


async def read_journal(state: State, deployment: str) -> tuple[Line, ...]:
    """Return a deployment's lines; () when it has none.

    Raises:
        RecordUnreadable: A line other than the last is damaged.
    """
    name = journal_name(deployment)
    data, _ = await state.read(name)
    return parse_journal(data, name)


def parse_journal(data: bytes, name: str) -> tuple[Line, ...]:
    """Read the lines of a journal.

    Raises:
        RecordUnreadable: A line that is followed by others, and was not cut off, is damaged.
    """
    lines: list[Line] = []
    for number, text in enumerate(data.splitlines(), 1):
        try:
            json.loads(text)
        except ValueError:
            continue  # cut off by a kill, within a write that was never acknowledged
        try:
            lines.append(read_record(text, Line, f"{name}:{number}"))
        except TypeError as error:
            raise RecordUnreadable(f"{name}:{number}", str(error)) from error
    return tuple(lines)


def is_open(lines: Sequence[Line]) -> bool:
    """Whether a deployment began and has not come to its end."""
    return bool(lines) and lines[-1].event != "close"


def is_held(lines: Sequence[Line]) -> bool:
    """Whether it stopped on purpose, and waits for somebody's word."""
    return bool(lines) and lines[-1].event == "held"
