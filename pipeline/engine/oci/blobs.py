"""Downloading one blob into the store: in pieces, resumed where it broke off, verified as a whole."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from pipeline.engine.oci.errors import RegistryUnreachable
from pipeline.engine.oci.transport import Call, CallFailed, Transport
from pipeline.engine.store.values import BlobCorrupt

if TYPE_CHECKING:
    import httpx

    from pipeline.engine.oci.model import Descriptor
    from pipeline.engine.store import Blobs, BlobWriter

_BREAKS: Final = 5  # in a row without a byte in between
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
                breaks = breaks + 1 if writer.size_bytes == before else 1
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
    response = await transport.send(
        Call(
            host=call.host,
            method="GET",
            path=call.path,
            scopes=call.scopes,
            repository=call.repository,
            headers=headers,
        )
    )
    try:
        # A server may ignore the range and begin anew: what is here already is then passed over.
        skip = start if response.status_code == 200 else 0
        await _copy(response, call, descriptor, writer, skip)
    finally:
        await response.aclose()


async def _copy(
    response: httpx.Response, call: Call, descriptor: Descriptor, writer: BlobWriter, skip: int
) -> None:
    import httpx

    batch = bytearray()
    broken: httpx.HTTPError | None = None
    try:
        async for data in response.aiter_raw():
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
    except httpx.TransportError as error:
        broken = error
    if batch:
        await anyio.to_thread.run_sync(writer.write, bytes(batch))
    if broken is not None or writer.size_bytes < descriptor.size_bytes:
        kind = type(broken).__name__ if broken is not None else "it is too short"
        raise _BrokenOff(f"the download broke off ({kind})") from broken
