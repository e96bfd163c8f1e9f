"""Locks between processes that nobody waits for: taken now or not at all, and gone with whoever held them."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Lock an open file against every other opening of it; False when somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def own(path: Path, flags: int) -> int:
    """Open `path` and hold its lock as long as the descriptor is open; -1 when somebody else has it."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    if try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return -1
