"""Blobs: files named by the digest of what is in them."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.digest import Digest, digest_bytes, digest_file
from pipeline.engine.store.values import BlobCorrupt, BlobNotFound, using_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase
    from pathlib import Path

    from pipeline.engine.store.database import Database
    from pipeline.engine.store.uses import Uses


class BlobWriter:
    """Takes a blob's bytes; `digest` is set once the writer's block has ended well."""

    def __init__(self, stream: RawIOBase, root: Path) -> None:
        self._stream = stream
        self._root = root
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        self.digest: Digest | None = None

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            StoreUnusable: The disk is full or cannot be written.
        """
        with using_disk(self._root):
            rest = memoryview(data)
            while rest:
                rest = rest[self._stream.write(rest) or 0 :]
        self._hash.update(data)
        self.size_bytes += len(data)

    def so_far(self) -> Digest:
        """Return the digest of what was written up to now."""
        return Digest("sha256:" + self._hash.hexdigest())


class Blobs:
    """The blobs of one store."""

    def __init__(self, root: Path, database: Database, uses: Uses, owner: int) -> None:
        self._root = root
        self._folder = root / "blobs" / "sha256"
        self._temporary = root / "blobs" / "new"
        self._database = database
        self._uses = uses
        self._owner = owner
        self._numbers = itertools.count()

    def path(self, digest: Digest) -> Path:
        """Return the file of a blob; it stays as long as this engine lives.

        Raises:
            BlobNotFound: It is not in the store.
        """
        if not self.has(digest):
            raise BlobNotFound(digest)
        return self._file(digest)

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is there; one that is stays as long as this engine lives."""
        if not self._uses.touch("blobs", digest):
            return False
        if self._file(digest).exists():
            return True
        self.delete(digest)
        return False

    def read(self, digest: Digest) -> bytes:
        """Return a blob's bytes, verified; one that is damaged is removed.

        Raises:
            BlobNotFound: It is not in the store.
            BlobCorrupt: Its content is not what its name says.
        """
        data = self.path(digest).read_bytes()
        actual = digest_bytes(data)
        if actual != digest:
            self.delete(digest)
            raise BlobCorrupt(digest, actual)
        return data

    def put_bytes(self, data: bytes) -> Digest:
        """Keep `data` and return its digest.

        It is not flushed on its own: until the store's next `flush` a crash of the machine may lose
        it, and then it is forgotten, never read as something else.

        Raises:
            StoreUnusable: The disk is full or cannot be written.
        """
        digest = digest_bytes(data)
        if self.has(digest):
            return digest
        temporary = self._new_file()
        try:
            with using_disk(self._root):
                temporary.write_bytes(data)
            self._keep(temporary, digest, len(data), durable=False)
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    @contextmanager
    def writer(self, expected: Digest | None = None) -> Iterator[BlobWriter]:
        """Write a blob piece by piece; it is kept when the block ends well, flushed to the disk.

        Raises:
            BlobCorrupt: What was written is not `expected`; nothing is kept.
            StoreUnusable: The disk is full or cannot be written.
        """
        temporary = self._new_file()
        try:
            # Unbuffered: what cannot be written is told by the write that fails, not by the close.
            with open(temporary, "wb", buffering=0) as stream:
                writer = BlobWriter(stream, self._root)
                yield writer
                os.fsync(stream.fileno())
            digest = writer.so_far()
            if expected is not None and digest != expected:
                raise BlobCorrupt(expected, digest)
            self._keep(temporary, digest, writer.size_bytes, durable=True)
            writer.digest = digest
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, path: Path, digest: Digest) -> Path:
        """Take the file at `path` into the store as the blob `digest`, and return where it is now.

        Raises:
            BlobCorrupt: The file has another digest; it stays where it is.
            OSError: It cannot be read.
        """
        actual = digest_file(path)
        if actual != digest:
            raise BlobCorrupt(digest, actual)
        temporary = self._new_file()
        try:
            shutil.move(path, temporary)
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
                size = os.fstat(stream.fileno()).st_size
            self._keep(temporary, digest, size, durable=True)
        finally:
            temporary.unlink(missing_ok=True)
        return self._file(digest)

    def delete(self, digest: Digest) -> None:
        """Forget a blob; a missing one is no error."""
        self._database.write("DELETE FROM blobs WHERE digest = ?", (digest,))
        self._uses.forget("blobs", digest)
        self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: Digest) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _new_file(self) -> Path:
        return self._temporary / f"{self._owner}-{next(self._numbers)}"

    def _keep(self, temporary: Path, digest: Digest, size_bytes: int, *, durable: bool) -> None:
        # Renamed inside the transaction: the sweeper, which needs the same lock, never sees the
        # file without its row.
        with self._database.writing() as connection:
            os.rename(temporary, self._file(digest))
            if durable:
                _sync_folder(self._folder)
            connection.execute(
                "INSERT OR REPLACE INTO blobs (digest, size_bytes, boot, durable, used_by, last_used)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (digest, size_bytes, self._uses.boot, int(durable), *self._uses.stamp()),
            )
        self._uses.made("blobs", digest)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
