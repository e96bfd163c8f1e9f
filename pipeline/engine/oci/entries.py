"""One entry of a layer: what its name and its header say, and its attributes on the disk.

Where an entry goes is decided in `unpack`.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from typing import TYPE_CHECKING, Final

from pipeline.engine.mounts import is_user_namespace
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.merged import WHITEOUT_DEVICE, belongs_to_image, read_xattrs

if TYPE_CHECKING:
    import tarfile

_DEVICE_LIMITS: Final = (1 << 12, 1 << 20)  # what Linux can hold of a major and a minor number

_log = logging.getLogger(__name__)


def parts_of(name: bytes) -> list[bytes]:
    """Return the names of a path from the image's root down.

    Raises:
        LayerRejected: It climbs above the root.
    """
    found: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not found:
                raise LayerRejected("its name climbs out of the image", entry=os.fsdecode(name))
            found.pop()
        elif part not in (b"", b"."):
            found.append(part)
    return found


def device_of(info: tarfile.TarInfo) -> int:
    """Return the number of a device.

    Raises:
        LayerRejected: Linux cannot hold it.
    """
    numbers = (info.devmajor, info.devminor)
    if not all(0 <= number < limit for number, limit in zip(numbers, _DEVICE_LIMITS, strict=True)):
        raise LayerRejected("its device number is out of range")
    return os.makedev(*numbers)


def is_forbidden(info: tarfile.TarInfo) -> bool:
    """Tell whether an entry is a device that nobody may make in a user namespace, where none would open."""
    if not (info.ischr() or info.isblk()):
        return False
    is_whiteout_device = info.ischr() and device_of(info) == WHITEOUT_DEVICE
    return not is_whiteout_device and is_user_namespace()


def copy_attributes(source: bytes, target: bytes) -> None:
    """Give `target` the owner, mode and extended attributes of `source`, times aside."""
    info = os.lstat(source)
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(target, stat.S_IMODE(info.st_mode))
    for name, value in read_xattrs(source):
        os.setxattr(target, name, value, follow_symlinks=False)


def copy_up(info: os.stat_result, source: bytes, path: bytes) -> None:
    """Copy a file of a layer below, so that a hard link to it can be made.

    Raises:
        LayerRejected: It is a directory.
    """
    if stat.S_ISDIR(info.st_mode):
        raise LayerRejected("it links to a directory")
    if stat.S_ISREG(info.st_mode):
        shutil.copyfile(source, path, follow_symlinks=False)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(source), path)
    else:
        os.mknod(path, info.st_mode, info.st_rdev)
    copy_attributes(source, path)
    os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns), follow_symlinks=False)


def set_xattr(path: bytes, name: str, value: str) -> None:
    """Set an extended attribute, if it is the image's and the file system has any."""
    if not belongs_to_image(name):
        return
    try:
        os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        _log.warning("the file system cannot keep the attribute %s of %s", name, os.fsdecode(path))
