"""Past runs as commands see them: the folder, the record, and whether it goes on, ended or was killed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.cli.project import runs_folder
from pipeline.graph.history import find_run

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.report.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run folder and what it tells."""

    folder: Path
    record: RunRecord


def open_run(root: Path, wanted: str) -> PastRun:
    """Find a run by `last`, its id, or a part of it that fits no other, and read its record.

    Raises:
        RunNotFound: There is none.
        RunAmbiguous: Several fit.
    """
    from pipeline.report.record import load_record

    folder = find_run(runs_folder(root), wanted)
    return PastRun(folder=folder, record=load_record(folder))


def read_run_file(folder: Path) -> dict[str, Any]:
    """What `run.json` holds; {} when it is absent or damaged."""
    try:
        data = json.loads((folder / "run.json").read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def state_of(data: dict[str, Any]) -> str:
    """How a run stands, by its `run.json`: its outcome, "running", or "killed"."""
    if data.get("status") == "finished":
        return str(data.get("outcome", "unknown"))
    pid = data.get("pid")
    return "running" if isinstance(pid, int) and _is_alive(pid) else "killed"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process, so there is one
        return True
    return True
