"""Copying between trees: files with everything they carry, directories merged into what is there.

Paths here are resolved already; where links lead is decided in `rootpath`.
"""

from __future__ import annotations

import errno
import filecmp
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.engine.modes import apply_symbolic
from pipeline.engine.rootpath import find_status, remove
from pipeline.engine.treehash import find_xattrs
from pipeline.engine.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.actions import Filters

_WHOLE_READ_BYTES: Final = 1 << 17
_NO_RANGE: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP})


@dataclass(slots=True, kw_only=True)
class Copier:
    """Copies nodes; remembers the hard links among them.

    `owner` and `mode` (files and directories) replace what the source has; `symbolic_mode` changes it.
    With `link`, files are shared with the source by hard links where nothing is replaced.
    """

    owner: tuple[int, int] | None = None
    mode: int | None = None
    symbolic_mode: str = ""
    link: bool = False
    _first: dict[tuple[int, int], str] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)  # directories made here: nothing is in the way there
    _directories: list[tuple[str, str, os.stat_result]] = field(default_factory=list)

    def contents(self, source: Path, target: str, filters: Filters) -> None:
        """Copy what is in directory `source` and passes `filters` into the directory `target`.

        Raises:
            OSError: Something cannot be read or written.
            BadPattern: A filter is not in the dialect.
        """
        top = os.fspath(source)
        for entry in walk(source, filters):
            self.node(f"{top}/{entry.path}", f"{target}/{entry.path}", entry.stat)
        self.finish()

    def node(self, source: str, target: str, info: os.stat_result) -> None:
        """Copy one file, or make one directory, in place of what is there; directories are merged."""
        if stat.S_ISSOCK(info.st_mode) or (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0):
            return
        there = None if target.rpartition("/")[0] in self._fresh else find_status(target)
        if stat.S_ISDIR(info.st_mode):
            self._directory(source, target, info, there)
            return
        if there is not None:
            remove(target)
        if not self._linked(source, target, info):
            self._new(source, target, info)

    def made(self, source: str, target: str) -> None:
        """Note that `target` was made for the directory `source`, whose attributes it is to have."""
        self._fresh.add(target)
        self._directories.append((source, target, os.lstat(source)))

    def finish(self) -> None:
        """Give the directories their attributes, now that nothing is put into them any more."""
        for source, target, info in reversed(self._directories):
            self._attributes(source, target, info)
        self._directories.clear()

    def _directory(
        self, source: str, target: str, info: os.stat_result, there: os.stat_result | None
    ) -> None:
        if there is not None and not stat.S_ISDIR(there.st_mode):
            os.unlink(target)
            there = None
        if there is None:
            os.mkdir(target, 0o700)
            self._fresh.add(target)
        self._directories.append((source, target, info))

    def _linked(self, source: str, target: str, info: os.stat_result) -> bool:
        if info.st_nlink > 1:
            key = info.st_dev, info.st_ino
            first = self._first.setdefault(key, target)
            if first != target:
                os.link(first, target, follow_symlinks=False)
                return True
        if not self.link or self.owner is not None or self.mode is not None or self.symbolic_mode:
            return False
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            return False
        return True

    def _new(self, source: str, target: str, info: os.stat_result) -> None:
        if stat.S_ISREG(info.st_mode):
            _copy_data(source, target, info.st_size)
        elif stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(source), target)
        else:
            os.mknod(target, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev)
        self._attributes(source, target, info)

    def _attributes(self, source: str, target: str, info: os.stat_result) -> None:
        # In this order: a change of owner clears set-id bits and capabilities.
        os.lchown(target, *(self.owner or (info.st_uid, info.st_gid)))
        if not stat.S_ISLNK(info.st_mode):
            os.chmod(target, self._mode_of(info))
        for name, value in find_xattrs(source):
            os.setxattr(target, name, value, follow_symlinks=False)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)

    def _mode_of(self, info: os.stat_result) -> int:
        if self.mode is not None:
            return self.mode
        mode = stat.S_IMODE(info.st_mode)
        if not self.symbolic_mode:
            return mode
        return apply_symbolic(mode, self.symbolic_mode, is_directory=stat.S_ISDIR(info.st_mode))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two trees; `after` is None for a removal, which stands for all below it."""

    path: str
    after: os.stat_result | None


def compare(before: str, after: str) -> Iterator[Change]:
    """Yield what is different in `after`, parents first, by name; times alone are no difference."""
    yield from _compare(before, after, "")


def _compare(before: str | None, after: str, prefix: str) -> Iterator[Change]:
    old = {} if before is None else _scan(before)
    new = _scan(after)
    for name in sorted(old.keys() | new.keys()):
        path = prefix + name
        info = new.get(name)
        if info is None:
            yield Change(path=path, after=None)
            continue
        left, right = f"{before}/{name}", f"{after}/{name}"
        known = old.get(name)
        if known is None or not _is_equal(left, known, right, info):
            yield Change(path=path, after=info)
        if stat.S_ISDIR(info.st_mode):
            was_directory = known is not None and stat.S_ISDIR(known.st_mode)
            yield from _compare(left if was_directory else None, right, path + "/")


def _scan(directory: str) -> dict[str, os.stat_result]:
    with os.scandir(directory) as listing:
        return {item.name: item.stat(follow_symlinks=False) for item in listing}


def _is_equal(left: str, old: os.stat_result, right: str, new: os.stat_result) -> bool:
    if (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid):
        return False
    if stat.S_ISDIR(new.st_mode):
        return find_xattrs(left) == find_xattrs(right)
    if _stamp(old) == _stamp(new):
        return True  # one file of a shared layer, seen through two views
    if old.st_rdev != new.st_rdev or old.st_size != new.st_size:
        return False
    if stat.S_ISLNK(new.st_mode):
        return os.readlink(left) == os.readlink(right)
    if stat.S_ISREG(new.st_mode) and not filecmp.cmp(left, right, shallow=False):
        return False
    return find_xattrs(left) == find_xattrs(right)


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_size, info.st_rdev, info.st_mtime_ns, info.st_ctime_ns


def _copy_data(source: str, target: str, size: int) -> None:
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size > _WHOLE_READ_BYTES and _copy_range(reading, writing):
                return
            while data := os.read(reading, _WHOLE_READ_BYTES):
                _write_all(writing, data)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_range(reading: int, writing: int) -> bool:
    """Let the kernel copy, sharing the blocks where the file system can; False where it cannot."""
    try:
        while os.copy_file_range(reading, writing, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
        os.lseek(reading, 0, os.SEEK_SET)
        os.lseek(writing, 0, os.SEEK_SET)
        return False
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
