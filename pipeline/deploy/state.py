"""Where an environment keeps its records: beside what runs there, so that every deployer sees the same.

Documents are replaced only by who has read them last; lines are only added. `LocalState` is a folder; targets
that lie elsewhere bring their own, which passes the same contract suite.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pipeline.digest import digest_bytes
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StateChanged(PipelineError):
    """Somebody else has written the document since it was read; nothing was written."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot write the record `{name}`: somebody else has written it since it was read")
        self.name = name


class State(Protocol):
    """Named documents and logs. A name is words joined by `/` and ends in `.json` or `.jsonl`."""

    async def read(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; (b"", "") when there is none."""

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        """Replace the document of that version, durably and at once, and return its new version.

        Raises:
            StateChanged: It has another version by now; "" is that of none.
        """

    async def append(self, name: str, line: bytes) -> None:
        """Add one line, with its newline, durably; several writers never mix."""

    async def names(self, prefix: str) -> tuple[str, ...]:
        """Return the names that begin with `prefix`, sorted."""


class LocalState:
    """A folder of this machine; only its owner may read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def read(self, name: str) -> tuple[bytes, str]:
        data = self._read(name)
        return (data, digest_bytes(data)) if data else (b"", "")

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        with self.alone():
            old = self._read(name)
            if (digest_bytes(old) if old else "") != version:
                raise StateChanged(name)
            _replace(self._place(name), data)
        return digest_bytes(data)

    async def append(self, name: str, line: bytes) -> None:
        with self.alone():
            _append(self._place(name), line)

    async def names(self, prefix: str) -> tuple[str, ...]:
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("[!.]*.json*"))
        return tuple(sorted(name for name in found if name.startswith(prefix)))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process out of this folder, for a moment."""
        with open(self.folder / ".lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def put(self, name: str, data: bytes) -> None:
        """Replace a document whatever its version; only for who is `alone`."""
        _replace(self._place(name), data)

    def look(self, name: str) -> bytes:
        """Return a document; b"" when there is none."""
        return self._read(name)

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return b""

    def _place(self, name: str) -> Path:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return target


def _replace(target: Path, data: bytes) -> None:
    fresh = target.with_name(f".{target.name}.new")
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
    _sync_folder(target.parent)


def _append(target: Path, line: bytes) -> None:
    is_new = not target.exists()
    with open(target, "ab") as file:
        if file.tell() and not _ends_whole(target):
            file.write(b"\n")  # whoever wrote last was killed within a line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _sync_folder(target.parent)


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
