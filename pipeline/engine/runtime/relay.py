"""Passes bytes between two streams, both ways, until both sides have ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

_CHUNK_BYTES: Final = 65536

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Way(Protocol):
    """What ports can be led to."""

    async def connect(self, port: int) -> Streams:
        """Open a connection to a TCP port.

        Raises:
            OSError: Nothing listens there.
        """

    async def connect_datagrams(self, port: int) -> socket.socket:
        """Return a socket, not blocking, that speaks to a UDP port.

        Raises:
            OSError: There is no way there.
        """


async def relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connect: Callable[[], Awaitable[Streams]],
) -> None:
    """Connect to the other side and pass everything on; a refused connection closes this side too."""
    try:
        try:
            other_reader, other_writer = await connect()
        except OSError:
            return  # the client learns it from the closed connection, as from a refused one
        try:
            await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
        finally:
            other_writer.close()
    finally:
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()  # one side is gone: so is the connection
