"""Writes directories and files of the engine to the host's disk, as the session's user."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_BLOCK_BYTES = 1 << 20


class ExportFailed(EngineError):
    """Something could not be written to the host."""


def export_directory(source: Path, target: Path, *, wipe: bool, part: str = "") -> str:
    """Merge `source` into `target` (made 0700 with its parents); `wipe` makes an exact copy of it.

    Entries of another type are replaced, links in the target are not followed, modes and mtimes are
    kept, owners become the caller's: set-user and set-group bits that stood for another owner go.
    Sockets and devices are left out. `part` is the name of files that are not whole yet.

    Raises:
        ExportFailed: The target is a file, or cannot be written.
    """
    if target.exists() and not target.is_dir():
        raise ExportFailed(f"cannot export to `{target}`: it is a file")
    try:
        _make_private(target)
        _merge(source, target, wipe=wipe, part=part or _any_name())
    except OSError as error:
        raise ExportFailed(f"cannot export to `{error.filename or target}`: {error.strerror}") from error
    return str(target)


def _merge(source: Path, target: Path, *, wipe: bool, part: str) -> None:
    with os.scandir(source) as found:
        entries = list(found)
    if wipe:
        names = {entry.name for entry in entries}
        for stale in os.listdir(target):
            if stale not in names:
                _remove(target / stale)
    for entry in entries:
        there = target / entry.name
        if entry.is_dir(follow_symlinks=False):
            if there.is_symlink() or not there.is_dir():
                _remove(there)
                there.mkdir()
            _merge(source / entry.name, there, wipe=wipe, part=part)
            made_of = entry.stat(follow_symlinks=False)
            os.chmod(there, _mode_for_caller(made_of))
            os.utime(there, ns=(made_of.st_atime_ns, made_of.st_mtime_ns))
        elif entry.is_symlink():
            _remove(there)
            os.symlink(os.readlink(entry.path), there)
        elif entry.is_file(follow_symlinks=False):
            _copy_file(source / entry.name, there, part)
        elif stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode):
            _remove(there)
            os.mkfifo(there, _mode_for_caller(entry.stat(follow_symlinks=False)))


def _mode_for_caller(found: os.stat_result) -> int:
    """The mode without what would lend the caller's rights to whoever runs another owner's program."""
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        mode &= ~stat.S_ISUID
    if found.st_gid != os.getegid():
        mode &= ~stat.S_ISGID
    return mode


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _any_name() -> str:
    return f".{secrets.token_hex(8)}.part"


def _copy_file(source: Path, target: Path, part: str) -> None:
    """Copy beside the target, then rename: a reader never sees half a file."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    # The name is short, whatever the target's is, and nobody else's; the mode hides what is not whole.
    temporary = target.with_name(part)
    try:
        with open(source, "rb") as read:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as write:
                _copy_data(read, write)
            found = os.fstat(read.fileno())
        os.chmod(temporary, _mode_for_caller(found))
        os.utime(temporary, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_data(read: BinaryIO, write: BinaryIO) -> None:
    """Copy what a file holds. Holes stay holes: a program makes a terabyte of them in no time."""
    size, at = os.fstat(read.fileno()).st_size, 0
    while at < size:
        try:
            begin = os.lseek(read.fileno(), at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end
                break
            raise
        at = os.lseek(read.fileno(), begin, os.SEEK_HOLE)
        read.seek(begin)
        write.seek(begin)
        while (left := at - read.tell()) > 0 and (block := read.read(min(left, _BLOCK_BYTES))):
            write.write(block)
    write.truncate(size)


def _make_private(target: Path) -> None:
    """Make a directory and what is missing above it, all 0700."""
    missing = [target]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)


def export_file(source: Path, target: Path, *, name: str, into_parent: bool, part: str = "") -> str:
    """Write one file to `target`; with `into_parent` an existing directory gets it under `name`.

    `part` is the name of the file while it is not whole.

    Raises:
        ExportFailed: The target is a directory and `into_parent` is not set, or cannot be written.
    """
    if target.is_dir():
        if not into_parent:
            raise ExportFailed(
                f'destination "{target}" is a directory; must be a file path unless allowParentDirPath is set'
            )
        target = target / name
    try:
        _make_private(target.parent)
        _copy_file(source, target, part or _any_name())
    except OSError as error:
        raise ExportFailed(f"cannot export to `{error.filename or target}`: {error.strerror}") from error
    return str(target)
