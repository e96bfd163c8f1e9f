"""Packages of RPM distributions, read from the SQLite form of rpm's database.

The older forms (Berkeley DB, NDB) are told apart and not read.
"""

from __future__ import annotations

import sqlite3
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"SQLite format 3\0"
# Tags of an rpm header.
NAME, VERSION, RELEASE, EPOCH, LICENCE, ARCH, SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044
DIR_INDEXES, BASE_NAMES, DIR_NAMES = 1116, 1117, 1118
INT32, STRING, STRING_ARRAY, I18N_STRING = 4, 6, 8, 9
MOST_TAGS: Final = 10_000
MOST_FILES: Final = 1_000_000
NO_PACKAGE: Final = "gpg-pubkey"  # a key, listed as if it were a package


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One installed package, by tag."""

    index: dict[int, tuple[int, int, int]]  # tag to type, offset and count
    data: bytes

    def text(self, tag: int) -> str:
        """A string; "" where the tag is not there."""
        kind, offset, _ = self.index.get(tag, (0, 0, 0))
        if kind not in (STRING, STRING_ARRAY, I18N_STRING):
            return ""
        return self.data[offset : self.data.index(b"\0", offset)].decode("utf-8", "replace")

    def texts(self, tag: int) -> list[str]:
        """An array of strings."""
        kind, offset, count = self.index.get(tag, (0, 0, 0))
        if kind != STRING_ARRAY or count > MOST_FILES:
            return []
        return [
            one.decode("utf-8", "surrogateescape") for one in self.data[offset:].split(b"\0", count)[:count]
        ]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """An array of 32-bit numbers."""
        kind, offset, count = self.index.get(tag, (0, 0, 0))
        return (
            struct.unpack_from(f">{count}I", self.data, offset)
            if kind == INT32 and count < MOST_FILES
            else ()
        )


def read_rpm(path: str, data: bytes, ecosystem: str) -> list[Package]:
    """The packages of `rpmdb.sqlite`.

    Raises:
        LockBroken: It is damaged, or the database is of another form.
    """
    return [one for header in headers(path, data) if (one := _package(path, header, ecosystem)) is not None]


def headers(path: str, data: bytes) -> list[Header]:
    """The headers of all installed packages.

    Raises:
        LockBroken: The database cannot be read.
    """
    if not data.startswith(MAGIC):
        raise LockBroken(path, "only the SQLite form of rpm's database can be read")
    # Without its log a database in WAL mode cannot be opened from memory; rpm leaves nothing in the log.
    plain = data[:18] + b"\x01\x01" + data[20:]
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(plain)
        rows = connection.execute("SELECT blob FROM Packages ORDER BY hnum").fetchall()
    except (sqlite3.Error, OverflowError) as error:
        raise LockBroken(path, str(error)) from error
    finally:
        connection.close()
    with reading(path):
        return [_header(row[0]) for row in rows]


def _header(blob: bytes) -> Header:
    try:
        tags, size = struct.unpack_from(">II", blob)
        if tags > MOST_TAGS or 8 + 16 * tags + size > len(blob):
            raise ValueError("a header is cut off")
        rows = struct.iter_unpack(">IIII", blob[8 : 8 + 16 * tags])
        index = {tag: (kind, offset, count) for tag, kind, offset, count in rows}
    except struct.error as error:
        raise ValueError(str(error)) from error
    return Header(index=index, data=blob[8 + 16 * tags : 8 + 16 * tags + size])


def _package(path: str, header: Header, ecosystem: str) -> Package | None:
    with reading(path):
        name = header.text(NAME)
        if not name or name == NO_PACKAGE:
            return None
        try:
            epochs = header.numbers(EPOCH)
        except struct.error as error:
            raise LockBroken(path, str(error)) from error
        version = f"{epochs[0] if epochs else 0}:{header.text(VERSION)}-{header.text(RELEASE)}"
        return Package(
            name=name,
            version=version,
            ecosystem=ecosystem,
            path=path,
            architecture=header.text(ARCH),
            licence=header.text(LICENCE),
            is_installed=True,
        )


def read_rpm_files(path: str, data: bytes) -> Iterator[str]:
    """The files of all packages, as paths relative to the root.

    Raises:
        LockBroken: The database cannot be read.
    """
    for header in headers(path, data):
        folders = header.texts(DIR_NAMES)
        for at, name in zip(header.numbers(DIR_INDEXES), header.texts(BASE_NAMES), strict=False):
            if at < len(folders):
                yield (folders[at] + name).lstrip("/")
