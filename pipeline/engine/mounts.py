"""Mounts made by system call: overlays, binds and a private mount namespace, without any subprocess.

What is mounted where is the caller's business; the store and the runners call this.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
from typing import TYPE_CHECKING, Final

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_CLONE_NEWNS: Final = 0x00020000
_MS_RDONLY: Final = 0x1
_MS_REMOUNT: Final = 0x20
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 0x2
_UMOUNT_NOFOLLOW: Final = 0x8

# The numbers of the mount API of Linux 5.2 and later; they are the same on every architecture.
_SYS_MOVE_MOUNT: Final = 429
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_SYS_MOUNT_SETATTR: Final = 442
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
_MOUNT_ATTR_RDONLY: Final = 0x1
_AT_FDCWD: Final = -100

_OPTION_PAGE_BYTES: Final = 4095
_FSCONFIG_VALUE_BYTES: Final = 255
_SEPARATORS: Final = frozenset(",:\\")

# The upper directory has to stand on its own: it becomes a layer.
_OPTIONS: Final = {"redirect_dir": "off", "metacopy": "off", "index": "off", "xino": "off"}


class MountFailed(EngineError):
    """The kernel refused a mount, an unmount or a namespace."""

    def __init__(self, act: str, thing: str, code: int) -> None:
        super().__init__(f"cannot {act} `{thing}`: {os.strerror(code).lower()}")
        self.code = code
        if code == errno.EPERM:
            self.hint = "run as root, or allow unprivileged user namespaces"


@functools.cache
def enter_private_mount_namespace() -> None:
    """Give this process mounts of its own, that vanish with it; a second call does nothing.

    Has to be called before the first thread is started: threads keep the namespace they began in.

    Raises:
        MountFailed: The process may not make a mount namespace.
    """
    libc = _libc()
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise MountFailed("make", "a private mount namespace", ctypes.get_errno())
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE, None, act="make private")


def mount_overlay(
    target: Path,
    lowers: Sequence[Path],
    upper: Path | None = None,
    work: Path | None = None,
    *,
    volatile: bool = True,
) -> None:
    """Mount an overlay of `lowers` (top first) at `target`, read-only without `upper` and `work`.

    `volatile` leaves out the flush of the whole file system that an unmount would wait for, so `work`
    has to be empty at each mount.

    Raises:
        MountFailed: The kernel refused it.
        ValueError: `lowers` is empty, or only one of `upper` and `work` is given.
    """
    if not lowers or (upper is None) != (work is None):
        raise ValueError("an overlay needs lowers, and upper and work together")
    options = dict(_OPTIONS)
    flags = []
    if is_user_namespace():
        options["redirect_dir"] = "nofollow"  # the one spelling of "off" that goes with `userxattr`
        flags = ["userxattr"]
    layers = [os.fspath(lower) for lower in lowers]
    if upper is None and len(layers) == 1:
        bind(lowers[0], target, read_only=True)
        return
    if upper is not None and work is not None:
        options |= {"upperdir": os.fspath(upper), "workdir": os.fspath(work)}
        flags += ["volatile"] if volatile else []
    with _ShortNames() as short:
        if not _mount_by_steps(target, layers, options, flags, short):
            _mount_by_page(target, layers, options, flags, short)


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    """Show `source` at `target` as well.

    Raises:
        MountFailed: The kernel refused it.
    """
    _mount(os.fspath(source), os.fspath(target), None, _MS_BIND, None)
    if read_only and not _made_read_only(os.fsencode(target)):
        _mount("none", os.fspath(target), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, None)


def unmount(target: Path) -> None:
    """Take the mount at `target` away; a busy one is detached and goes when its last user does.

    Raises:
        MountFailed: Nothing is mounted there, or the kernel refused.
    """
    path = os.fsencode(target)
    for flags in (_UMOUNT_NOFOLLOW, _UMOUNT_NOFOLLOW | _MNT_DETACH):
        if _libc().umount2(path, flags) == 0:
            return
        code = ctypes.get_errno()
        if code != errno.EBUSY:
            raise MountFailed("unmount", os.fspath(target), code)
    raise MountFailed("unmount", os.fspath(target), errno.EBUSY)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_ulong,
        ctypes.c_char_p,
    ]
    libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    libc.syscall.restype = ctypes.c_long
    return libc


@functools.cache
def is_user_namespace() -> bool:
    """Say whether ids are mapped: then `trusted.` attributes are out of reach, and overlays use `user.`."""
    with open("/proc/self/uid_map") as table:
        return table.read().split() != ["0", "0", "4294967295"]


def _mount(
    source: str, target: str, kind: str | None, flags: int, options: str | None, *, act: str = "mount"
) -> None:
    def raw(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    if _libc().mount(raw(source), raw(target), raw(kind), flags, raw(options)) != 0:
        raise MountFailed(act, target, ctypes.get_errno())


def _made_read_only(path: bytes) -> bool:
    """Add the one attribute and keep the others, some of which are locked in a user namespace."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    answer = _libc().syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, 0, attributes, len(attributes))
    return bool(answer == 0)


class _ShortNames:
    """Short names of directories, good while the `with` block lasts: `/proc/self/fd/<n>`."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __enter__(self) -> _ShortNames:
        return self

    def __exit__(self, *_error: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def of(self, path: str) -> str:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._descriptors.append(descriptor)
        return f"/proc/self/fd/{descriptor}"

    def fitting(self, path: str) -> str:
        """Return `path`, or a short name when it is too long or holds a separator."""
        plain = len(os.fsencode(path)) <= _FSCONFIG_VALUE_BYTES and not _SEPARATORS & set(path)
        return path if plain else self.of(path)


def _mount_by_steps(
    target: Path, layers: list[str], options: dict[str, str], flags: list[str], short: _ShortNames
) -> bool:
    """Mount through the API of Linux 6.7, which takes one layer at a time; False where it is missing."""
    libc = _libc()
    context = libc.syscall(_SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC)
    if context < 0:
        return False
    try:
        settings = [("lowerdir+", layer) for layer in layers] + list(options.items())
        if not all(_set(context, name, short.fitting(value)) for name, value in settings):
            return False
        if not all(_set(context, flag, None) for flag in flags):
            return False
        mounted = _create(context, target, read_only="upperdir" not in options)
    finally:
        os.close(context)
    try:
        path = os.fsencode(target)
        if libc.syscall(_SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, path, _MOVE_MOUNT_F_EMPTY_PATH) != 0:
            raise MountFailed("mount", os.fspath(target), ctypes.get_errno())
    finally:
        os.close(mounted)
    return True


def _set(context: int, name: str, value: str | None) -> bool:
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    raw = None if value is None else os.fsencode(value)
    return bool(_libc().syscall(_SYS_FSCONFIG, context, command, name.encode(), raw, 0) == 0)


def _create(context: int, target: Path, *, read_only: bool) -> int:
    """Return a descriptor of the mount that `context` describes, not attached anywhere yet."""
    libc = _libc()
    if libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) != 0:
        raise MountFailed("mount", os.fspath(target), ctypes.get_errno())
    attributes = _MOUNT_ATTR_RDONLY if read_only else 0
    mounted = int(libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes))
    if mounted < 0:
        raise MountFailed("mount", os.fspath(target), ctypes.get_errno())
    return mounted


def _mount_by_page(
    target: Path, layers: list[str], options: dict[str, str], flags: list[str], short: _ShortNames
) -> None:
    """Mount through mount(2), whose options have to fit into one page."""

    def text(names: list[str]) -> str:
        settings = [f"lowerdir={':'.join(names)}", *(f"{key}={fit(value)}" for key, value in options.items())]
        return ",".join(settings + flags)

    fit = short.fitting
    page = text([fit(layer) for layer in layers])
    if len(os.fsencode(page)) > _OPTION_PAGE_BYTES:
        page = text([short.of(layer) for layer in layers])
    read_only = 0 if "upperdir" in options else _MS_RDONLY
    _mount("overlay", os.fspath(target), "overlay", read_only, page)
