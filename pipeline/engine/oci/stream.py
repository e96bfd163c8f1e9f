"""An uncompressed tar stream as `tarfile` reads it: forward only, hashed, its headers of bounded size."""

from __future__ import annotations

import hashlib
import tarfile
from typing import BinaryIO, Final

from pipeline.digest import Digest
from pipeline.engine.oci.compress import BLOCK_BYTES
from pipeline.engine.oci.errors import LayerRejected

METADATA_LIMIT_BYTES: Final = 1 << 20
"""Of one extended header; the kernel allows names and attributes of 64 KiB."""


class DamagedStream(Exception):
    """The compressed stream cannot be read further."""

    def __init__(self, error: Exception) -> None:
        self.what = f"its compressed stream is damaged ({error})"
        super().__init__(self.what)


class LayerReader:
    """The uncompressed stream for `tarfile`, which only ever goes forward in it; hashes all that passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._at = 0
        self._position = 0
        self.last_header = b""

    def fill(self) -> bool:
        """Make sure that there are bytes to be read; tell whether there are."""
        if self._at < len(self._buffer):
            return True
        try:
            self._buffer = self._stream.read(BLOCK_BYTES)
        except OSError as error:
            raise DamagedStream(error) from error
        self._at = 0
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
        if not 0 <= size <= METADATA_LIMIT_BYTES:
            raise LayerRejected(f"a header says that it is {size} bytes long")
        data = self.take(size)
        while len(data) < size and (more := self.take(size - len(data))):
            data += more
        if size == tarfile.BLOCKSIZE:
            self.last_header = data
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        """Skip forward to `position`, or to the end when that comes first."""
        if position < self._position:
            raise LayerRejected("its headers lead backwards")
        while self._position < position and self.take(position - self._position):
            pass
        return self._position

    def drain(self) -> Digest:
        """Read to the end and return the digest of everything."""
        while self.take(BLOCK_BYTES):
            pass
        return Digest("sha256:" + self._hash.hexdigest())
