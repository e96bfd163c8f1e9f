"""The message that tells the launcher what to run; `launcher.c` reads it field by field.

Integers are 32 bit little-endian; a text is its length in bytes, the bytes, and a zero; a list is its
length and its elements.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, assert_never

from pipeline.engine.runtime.spec import BindMount, FileMount, OverlayMount, TmpfsMount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.engine.runtime.spec import ExecSpec, Mounted, Overlay

_MAGIC: Final = 0x324E4C50
_INIT: Final = 1
_INSECURE: Final = 2
_HOST_NETWORK: Final = 4
_HANDSHAKE: Final = 8
_JOIN: Final = 16
_NODEV: Final = 32


def encode(spec: ExecSpec, *, engine_pid: int, handshake: bool, join: bool = False) -> bytes:
    """Return the message for `spec`.

    Raises:
        ValueError: A text holds a zero byte.
    """
    flags = (
        _INIT * spec.init
        | _INSECURE * spec.insecure
        | _HOST_NETWORK * spec.host_network
        | _HANDSHAKE * handshake
        | _JOIN * join
        | _NODEV * (not spec.devices_are_guarded and not spec.insecure)
    )
    parts: list[bytes] = []
    _numbers(parts, _MAGIC, flags, engine_pid, spec.uid, spec.gid, len(spec.groups), *spec.groups)
    _text(parts, spec.hostname)
    _text(parts, spec.cwd or "/")
    _text(parts, os.fspath(spec.network_namespace) if spec.network_namespace else "")
    for path in (spec.redirect_stdin, spec.redirect_stdout, spec.redirect_stderr):
        _text(parts, path)
    _texts(parts, [os.fspath(cgroup) for cgroup in spec.cgroups])
    _overlay(parts, spec.rootfs)
    _numbers(parts, len(spec.mounts))
    for mount in spec.mounts:
        _mount(parts, mount)
    _texts(parts, spec.argv)
    _texts(parts, [f"{name}={value}" for name, value in spec.env])
    return b"".join(parts)


def _numbers(parts: list[bytes], *numbers: int) -> None:
    parts.append(struct.pack(f"<{len(numbers)}I", *numbers))


def _bytes(parts: list[bytes], content: bytes) -> None:
    parts += (struct.pack("<I", len(content)), content, b"\0")


def _text(parts: list[bytes], text: str) -> None:
    raw = os.fsencode(text)
    if b"\0" in raw:
        raise ValueError("a path, argument or variable holds a zero byte")
    _bytes(parts, raw)


def _texts(parts: list[bytes], texts: Iterable[str]) -> None:
    listed = list(texts)
    _numbers(parts, len(listed))
    for text in listed:
        _text(parts, text)


def _overlay(parts: list[bytes], overlay: Overlay) -> None:
    _texts(parts, [os.fspath(lower) for lower in overlay.lowers])
    _text(parts, os.fspath(overlay.upper) if overlay.upper else "")
    _text(parts, os.fspath(overlay.work) if overlay.work else "")


def _mount(parts: list[bytes], mount: Mounted) -> None:
    match mount:
        case OverlayMount():
            _head(parts, 1, mount.target, read_only=mount.read_only)
            _text(parts, mount.source_path)
            _overlay(parts, mount.overlay)
        case BindMount():
            _head(parts, 2, mount.target, read_only=mount.read_only)
            _text(parts, os.fspath(mount.source))
        case TmpfsMount():
            _head(parts, 3, mount.target, read_only=False)
            _numbers(parts, mount.mode)
            size = f",size={mount.size_bytes}" if mount.size_bytes else ""
            _text(parts, f"mode={mount.mode:o}{size}")
        case FileMount():
            _head(parts, 4, mount.target, read_only=True)
            _numbers(parts, mount.mode, mount.uid, mount.gid)
            _bytes(parts, mount.content)
        case _:
            assert_never(mount)


def _head(parts: list[bytes], kind: int, target: str, *, read_only: bool) -> None:
    _numbers(parts, kind)
    _text(parts, target)
    _numbers(parts, int(read_only))
