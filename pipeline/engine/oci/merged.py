"""Looking into stacked overlay directories without mounting them.

A merged directory is named by the real directories that show through in it, top first. Every
step is taken by name inside one real directory and never follows a symbolic link, so that what
is in an image cannot lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WHITEOUT_DEVICE: Final = os.makedev(0, 0)
OPAQUE: Final = "trusted.overlay.opaque"
_OPAQUE_UNPRIVILEGED: Final = "user.overlay.opaque"
_OVERLAY_PREFIXES: Final = ("trusted.overlay.", "user.overlay.")
# What an image carries; labels of this machine's security modules stay behind.
_KEPT_PREFIXES: Final = ("user.", "system.posix_acl_")
_KEPT: Final = frozenset({"security.capability"})
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.ENODATA})


def is_whiteout(info: os.stat_result) -> bool:
    """Tell whether an entry of an overlay directory stands for a removed name."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == WHITEOUT_DEVICE


def is_opaque(directory: bytes) -> bool:
    """Tell whether a real directory hides everything below it."""
    for name in (OPAQUE, _OPAQUE_UNPRIVILEGED):
        try:
            if os.getxattr(directory, name, follow_symlinks=False) == b"y":
                return True
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
    return False


def make_opaque(directory: bytes) -> None:
    """Make a real directory hide everything below it."""
    try:
        os.setxattr(directory, OPAQUE, b"y", follow_symlinks=False)
    except PermissionError:  # in a user namespace overlays use the other name
        os.setxattr(directory, _OPAQUE_UNPRIVILEGED, b"y", follow_symlinks=False)


def find_entry(path: bytes) -> os.stat_result | None:
    """Return what is at `path` itself, whiteouts too; None when nothing is."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def find_below(lowers: Sequence[bytes], name: bytes) -> tuple[os.stat_result, bytes] | None:
    """Return what `name` is in the merged directory `lowers`, and where; None when it is not there."""
    for directory in lowers:
        path = directory + b"/" + name
        info = find_entry(path)
        if info is not None:
            return None if is_whiteout(info) else (info, path)
    return None


def directories_below(lowers: Sequence[bytes], name: bytes) -> tuple[bytes, ...]:
    """Return the merged directory `name` of the merged directory `lowers`; empty when it is none."""
    found: list[bytes] = []
    for directory in lowers:
        path = directory + b"/" + name
        info = find_entry(path)
        if info is None:
            continue
        if not stat.S_ISDIR(info.st_mode):
            break  # a whiteout or a file ends what shows through
        found.append(path)
        if is_opaque(path):
            break
    return tuple(found)


def read_xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the extended attributes that belong to an image, sorted by name."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    kept = sorted(name for name in names if belongs_to_image(name))
    return tuple((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in kept)


def belongs_to_image(name: str) -> bool:
    """Tell whether an extended attribute is a part of an image; what overlayfs keeps for itself is not."""
    if name.startswith(_OVERLAY_PREFIXES):
        return False
    return name in _KEPT or name.startswith(_KEPT_PREFIXES)
