"""Types whose values are plain data: what lists are made of, and what `stat` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.durations import format_duration
from pipeline.session.fields import data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine import ops
    from pipeline.engine.read import FileStat, SearchHit
    from pipeline.session.fields import Table

DATA: Final[Mapping[str, Table]] = {
    "EnvVariable": data("name", "value"),
    "ErrorValue": data("name", "value"),
    "Label": data("name", "value"),
    "Port": data("port", "protocol", "description", "experimentalSkipHealthcheck"),
    "HealthcheckConfig": data(
        "args", "shell", "interval", "timeout", "startPeriod", "startInterval", "retries"
    ),
    "Stat": data("name", "size", "fileType", "permissions"),
    "DiffStat": data("path", "oldPath", "kind", "addedLines", "removedLines"),
    "SearchResult": data("filePath", "lineNumber", "absoluteOffset", "matchedLines", "submatches"),
    "SearchSubmatch": data("text", "start", "end"),
    "EngineCacheEntry": data(
        "description", "diskSpaceBytes", "createdTimeUnixNano", "mostRecentUseTimeUnixNano", "activelyUsed",
        "recordType", "recordTypes", "dagqlCall",
    ),
}  # fmt: skip


def pair(item: tuple[str, str]) -> dict[str, Any]:
    """Return something with a name and a value: an environment variable, a label."""
    return {"name": item[0], "value": item[1]}


def port(value: ops.Port) -> dict[str, Any]:
    """Return a `Port`."""
    return {
        "port": value.port,
        "protocol": value.protocol,
        "description": value.description,
        "experimentalSkipHealthcheck": value.skip_healthcheck,
    }


def healthcheck(value: ops.Healthcheck) -> dict[str, Any]:
    """Return a `HealthcheckConfig`; times are written as Go writes them."""
    return {
        "args": list(value.args),
        "shell": value.shell,
        "interval": format_duration(value.interval_s),
        "timeout": format_duration(value.timeout_s),
        "startPeriod": format_duration(value.start_period_s),
        "startInterval": format_duration(value.start_interval_s),
        "retries": value.retries,
    }


def stat(value: FileStat) -> dict[str, Any]:
    """Return a `Stat`."""
    return {
        "name": value.name,
        "size": value.size,
        "fileType": value.kind,
        "permissions": value.permissions,
    }


def search_result(hit: SearchHit) -> dict[str, Any]:
    """Return a `SearchResult`."""
    return {
        "filePath": hit.path,
        "lineNumber": hit.line,
        "absoluteOffset": hit.offset,
        "matchedLines": hit.text,
        "submatches": [{"text": text, "start": start, "end": end} for text, start, end in hit.parts],
    }
