"""Merged views: overlay mounts of snapshots, shared by their users and kept a while for the next one."""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine import mounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_IDLE_KEPT: Final = 16


@dataclass(slots=True)
class _View:
    path: Path
    users: int


class Views:
    """The views of one engine, mounted below its own directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._turn = threading.Lock()
        self._views: dict[int, _View] = {}  # least recently used first

    @contextmanager
    def reading(self, snapshot: int, lowers: Sequence[Path]) -> Iterator[Path]:
        """Lend a read-only view of a snapshot.

        Raises:
            MountFailed: The overlay cannot be mounted.
        """
        if len(lowers) == 1:
            yield lowers[0]
            return
        with self._turn:
            view = self._views.pop(snapshot, None) or _View(path=self._mount(lowers), users=0)
            view.users += 1
            self._views[snapshot] = view
        try:
            yield view.path
        finally:
            with self._turn:
                view.users -= 1
                self._trim()

    @contextmanager
    def writing(self, lowers: Sequence[Path], upper: Path, work: Path) -> Iterator[Path]:
        """Lend a read-write view whose changes go to `upper`; it is unmounted when the block ends.

        Raises:
            MountFailed: The overlay cannot be mounted.
        """
        target = self._mount(lowers, upper, work)
        try:
            yield target
        finally:
            _unmount(target)

    def drop(self, snapshots: Sequence[int]) -> None:
        """Unmount the idle views of these snapshots."""
        with self._turn:
            for number in snapshots:
                view = self._views.get(number)
                if view is not None and view.users == 0:
                    _unmount(self._views.pop(number).path)

    def close(self) -> None:
        """Unmount everything."""
        with self._turn:
            while self._views:
                _unmount(self._views.popitem()[1].path)

    def _mount(self, lowers: Sequence[Path], upper: Path | None = None, work: Path | None = None) -> Path:
        target = self._folder / str(next(self._numbers))
        target.mkdir()
        try:
            mounts.mount_overlay(target, lowers, upper, work)
        except BaseException:
            target.rmdir()
            raise
        return target

    def _trim(self) -> None:
        idle = [number for number, view in self._views.items() if view.users == 0]
        for number in idle[: max(0, len(idle) - _IDLE_KEPT)]:
            _unmount(self._views.pop(number).path)


def _unmount(target: Path) -> None:
    mounts.unmount(target)
    os.rmdir(target)
