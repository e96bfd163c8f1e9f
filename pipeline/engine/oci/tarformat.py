"""Headers of the tar format, written so that equal entries are equal bytes (POSIX.1-2001).

An extended header appears only where the plain one cannot say it. Names are bytes: what is no
UTF-8 is kept as it is, and said to be binary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
END: Final = b"\0" * (2 * BLOCK)

REGULAR: Final = b"0"
HARDLINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER_DEVICE: Final = b"3"
BLOCK_DEVICE: Final = b"4"
DIRECTORY: Final = b"5"
FIFO: Final = b"6"
_EXTENDED: Final = b"x"
_EXTENDED_NAME: Final = b"././@PaxHeader"
_NAME_LIMIT: Final = 100
_PREFIX_LIMIT: Final = 155
_OCTAL_7: Final = 8**7
_OCTAL_11: Final = 8**11


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; `name` has no leading `./`, and a trailing slash for a directory; times in whole seconds."""

    name: bytes
    kind: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    mtime_s: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


def encode_header(entry: Entry) -> bytes:
    """Return the header blocks of `entry`; its data, padded to whole blocks, is to follow."""
    prefix, name, fits = _split_name(entry.name)
    records = _records(entry, name_fits=fits)
    head = b""
    if records:
        body = b"".join(_record(key, value) for key, value in records)
        head = _block(_EXTENDED_NAME, _EXTENDED, size=len(body)) + body + padding(len(body))
    return head + _block(
        name,
        entry.kind,
        prefix=prefix,
        mode=entry.mode,
        uid=entry.uid if entry.uid < _OCTAL_7 else 0,
        gid=entry.gid if entry.gid < _OCTAL_7 else 0,
        size=entry.size_bytes if entry.size_bytes < _OCTAL_11 else 0,
        mtime=entry.mtime_s if 0 <= entry.mtime_s < _OCTAL_11 else 0,
        link=entry.link[:_NAME_LIMIT],
        device=entry.device,
    )


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill the last block after `size_bytes` of data."""
    return b"\0" * (-size_bytes % BLOCK)


def _records(entry: Entry, *, name_fits: bool) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    link_fits = len(entry.link) <= _NAME_LIMIT and entry.link.isascii()
    if not name_fits:
        found.append((b"path", entry.name))
    if not link_fits:
        found.append((b"linkpath", entry.link))
    if any(not _is_utf8(value) for _, value in found):
        found.insert(0, (b"hdrcharset", b"BINARY"))
    if entry.size_bytes >= _OCTAL_11:
        found.append((b"size", b"%d" % entry.size_bytes))
    if entry.uid >= _OCTAL_7:
        found.append((b"uid", b"%d" % entry.uid))
    if entry.gid >= _OCTAL_7:
        found.append((b"gid", b"%d" % entry.gid))
    if not 0 <= entry.mtime_s < _OCTAL_11:
        found.append((b"mtime", b"%d" % entry.mtime_s))
    found.extend((b"SCHILY.xattr." + name, value) for name, value in sorted(entry.xattrs))
    return found


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3  # a space, an equals sign and a line feed
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the number counts its own digits
    return b"%d %b=%b\n" % (length, key, value)


def _split_name(name: bytes) -> tuple[bytes, bytes, bool]:
    if name.isascii():
        if len(name) <= _NAME_LIMIT:
            return b"", name, True
        cut = name.find(b"/", len(name) - _NAME_LIMIT - 1)
        if 0 < cut <= _PREFIX_LIMIT and cut < len(name) - 1:
            return name[:cut], name[cut + 1 :], True
    return b"", name[:_NAME_LIMIT], False


def _block(
    name: bytes,
    kind: bytes,
    *,
    prefix: bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%b%bustar\x0000%b%07o\0%07o\0%b" % (
        kind,
        link.ljust(100, b"\0"),
        b"\0" * 64,
        *device,
        prefix.ljust(167, b"\0"),
    )
    checksum = sum(head) + sum(tail) + 8 * 0x20
    return b"%b%06o\0 %b" % (head, checksum, tail)
