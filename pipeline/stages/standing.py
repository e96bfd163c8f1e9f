"""What results depend on besides the stage's inputs, and what it is now: the day, waivers, locks, files."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from pipeline.digest import digest_bytes, digest_json

if TYPE_CHECKING:
    from pathlib import Path


def value_now(root: Path, name: str) -> str | None:
    """What stands now under a name that a stage told `depend_on`; None for a name nobody knows.

    Known are `day` (UTC), `waivers` (the entries and which of them hold today), `base` (the commit the change
    is compared with), `lock TOOL`, `program NAME` (which file it is, "" where it is not installed) and
    `file PATH` (its digest, "" without it; in the project or absolute).
    """
    kind, _, rest = name.partition(" ")
    match kind:
        case "day":
            return today().isoformat()
        case "waivers":
            return _waivers(root)
        case "base":
            return _base(root)
        case "lock":
            from pipeline.stages.tools import tool_lock

            return digest_bytes(tool_lock(rest).encode())
        case "program":
            return _program(rest)
        case "file":
            path = root / rest
            return digest_bytes(path.read_bytes()) if path.is_file() else ""
        case _:
            return None


def today() -> datetime.date:
    """The day, in UTC: a run gives the same answer wherever it runs."""
    return datetime.datetime.now(datetime.UTC).date()


def _waivers(root: Path) -> str:
    from pipeline.scan import waivers

    path = root / waivers.FILE
    if not path.is_file():
        return ""
    entries = waivers.parse_waivers(path.read_text(encoding="utf-8"))
    day = today()
    return digest_json([[repr(one), waivers.standing(one, day)] for one in entries])


def _program(name: str) -> str:
    import os
    import shutil

    path = shutil.which(name)
    if path is None:
        return ""
    told = os.stat(path)
    return f"{os.path.realpath(path)} {told.st_size} {told.st_mtime_ns}"


def _base(root: Path) -> str:
    import os

    from pipeline.graph.inputs import GitFailed
    from pipeline.stages.changes import find_base

    try:
        return find_base(root, None, os.environ)
    except GitFailed:
        return ""  # then every finding counts, whatever changed
