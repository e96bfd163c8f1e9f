"""Paths inside a tree on disk: resolved as if its root were `/`, so that no link leads out of it.

The tree is not changed by anybody else meanwhile, so walking the components is safe.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING, Final

from pipeline.engine.paths import NAME_MAX_BYTES, NameTooLong
from pipeline.engine.rootless.subids import is_alone
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_LINKS: Final = 40
_MAX_ID: Final = 2**32 - 2


class EditFailed(EngineError):
    """A file action cannot be carried out on the tree it was asked for."""

    def __init__(self, act: str, path: str, reason: str) -> None:
        super().__init__(f"cannot {act} `{path}`: {reason}")
        self.path = path
        self.reason = reason


def edit_failed(act: str, path: str, error: OSError) -> EditFailed:
    """Return what a refusal of the system means for an action at `path`."""
    failed = EditFailed(act, path, (error.strerror or str(error)).lower())
    if error.errno == errno.EINVAL and is_alone():
        failed.hint = "files of other owners need ids that are lent to you: `pipeline doctor` says how"
    return failed


def resolve(root: str, path: str, *, follow_last: bool = True) -> str:
    """Return the real place of `path` in the tree at `root`; what is missing is taken as it is written.

    Absolute links start at `root`, and `..` stops there. A link as the last component is followed
    only with `follow_last`.

    Raises:
        EditFailed: A component is not a directory, or there are too many links.
        NameTooLong: A component is longer than 255 bytes.
    """
    pending = _components(path)
    at = [root]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            del at[max(1, len(at) - 1) :]
            continue
        if len(os.fsencode(part)) > NAME_MAX_BYTES:
            raise NameTooLong
        try:
            info = os.lstat("/".join([*at, part]))
        except FileNotFoundError:
            at.append(part)
            continue
        except NotADirectoryError as error:
            raise EditFailed("find", path, "not a directory") from error
        if not stat.S_ISLNK(info.st_mode) or not (pending or follow_last):
            at.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise EditFailed("find", path, "too many levels of symbolic links")
        target = os.readlink("/".join([*at, part]))
        if target.startswith("/"):
            del at[1:]
        pending += _components(target)
    return "/".join(at)


def find_status(path: str) -> os.stat_result | None:
    """Return the status of a resolved path, no link followed; None when nothing is there."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_directory(path: str) -> bool:
    """Say whether a resolved path is a directory itself, not a link to one."""
    info = find_status(path)
    return info is not None and stat.S_ISDIR(info.st_mode)


def remove(path: str) -> None:
    """Remove whatever is at a resolved path; nothing there is no error."""
    if is_directory(path):
        shutil.rmtree(path)
    elif find_status(path) is not None:
        os.unlink(path)


def remove_link(root: str, path: str) -> None:
    """Remove the first link on the way to `path`, its last part among them, so that nothing is followed."""
    at = root
    for part in reversed(_components(path)):
        at = f"{at}/{part}"
        if os.path.islink(at):
            os.unlink(at)
            return


def make_directories(path: str, *, mode: int = 0o755, owner: tuple[int, int] | None = None) -> bool:
    """Make a resolved path and what is missing above it; say whether it was missing itself.

    Raises:
        EditFailed: Something that is no directory is in the way.
    """
    if is_directory(path):
        return False
    missing = [path]
    while not is_directory(above := os.path.dirname(missing[-1])):
        missing.append(above)
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError as error:
            raise EditFailed("make directory", os.path.basename(directory), "not a directory") from error
        if owner is not None:
            os.chown(directory, *owner)
        os.chmod(directory, mode)
    return True


def find_owner(root: str, owner: str) -> tuple[int, int] | None:
    """Turn `uid`, `uid:gid`, `user` or `user:group` into numbers; None for "".

    Names are looked up in the tree's own `/etc/passwd` and `/etc/group`; a missing group is the number
    of the user.

    Raises:
        EditFailed: A name is not known there.
    """
    if not owner:
        return None
    user, _, group = owner.partition(":")
    uid = _find_id(root, user, "etc/passwd", "user")
    return uid, _find_id(root, group, "etc/group", "group") if group else uid


def _components(path: str) -> list[str]:
    """Return the components of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _find_id(root: str, name: str, table: str, what: str) -> int:
    if name.isascii() and name.isdigit() and int(name) <= _MAX_ID:
        return int(name)
    if name == "root":
        return 0
    for fields in _records(root, table):
        if fields[0] == name:
            return int(fields[2])
    raise EditFailed(f"find {what}", name, f"it is not in `/{table}`")


def _records(root: str, table: str) -> Iterator[list[str]]:
    try:
        with open(resolve(root, table), encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                fields = line.rstrip("\n").split(":")
                if len(fields) > 2 and fields[2].isdigit():
                    yield fields
    except FileNotFoundError:
        return
