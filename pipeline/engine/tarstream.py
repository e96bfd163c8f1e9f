"""Tar archives read once, front to back, in bounded memory: entries as the standard library parses them.

`tarfile` believes what a header says of itself, of sparse files and of the entries to come. Whoever reads
archives of strangers takes them from here; where entries may go is the reader's own business.
"""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from pipeline.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_BYTES: Final = 1 << 20
_HEADER_LIMIT_BYTES: Final = (
    1 << 20
)  # of one extended header; the kernel allows names of 4 KiB, attributes of 64
_HEADERS_LIMIT_BYTES: Final = 4 << 20  # of all headers of one entry, maps of sparse files too
_GLOBALS_LIMIT: Final = 256
_GLOBALS_LIMIT_BYTES: Final = 1 << 20
DEPTH_LIMIT: Final = 500
"""Of directories in each other: no image is so deep, and much deeper ones cannot be removed recursively."""

_SMALL_BYTES: Final = 4 << 30
_RATIO: Final = 200  # deflate makes no more than 1030 bytes of one, and of zeros alone


class TarRefused(Exception):
    """An archive is damaged or hostile; `what` completes a sentence about it, `entry` is "" or a name."""

    def __init__(self, what: str, *, entry: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.entry = entry


class Source(Protocol):
    """The archive without its compression."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end; raise `OSError` on damage."""


def size_limit(packed_bytes: int) -> int:
    """Return how long an archive of so many bytes, compressed or not, may be: 4 GiB, or 200 times as much."""
    return max(_SMALL_BYTES, _RATIO * packed_bytes)


class TarStream:
    """One archive; hashes all that passes. Every method but `tell` raises `TarRefused`."""

    def __init__(self, source: Source, *, limit_bytes: int) -> None:
        """Read from `source`, and at most `limit_bytes`, holes of sparse files counted."""
        self._source = source
        self._left = limit_bytes
        self._limit = limit_bytes
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._at = 0
        self._position = 0
        self._headers_bytes = 0  # since the last entry
        self._last_header = b""

    def entries(self) -> Iterator[tarfile.TarInfo]:
        """Give each entry's header; its content is read by `copy`, or passed over."""
        if not self.fill():
            return
        archive = self._open()
        while (info := self._next(archive)) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it would remember each entry
            self._headers_bytes = 0
            self._check(archive, info)
            yield info
        last = self._last_header
        if last.strip(b"\0") or len(last) not in (0, tarfile.BLOCKSIZE):
            raise TarRefused("its tar stream is damaged or cut off")

    def copy(self, info: tarfile.TarInfo, out: BinaryIO) -> None:
        """Write the content of the entry that was given last to `out`, a new file; holes stay holes."""
        self.seek(info.offset_data)
        if info.sparse is None:
            self._copy_piece(info.size, out)
            return
        end = 0
        for offset, size in cast("list[tuple[int, int]]", info.sparse):
            if size == 0:  # GNU's headers have room for four pieces, used or not
                continue
            if offset < end or size < 0 or offset + size > info.size:
                raise TarRefused("its map of a sparse file is damaged", entry=info.name)
            end = offset + size
            out.seek(offset)
            self._copy_piece(size, out)
        out.truncate(info.size)

    def fill(self) -> bool:
        """Make sure that there are bytes to be read; tell whether there are."""
        if self._at < len(self._buffer):
            return True
        try:
            self._buffer = self._source.read(_BLOCK_BYTES)
        except OSError as error:
            raise TarRefused(f"its compressed stream is damaged ({error})") from error
        self._at = 0
        self._spend(len(self._buffer))
        self._hash.update(self._buffer)
        return bool(self._buffer)

    def take(self, limit: int) -> bytes:
        """Return between one and `limit` bytes; none at the end."""
        if not self.fill():
            return b""
        data = self._buffer[self._at : self._at + limit]
        self._at += len(data)
        self._position += len(data)
        return data

    def read(self, size: int) -> bytes:
        """Read for `tarfile`: headers only."""
        if not 0 <= size <= _HEADER_LIMIT_BYTES:
            raise TarRefused(f"a header says that it is {size} bytes long")
        self._headers_bytes += size
        if self._headers_bytes > _HEADERS_LIMIT_BYTES:
            raise TarRefused("the headers of one entry are longer than any entry needs")
        data = self.take(size)
        while len(data) < size and (more := self.take(size - len(data))):
            data += more
        if size == tarfile.BLOCKSIZE:
            self._last_header = data
        return data

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip forward to `position`, or to the end when that comes first."""
        if position < self._position:
            raise TarRefused("its headers lead backwards")
        while self._position < position and self.take(position - self._position):
            pass
        return self._position

    def drain(self) -> Digest:
        """Read to the end and return the digest of everything."""
        while self.take(_BLOCK_BYTES):
            pass
        return Digest("sha256:" + self._hash.hexdigest())

    def _open(self) -> tarfile.TarFile:
        try:
            return tarfile.TarFile(
                fileobj=self,  # type: ignore[arg-type]
                encoding="utf-8",
                errors="surrogateescape",
            )
        except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
            raise TarRefused(f"it is no tar stream ({error})") from error

    def _next(self, archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        try:
            return archive.next()
        except (tarfile.TarError, RecursionError, ValueError, OverflowError) as error:
            raise TarRefused(f"its tar stream is damaged ({error})") from error

    def _check(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Refuse what no archive needs and what later code could not bear."""
        if info.size < 0:
            raise TarRefused("its size is negative", entry=info.name)
        if "\0" in info.name or "\0" in info.linkname:
            raise TarRefused("there is a zero byte in its name", entry=info.name.replace("\0", "\\0"))
        if info.sparse is not None:
            self._spend(info.size)
        shared = archive.pax_headers
        if len(shared) > _GLOBALS_LIMIT or sum(map(len, shared.values())) > _GLOBALS_LIMIT_BYTES:
            raise TarRefused("its global headers are longer than any archive needs")

    def _spend(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left < 0:
            raise TarRefused(f"it unpacks to more than {self._limit} bytes")

    def _copy_piece(self, left: int, out: BinaryIO) -> None:
        while left:
            data = self.take(left)
            if not data:
                raise TarRefused("its tar stream is cut off")
            left -= len(data)
            view = memoryview(data)
            while view:
                view = view[out.write(view) :]
