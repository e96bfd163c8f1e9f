"""What engines that stay tell of themselves: each writes it into the file that it holds locked.

Times are of the monotonic clock, which processes of a machine share and nobody sets.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ROOM_BYTES: Final = 4096  # taken at the start, so that a disk that fills up later takes nothing away
_TRIES: Final = 5
_PAUSE_S: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session of an engine that stays: its process, its directory and when it began."""

    pid: int
    workdir: str
    began: float


def write_standing(
    lock: int, *, since: float, stays_s: float, idle_since: float, sessions: Iterable[Session]
) -> None:
    """Say how this process stands in the file `lock`, in one write that covers what was there.

    Args:
        since: When the process began, in seconds of the clock.
        stays_s: How many seconds it stays without a session.
        idle_since: When the last session ended.
    """
    table = {
        "pid": os.getpid(),
        "since": since,
        "stays_s": stays_s,
        "idle_since": idle_since,
        "sessions": [[each.pid, each.workdir, each.began] for each in sessions],
    }
    text = json.dumps(table).encode()
    os.pwrite(lock, text.ljust(max(_ROOM_BYTES, os.fstat(lock).st_size)), 0)


def find_keepers(store: Path) -> list[dict[str, Any]]:
    """Return how the engines stand that stay with a store and live.

    Each has `pid`, `since` (seconds of the clock), `stays_s`, `idle_s` (for how long no session has been;
    None while there is one) and `sessions`, each of `pid`, `workdir` and `for_s` (for how long it is open).
    """
    found = (_read_standing(path) for path in sorted((store / "warm").glob("*.lock")))
    return [_told(table, time.monotonic()) for table in found if table is not None]


def _told(table: dict[str, Any], now: float) -> dict[str, Any]:
    sessions = [
        {"pid": pid, "workdir": workdir, "for_s": round(now - began, 1)}
        for pid, workdir, began in table["sessions"]
    ]
    return {
        "pid": table["pid"],
        "since": table["since"],
        "stays_s": table["stays_s"],
        "idle_s": None if sessions else round(now - table["idle_since"], 1),
        "sessions": sessions,
    }


def _read_standing(path: Path) -> dict[str, Any] | None:
    """Read the file of an engine that lives; None when it does not, or has not told yet."""
    for _ in range(_TRIES):  # one that is being written may be read in part
        try:
            with path.open("rb") as file:
                if _is_free(file.fileno()):
                    return None
                table: dict[str, Any] = json.loads(file.read())
                return table
        except OSError:
            return None  # it ends
        except ValueError:
            time.sleep(_PAUSE_S)
    return None


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
