"""Which engines live: each holds a locked file in the store, and a lock ends with its process."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.engine import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """This engine's presence in a store: a number that grows with each engine, and a held lock."""

    number: int
    path: Path
    lock: int  # a descriptor

    def leave(self) -> None:
        """Give the lock up and take the directory away."""
        _remove(self.path)
        os.close(self.lock)


@contextmanager
def guard(root: Path) -> Iterator[None]:
    """Hold the store's door while an engine comes in, so that two do not set it up at once."""
    door = os.open(root / "door.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(door, fcntl.LOCK_EX)
        yield
    finally:
        os.close(door)


def find_living(root: Path) -> tuple[frozenset[int], tuple[Path, ...]]:
    """Return the numbers of the engines that live, and the directories of those that died."""
    living, dead = set(), []
    for path in sorted((root / "owners").iterdir(), key=lambda item: item.name):
        (living.add(int(path.name)) if _is_locked(path) else dead.append(path))
    return frozenset(living), tuple(dead)


def enter(root: Path, at_least: int) -> Owner:
    """Take the next number, not below `at_least`; the caller holds the door."""
    taken = [int(name) for name in os.listdir(root / "owners")]
    number = max([at_least, *(other + 1 for other in taken)])
    path = root / "owners" / str(number)
    (path / "views").mkdir(parents=True)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return Owner(number=number, path=path, lock=lock)


def clear(dead: Path) -> None:
    """Take away what a dead engine left of itself."""
    _remove(dead)


def _is_locked(path: Path) -> bool:
    try:
        probe = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False


def _remove(path: Path) -> None:
    # An engine without a private mount namespace may have left mounts: never delete through one.
    views = path / "views"
    for view in sorted(views.iterdir()) if views.is_dir() else []:
        while os.path.ismount(view):
            mounts.unmount(view)
        view.rmdir()
    shutil.rmtree(path, ignore_errors=False)
