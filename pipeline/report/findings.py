"""`findings.json` of a scan stage, read for the views; its format is in `docs/reference/findings.md`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA: Final = 1
ACTIONS: Final = ("block", "warn", "note", "waived", "known")  # as the views tell them
MOST_TOLD: Final = 20  # findings of one action in one stage; the rest is counted
LONGEST_TEXT: Final = 300  # characters of what a scanner said


class FindingsUnreadable(ValueError):
    """A file is not a `findings.json` that the views read."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One finding as the views tell it."""

    id: str  # its first 12 digits, which name it
    severity: str
    where: str
    what: str
    rule: str
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class StageFindings:
    """What the scanners of one stage found, and what they could not look at."""

    result: str  # "pass", "warn" or "block"
    counts: Mapping[str, int] = field(default_factory=dict)  # by action, each of `ACTIONS`
    blocking: tuple[Found, ...] = ()  # the worst first, at most `MOST_TOLD`
    warnings: tuple[Found, ...] = ()
    unchecked: tuple[str, ...] = ()  # scanners that could not look at everything, and why


def parse_findings(data: bytes, name: str) -> StageFindings:
    """Read the content of a `findings.json`.

    Raises:
        FindingsUnreadable: It is not JSON, of another schema, or does not fit.
    """
    try:
        table = json.loads(data)
        if table["schema"] != SCHEMA:
            raise FindingsUnreadable(f"cannot read the findings in `{name}`: expected `schema` {SCHEMA}")
        verdict = table["verdict"]
        judged = [(str(one["action"]), one["finding"]) for one in verdict["judged"]]
        return StageFindings(
            result=str(verdict["result"]),
            counts={action: sum(one == action for one, _ in judged) for action in ACTIONS},
            blocking=_told(judged, "block"),
            warnings=_told(judged, "warn"),
            unchecked=tuple(
                _cut(f"{one['scanner']} is {one['state']}: {one['why']}") for one in verdict["unchecked"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FindingsUnreadable):
            raise
        raise FindingsUnreadable(f"cannot read the findings in `{name}`: {error!r}") from error


def _told(judged: list[tuple[str, dict[str, Any]]], action: str) -> tuple[Found, ...]:
    return tuple(_found(one) for each, one in judged if each == action)[:MOST_TOLD]


def _found(one: dict[str, Any]) -> Found:
    return Found(
        id=str(one["id"])[:12],
        severity=str(one["severity"]["level"]),
        where=_cut(_where(one["place"])),
        what=_cut(str(one["title"])),
        rule=_cut(str(one["rule"]["id"])),
        mend=_cut(str(one["fix"])),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _where(place: dict[str, Any]) -> str:
    """The place as people read it: `path:line`, `name version`, or `GET /route`."""
    if place["kind"] == "file":
        return f"{place['path']}:{place['line']}" if place["line"] else str(place["path"])
    if place["kind"] == "package":
        return f"{place['name']} {place['version']}"
    return f"{place['method']} {place['route']}" + (f" ({place['parameter']})" if place["parameter"] else "")
