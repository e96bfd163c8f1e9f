"""Layer blobs as streams: reading any known compression, writing a fixed one.

Equal input must give equal bytes on every machine, or digests of images would depend on where they were
made. So the implementations are the ones that the lock file pins (never the system's zlib), the
levels are constants, and data reaches the compressor in blocks of one size.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from pipeline.digest import Digest
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.model import LayerBlob, oci_layer_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.oci.model import Compression

BLOCK_BYTES: Final = 1 << 20
_GZIP_LEVEL: Final = 2  # 416 MB/s where zlib's level 6 does 24, for a tenth more bytes
_ZSTD_LEVEL: Final = 3
_ZSTD_WINDOW_BYTES: Final = 1 << 27  # what other tools accept; more would let a blob claim our memory
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_REFUSED: Final = {b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
# Deflate, no flags, no time, no extra flags, system unknown: nothing that could differ.
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Sink(Protocol):
    """Takes bytes: an open file, or a writer of the store."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Gzip:
    """Raw deflate in a gzip frame of our own, so that its header is ours to fix."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._deflate = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, -15)
        self._crc32 = isal_zlib.crc32
        self._crc = 0
        self._size = 0
        self._header = _GZIP_HEADER

    def compress(self, data: bytes, /) -> bytes:
        self._crc = self._crc32(data, self._crc)
        self._size += len(data)
        header, self._header = self._header, b""
        return header + self._deflate.compress(data)

    def flush(self) -> bytes:
        trailer = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._header + self._deflate.flush() + trailer


class LayerSink:
    """Takes the tar stream of a layer, writes its blob to `out` and computes both digests."""

    def __init__(self, out: Sink, compression: Compression) -> None:
        self._out = out
        self._media_type = oci_layer_type(compression)
        self._compressor = _compressor(compression)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._size = 0
        self._block = bytearray()

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes of the tar stream."""
        self._block += data
        while len(self._block) >= BLOCK_BYTES:
            block = bytes(self._block[:BLOCK_BYTES])
            del self._block[:BLOCK_BYTES]
            self._plain.update(block)
            self._emit(self._compressor.compress(block))

    def finish(self) -> LayerBlob:
        """Write what is left and describe the blob; to be called once."""
        rest = bytes(self._block)
        self._block.clear()
        self._plain.update(rest)
        self._emit(self._compressor.compress(rest) + self._compressor.flush())
        return LayerBlob(
            diff_id=Digest("sha256:" + self._plain.hexdigest()),
            digest=Digest("sha256:" + self._packed.hexdigest()),
            size_bytes=self._size,
            media_type=self._media_type,
        )

    def _emit(self, data: bytes) -> None:
        if data:
            self._packed.update(data)
            self._size += len(data)
            self._out.write(data)


def sniff_compression(head: bytes) -> Compression:
    """Tell the compression by a blob's first bytes.

    Raises:
        LayerRejected: It is one that layers must not have.
    """
    if head.startswith(_GZIP_MAGIC):
        return "Gzip"
    if head.startswith(_ZSTD_MAGIC) or (
        head[1:4] == b"\x2a\x4d\x18" and head[:1] and 0x50 <= head[0] <= 0x5F
    ):
        return "Zstd"  # a skippable frame may come first, as zstd:chunked writes it
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise LayerRejected(f"its compression, {name}, is not one for layers")
    return "Uncompressed"


@contextmanager
def open_layer(blob: Path) -> Iterator[BinaryIO]:
    """Lend the uncompressed stream of a layer blob; its `read` raises `OSError` on damage.

    Raises:
        LayerRejected: The compression is unknown.
        OSError: The file cannot be read.
    """
    with open(blob, "rb") as raw:
        compression = sniff_compression(raw.read(8))
        raw.seek(0)
        with decompressed(raw, compression) as stream:
            yield stream


@contextmanager
def decompressed(raw: BinaryIO, compression: Compression) -> Iterator[BinaryIO]:
    """Lend the uncompressed form of `raw`, which stays the caller's to close."""
    if compression == "Gzip":
        from isal import igzip, igzip_lib

        with igzip.IGzipFile(fileobj=raw, mode="rb") as stream:  # type: ignore[no-untyped-call]
            yield _Translated(cast("BinaryIO", stream), (cast("type[Exception]", igzip_lib.error), EOFError))
    elif compression == "Zstd":
        import zstandard

        engine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
        with engine.stream_reader(raw, read_across_frames=True, closefd=False) as reader:
            yield _Translated(cast("BinaryIO", reader), (zstandard.ZstdError,))
    else:
        yield raw


class _Translated(io.RawIOBase, BinaryIO):
    """One error type for all damage, so that readers need not know which compression it is."""

    def __init__(self, stream: BinaryIO, errors: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._errors = errors

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._errors as error:
            raise OSError(str(error)) from error


def _compressor(compression: Compression) -> _Compressor:
    if compression == "Gzip":
        return _Gzip()
    if compression == "Zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=False).compressobj()
    return _Plain()
