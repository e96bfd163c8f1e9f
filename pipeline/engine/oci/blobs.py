"""Downloading one blob into the store: in pieces, resumed where it broke off, verified as a whole."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from pipeline.engine.oci.errors import RegistryUnreachable
from pipeline.engine.oci.transport import CallFailed
from pipeline.engine.store.values import BlobCorrupt

if TYPE_CHECKING:
    import httpx

    from pipeline.engine.oci.model import Descriptor
    from pipeline.engine.oci.transport import Call, Transport
    from pipeline.engine.store import Blobs, BlobWriter

_BREAKS: Final = 5  # in a row, with little or nothing in between
_PROGRESS_BYTES: Final = 1 << 16
_SLOWEST_BYTES_PER_S: Final = 1000
_BATCH_BYTES: Final = 1 << 20


async def download(transport: Transport, call: Call, descriptor: Descriptor, blobs: Blobs) -> None:
    """Fetch what `call` asks for into `blobs`, as the blob that `descriptor` says.

    Raises:
        CallFailed: The registry refused, or sent more or other bytes than it should.
        RegistryUnreachable: The connection broke too often.
    """
    with ExitStack() as stack:
        writer = stack.enter_context(blobs.writer(descriptor.digest))
        breaks = 0
        while True:
            before = writer.size_bytes
            try:
                await _download_rest(transport, call, descriptor, writer)
            except _BrokenOff as error:
                breaks = breaks + 1 if writer.size_bytes - before < _PROGRESS_BYTES else 1
                if breaks >= _BREAKS:
                    raise RegistryUnreachable(call.host, error.what) from error
                await transport.pause(breaks)
                continue
            break
        ending = stack.pop_all()
        try:
            # The flush to the disk that comes with it can take seconds.
            await anyio.to_thread.run_sync(ending.close)
        except BlobCorrupt as error:
            raise CallFailed(
                f"the content of its blob {descriptor.digest} has another digest", 0, call.host
            ) from error


class _BrokenOff(Exception):
    """The body ended early."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


async def _download_rest(
    transport: Transport, call: Call, descriptor: Descriptor, writer: BlobWriter
) -> None:
    start = writer.size_bytes
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        response = await transport.send(replace(call, headers=headers))
    except CallFailed as error:
        if error.status == 416:  # nothing begins where the content should go on
            what = f"its blob {descriptor.digest} is shorter than it should be"
            raise CallFailed(what, 416, call.host) from error
        raise
    try:
        # A server may ignore the range and begin anew: what is here already is then passed over.
        skip = start if response.status_code == 200 else 0
        pace = _Pace(transport.silence_limit_s)
        await _copy(response, call, descriptor, writer, skip, pace)
    finally:
        await response.aclose()


class _Pace:
    """Notices a body that trickles: each span of seconds must bring a fair number of bytes."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._until_s = anyio.current_time() + span_s
        self._bytes = 0

    def came(self, size_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            _BrokenOff: They are too few.
        """
        self._bytes += size_bytes
        now = anyio.current_time()
        if now < self._until_s:
            return
        if self._bytes < _SLOWEST_BYTES_PER_S * self._span_s:
            raise _BrokenOff(f"the download is slower than {_SLOWEST_BYTES_PER_S} bytes a second")
        self._until_s, self._bytes = now + self._span_s, 0


async def _copy(
    response: httpx.Response,
    call: Call,
    descriptor: Descriptor,
    writer: BlobWriter,
    skip: int,
    pace: _Pace,
) -> None:
    import httpx

    batch = bytearray()
    broken: httpx.HTTPError | _BrokenOff | None = None
    try:
        async for data in response.aiter_raw():
            pace.came(len(data))
            if skip:
                skipped = min(skip, len(data))
                data = data[skipped:]
                skip -= skipped
            batch += data
            if writer.size_bytes + len(batch) > descriptor.size_bytes:
                raise CallFailed(f"its blob {descriptor.digest} is longer than it should be", 0, call.host)
            if len(batch) >= _BATCH_BYTES:
                await anyio.to_thread.run_sync(writer.write, bytes(batch))
                batch.clear()
    except (httpx.TransportError, _BrokenOff) as error:
        broken = error
    if batch:
        await anyio.to_thread.run_sync(writer.write, bytes(batch))
    if isinstance(broken, _BrokenOff):
        raise broken
    if broken is not None or writer.size_bytes < descriptor.size_bytes:
        kind = type(broken).__name__ if broken is not None else "it is too short"
        raise _BrokenOff(f"the download broke off ({kind})") from broken
