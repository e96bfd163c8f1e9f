"""The directories behind snapshots: what a layer holds, whether it changed anything, and flattening."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING, Final

from pipeline.engine.treehash import OVERLAY_PREFIXES, find_xattrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

OPAQUE_NAMES: Final = ("trusted.overlay.opaque", "user.overlay.opaque")


def is_whiteout(info: os.stat_result) -> bool:
    """Say whether a file stands for a removal of the same name below."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(directory: str) -> bool:
    """Say whether a directory hides everything below it."""
    return any(_find_xattr(directory, name) == b"y" for name in OPAQUE_NAMES)


def copy_attributes(source: str, target: str) -> None:
    """Give `target` the owner, mode, extended attributes and times of `source`; links are not followed."""
    info = os.lstat(source)
    os.lchown(target, info.st_uid, info.st_gid)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    for name, value in find_xattrs(source):
        os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def is_changed(upper: str, parent_top: str) -> bool:
    """Say whether a draft holds anything: an entry, or other attributes of the root itself."""
    with os.scandir(upper) as listing:
        if next(listing, None) is not None:
            return True
    old, new = os.lstat(parent_top), os.lstat(upper)
    if (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid):
        return True
    return find_xattrs(parent_top) != find_xattrs(upper)


def measure(root: str, *, drop_whiteouts: bool) -> int:
    """Return the bytes the disk needs for everything in `root`.

    Args:
        drop_whiteouts: Nothing is below `root`, so its whiteouts and opaque marks mean nothing: remove
            them, because a view of one directory would show them.
    """
    total, seen = 0, set()
    pending = [root]
    while pending:
        directory = pending.pop()
        if drop_whiteouts:
            _drop_opaque_mark(directory)
        with os.scandir(directory) as listing:
            for item in listing:
                info = item.stat(follow_symlinks=False)
                if drop_whiteouts and is_whiteout(info):
                    os.unlink(item.path)
                    continue
                if stat.S_ISDIR(info.st_mode):
                    pending.append(item.path)
                if info.st_nlink == 1 or (info.st_dev, info.st_ino) not in seen:
                    seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * 512
    return total


def flatten(lowers: Sequence[Path], target: Path) -> None:
    """Make `target` (missing) the merged tree of `lowers`, top first, by hard links to their files.

    Raises:
        OSError: The file system refuses; what was made is left behind.
    """
    os.mkdir(target)
    pending = [([os.fspath(lower) for lower in lowers], os.fspath(target))]
    made = []
    while pending:
        sources, place = pending.pop()
        made.append((sources[0], place))
        pending += _flatten_directory(sources, place)
    for source, place in reversed(made):  # those below first: making them changed the times above
        copy_attributes(source, place)


def remove_tree(path: Path, is_over: Callable[[], bool] = lambda: False) -> bool:
    """Remove a file or a directory, however deep, and return whether all of it is.

    Parts that are gone already, or go meanwhile, are no error.

    Args:
        is_over: Asked again and again; when it says so the rest stays.
    """
    pending, found = [os.fspath(path)], []
    try:
        while pending:
            directory = pending.pop()
            found.append(directory)
            with contextlib.suppress(FileNotFoundError), os.scandir(directory) as listing:
                for item in listing:
                    if is_over():
                        return False
                    if item.is_dir(follow_symlinks=False):
                        pending.append(item.path)
                    else:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(item.path)
        for directory in reversed(found):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(directory)
    except NotADirectoryError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        # A command can go deeper than a path can say; this program goes down step by step.
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=True, capture_output=True)
    return True


def _flatten_directory(sources: list[str], target: str) -> list[tuple[list[str], str]]:
    """Merge directories of the same name, top first, none of them hidden by another.

    Returns the directories in it: what each consists of, and where it was made.
    """
    found: dict[str, list[os.DirEntry[str]]] = {}
    closed: set[str] = set()  # names a higher layer has decided: a file, a whiteout, an opaque directory
    for source in sources:
        for item in _scan(source):
            if item.name in closed:
                continue
            info = item.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                found.setdefault(item.name, []).append(item)
                if is_opaque(item.path):
                    closed.add(item.name)
                continue
            closed.add(item.name)
            if item.name not in found and not is_whiteout(info):
                found[item.name] = [item]
    below = []
    for name, items in found.items():
        path = os.path.join(target, name)
        if items[0].is_dir(follow_symlinks=False):
            os.mkdir(path)
            below.append(([item.path for item in items], path))
        else:
            _link(items[0].path, path)
    return below


def _scan(directory: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        yield from listing


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        shutil.copyfile(source, target, follow_symlinks=False)
        copy_attributes(source, target)


def _find_xattr(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:  # not set, or out of reach in this user namespace
        return None


def _drop_opaque_mark(directory: str) -> None:
    for name in os.listxattr(directory, follow_symlinks=False):
        if name.startswith(OVERLAY_PREFIXES):
            os.removexattr(directory, name, follow_symlinks=False)
