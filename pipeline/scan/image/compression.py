"""The content of a layer's blob as a stream, whatever it is packed with, bit by bit."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, Protocol

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

CHUNK: Final = 256 * 1024
UNPACKED: Final = 1024 * 1024  # bytes at a time
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
WINDOW: Final = 128 * 1024**2  # the most memory a zstd frame may ask for


class BlobBroken(PipelineError):
    """A blob cannot be unpacked."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot unpack the layer: {why}")
        self.why = why


class Source(Protocol):
    """Where packed bytes come from."""

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at the end."""

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay the next ones."""


class _Stream(io.RawIOBase):
    """Reads what an iterator gives, and tells how much that was."""

    def __init__(self, chunks: Iterator[bytes], tell: Callable[[int], None]) -> None:
        self._chunks = chunks
        self._left: memoryview = memoryview(b"")
        self._tell = tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._tell(len(chunk))
            self._left = memoryview(chunk)
        size = min(len(target), len(self._left))
        target[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def unpacked(blob: Source, tell: Callable[[int], None]) -> io.BufferedReader:
    """The content of a blob: gzip, zstd or plain, as its first bytes say.

    Args:
        tell: Is told of bytes as they are unpacked, before they can be read; what it raises ends the reading.

    Raises:
        BlobBroken: While reading: the blob is damaged or ends too early.
    """
    head = blob.peek(4)
    if head.startswith(GZIP):
        chunks = _gzip(blob)
    elif head == ZSTD:
        chunks = _zstd(blob)
    else:
        chunks = iter(lambda: blob.read(UNPACKED), b"")
    return io.BufferedReader(_Stream(chunks, tell), UNPACKED)


def _gzip(blob: Source) -> Iterator[bytes]:
    """Members one after another; a step gives no more than `UNPACKED` bytes, however small the blob is."""
    from isal import isal_zlib
    from isal.igzip_lib import IsalError

    unpack = isal_zlib.decompressobj(wbits=31)
    rest = blob.read(CHUNK)
    while True:
        try:
            data = unpack.decompress(rest, UNPACKED)
        except IsalError as error:  # type: ignore[misc]
            raise BlobBroken(str(error)) from error
        if data:
            yield data
        if unpack.eof:
            rest = unpack.unused_data or blob.read(CHUNK)
            if not rest.startswith(GZIP):  # the end, or zeros that pad the blob
                return
            unpack = isal_zlib.decompressobj(wbits=31)
            continue
        rest = unpack.unconsumed_tail
        if not rest and len(data) < UNPACKED:
            rest = blob.read(CHUNK)
            if not rest:
                raise BlobBroken("it ends too early")


def _zstd(blob: Source) -> Iterator[bytes]:
    import zstandard

    unpack = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    try:
        reader = unpack.stream_reader(blob, read_across_frames=True, closefd=False)  # type: ignore[arg-type]
        with reader:
            while data := reader.read(UNPACKED):
                yield data
    except zstandard.ZstdError as error:
        raise BlobBroken(str(error)) from error
