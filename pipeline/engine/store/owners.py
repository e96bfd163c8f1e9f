"""Which engines live: each holds a locked file in the store, and a lock ends with its process."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine import mounts
from pipeline.engine.locks import try_lock
from pipeline.engine.store.values import StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DOOR_LIMIT_S: Final = 45.0  # below what a client waits for the engine, so that it hears why
_TELL_AFTER_S: Final = 2.0
_TRY_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """This engine's presence in a store: a number that grows with each engine, and a held lock."""

    number: int
    path: Path
    lock: int  # a descriptor

    def leave(self) -> None:
        """Give the lock up and take the directory away; the caller holds the door."""
        _remove(self.path)
        os.close(self.lock)

    def die(self) -> None:
        """Give the lock up alone, as a kill would: the next engine that comes in clears up."""
        os.close(self.lock)


class DoorHeld(StoreUnusable):
    """Another process has held the store's door for too long."""

    def __init__(self, root: Path, holder: int | None, held_s: float) -> None:
        who = "another process" if holder is None else f"process {holder}"
        hint = (
            None
            if holder is None
            else f"look at what process {holder} does; when it is killed the store is safe"
        )
        super().__init__(root, f"{who} has been setting it up for {held_s:.0f} s", hint=hint)


def silent(_sentence: str) -> None:
    """Tell nobody."""


@contextmanager
def guard(
    root: Path, *, tell: Callable[[str], None] = silent, limit_s: float = _DOOR_LIMIT_S
) -> Iterator[None]:
    """Hold the store's door while an engine comes in, so that two do not set it up at once.

    Raises:
        DoorHeld: Somebody else has held it for `limit_s`, in seconds.
    """
    door = os.open(root / "door.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(door, root, tell, limit_s)
        yield
    finally:
        os.close(door)


def _wait_for(door: int, root: Path, tell: Callable[[str], None], limit_s: float) -> None:
    began, told = time.monotonic(), False
    while not try_lock(door):
        waited_s = time.monotonic() - began
        if waited_s > limit_s:
            raise DoorHeld(root, find_holder(door), waited_s)
        if waited_s > _TELL_AFTER_S and not told:
            told = True
            holder = find_holder(door)
            who = "another engine" if holder is None else f"the engine {holder}"
            tell(f"waiting for {who} to set up the store `{root}`")
        time.sleep(_TRY_EVERY_S)


def find_holder(lock: int) -> int | None:
    """Return the process that has locked an open file; None if the kernel does not say."""
    inode = str(os.fstat(lock).st_ino)
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:  # 1: FLOCK  ADVISORY  WRITE 708 fd:00:1234 0 EOF
            words = line.split()
            if words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode and int(words[4]) > 0:
                return int(words[4])
    return None


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
