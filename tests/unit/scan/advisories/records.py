"""Advisories for tests, in the OSV schema."""

from __future__ import annotations

from typing import Any

from pipeline.scan.advisories.osv import Advisory, parse_advisory


def record(
    name: str = "TEST-1",
    *,
    package: str = "thing",
    ecosystem: str = "PyPI",
    events: list[dict[str, str]] | None = None,
    ranges: list[dict[str, Any]] | None = None,
    versions: list[str] | None = None,
    kind: str = "ECOSYSTEM",
    **more: Any,
) -> dict[str, Any]:
    """A record about one package; `events` make one range."""
    affected: dict[str, Any] = {"package": {"name": package, "ecosystem": ecosystem}}
    if events is not None:
        affected["ranges"] = [{"type": kind, "events": events}]
    if ranges is not None:
        affected["ranges"] = ranges
    if versions is not None:
        affected["versions"] = versions
    table = {
        "id": name,
        "modified": "2026-11-01T00:00:00Z",
        "schema_version": "1.6.0",
        "affected": [affected],
    }
    return {**table, **more}


def advisory(name: str = "TEST-1", **more: Any) -> Advisory:
    """The same, parsed."""
    return parse_advisory(record(name, **more))


def between(*pairs: str) -> list[dict[str, str]]:
    """Events of "introduced fixed" pairs; an open end is "1.0 -", "1.0 =1.5" ends with the last affected."""
    events: list[dict[str, str]] = []
    for pair in pairs:
        begin, end = pair.split(" ")
        events.append({"introduced": begin})
        if end.startswith("="):
            events.append({"last_affected": end[1:]})
        elif end != "-":
            events.append({"fixed": end})
    return events
