"""Reading files of the host, each once: hashed, and copied on the way.

This file is also a program: a large tree is read by several processes, since one Python process does one
thing at a time. It is started as a file, without site-packages, so it imports the standard library alone.
Its arguments are the folders to read and to write; batches of paths come on stdin and are answered on
stdout, each message as eight bytes of length and what `marshal` wrote.
"""

from __future__ import annotations

import fcntl
import hashlib
import marshal
import os
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import RawIOBase

Stamp = tuple[int, int, int, int, int, int]
"""Size, mtime and ctime in nanoseconds, inode, device, mode."""

ReadFile = tuple[str, Stamp, str]
"""A file that was read: path, its stamp at that time, SHA-256."""

LENGTH_BYTES: Final = 8
_CHUNK_BYTES: Final = 1 << 20
_CLONE_FROM_BYTES: Final = 1 << 22
_READS: Final = 5  # how often a file that changes while it is read is tried
_FICLONE: Final = 0x40049409


class ImportFailed(Exception):
    """A file cannot be brought in; `path` is the host's."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def stamp(info: os.stat_result) -> Stamp:
    """Return what tells two states of a file apart."""
    return (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev, info.st_mode)


class Reader:
    """Reads files below `source`; with a `target` they are copied there, where their directories are."""

    def __init__(self, source: str, target: str | None) -> None:
        self._source = source
        self._target = target
        self._can_clone = True

    def read_batch(self, paths: Sequence[str]) -> list[ReadFile]:
        """Read each file; those that are gone are left out.

        Raises:
            ImportFailed: A file cannot be read, or changes all the time.
            OSError: `target` cannot be written.
        """
        return [done for path in paths if (done := self.read(path)) is not None]

    def read(self, path: str) -> ReadFile | None:
        """Read a file until it stayed the same meanwhile; None when it is gone. Raises as `read_batch`."""
        full = f"{self._source}/{path}"
        target = None if self._target is None else f"{self._target}/{path}"
        for attempt in range(_READS):
            try:
                source = os.open(full, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                if attempt and target is not None:
                    os.unlink(target)
                return None
            except OSError as error:
                raise ImportFailed(full, (error.strerror or str(error)).lower()) from error
            try:
                before = os.fstat(source)
                if not stat.S_ISREG(before.st_mode):
                    raise ImportFailed(full, "it was replaced while being read")
                sha256 = self._copy(source, before, target)
                now = stamp(before)
                if stamp(os.fstat(source)) == now:
                    return path, now, sha256
            finally:
                os.close(source)
        raise ImportFailed(full, "it changes while being read")

    def _copy(self, source: int, info: os.stat_result, target: str | None) -> str:
        """Hash a file, and write what was read to `target`."""
        if target is None:
            return _pass_on(source, info.st_size, None)
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if info.st_size >= _CLONE_FROM_BYTES and self._clone(source, sink):
                # The clone is hashed, not the source, which may go on changing.
                with open(target, "rb") as stream:
                    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                sha256 = _pass_on(source, info.st_size, sink)
            os.fchmod(sink, stat.S_IMODE(info.st_mode))
            os.utime(sink, ns=(info.st_mtime_ns, info.st_mtime_ns))
        finally:
            os.close(sink)
        return sha256

    def _clone(self, source: int, sink: int) -> bool:
        """Share the blocks of a large file, where the file system can."""
        if self._can_clone:
            try:
                fcntl.ioctl(sink, _FICLONE, source)
            except OSError:
                self._can_clone = False
        return self._can_clone


def _pass_on(source: int, size: int, sink: int | None) -> str:
    """Read a file to its end, hash it, and write it to `sink`."""
    data = os.read(source, min(size + 1, _CHUNK_BYTES))
    if len(data) <= size < _CHUNK_BYTES:
        # Most files are small: one read has it all, when the next one says so.
        if sink is not None and data:
            _write(sink, data)
        rest = os.read(source, _CHUNK_BYTES) if len(data) < size else b""
        if not rest:
            return hashlib.sha256(data).hexdigest()
        running = hashlib.sha256(data)
        data = rest
    else:
        running = hashlib.sha256()
    while data:
        running.update(data)
        if sink is not None:
            _write(sink, data)
        data = os.read(source, _CHUNK_BYTES)
    return running.hexdigest()


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def send(stream: RawIOBase, value: Any) -> None:
    """Write one message."""
    data = marshal.dumps(value)
    view = memoryview(len(data).to_bytes(LENGTH_BYTES, "big") + data)
    while view:
        view = view[stream.write(view) or 0 :]


def receive(stream: RawIOBase) -> object | None:
    """Read one message, which only the other end of our own pipe can have written; None at its end."""
    length = _read_exactly(stream, LENGTH_BYTES)
    data = _read_exactly(stream, int.from_bytes(length, "big")) if length else b""
    value: object = marshal.loads(data) if data else None  # noqa: S302
    return value


def _read_exactly(stream: RawIOBase, size: int) -> bytes:
    """Read `size` bytes; none when the other end is gone."""
    parts: list[bytes] = []
    while size:
        part = stream.read(size)
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(source: str, target: str) -> None:
    """Answer each batch with the files read, or with the error that ended it, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal's group: the engine decides when to end
    reader = Reader(source, target or None)
    with open(0, "rb", buffering=0) as requests, open(1, "wb", buffering=0) as answers:
        while isinstance(paths := receive(requests), list):
            answer: Any
            try:
                answer = reader.read_batch(paths)
            except ImportFailed as error:
                answer = ("import", error.path, error.reason)
            except OSError as error:
                answer = ("os", error.errno, error.strerror, error.filename)
            send(answers, answer)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:  # the engine is gone, and its draft with it
        sys.exit(1)
