"""Name servers for containers: the host's, or a forwarder where the host's answer on loopback only."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Final

_QUERY_LIMIT_S: Final = 10.0
_RESOLV_CONF: Final = Path("/etc/resolv.conf")
_PORT: Final = 53


def find_nameservers(path: Path = _RESOLV_CONF) -> tuple[str, ...]:
    """Return the host's IPv4 name servers, in order; none when the file is missing or names none."""
    if not path.exists():
        return ()
    words = [line.split() for line in path.read_text().splitlines()]
    named = [line[1] for line in words if len(line) >= 2 and line[0] == "nameserver"]
    return tuple(name for name in named if _is_ipv4(name))


def is_local(address: str) -> bool:
    """Say whether an address means something else inside a container."""
    return ipaddress.ip_address(address).is_loopback


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


class DnsForwarder(asyncio.DatagramProtocol):
    """Passes queries that arrive at `address` on to a name server of the host, by UDP and TCP."""

    def __init__(self, upstream: str, *, port: int = _PORT) -> None:
        self._upstream = (upstream, port)
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(
        self, address: str, *, datagrams: socket.socket, streams: socket.socket, port: int = _PORT
    ) -> None:
        """Listen with two sockets that are not bound yet, of the network namespace that `address` is in.

        Raises:
            OSError: The address cannot be listened on; the sockets are closed.
        """
        loop = asyncio.get_running_loop()
        try:
            streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for listener in (datagrams, streams):
                listener.bind((address, port))
        except OSError:
            datagrams.close()
            streams.close()
            raise
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=datagrams)
        self._server = await asyncio.start_server(self._pass_stream, sock=streams)

    def close(self) -> None:
        """Stop listening; queries under way are dropped."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Pass one query on."""
        task = asyncio.ensure_future(self._pass_query(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_query(self, data: bytes, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _OneAnswer(answered), remote_addr=self._upstream
        )
        try:
            transport.sendto(data)
            answer = await asyncio.wait_for(answered, _QUERY_LIMIT_S)
        except (OSError, TimeoutError):
            return  # a client asks again, or another server: that is how DNS reports a loss
        finally:
            transport.close()
        if self._transport is not None:
            self._transport.sendto(answer, addr)

    async def _pass_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from pipeline.engine.runtime.relay import relay

        await relay(reader, writer, lambda: asyncio.open_connection(*self._upstream))


class _OneAnswer(asyncio.DatagramProtocol):
    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._answered.done():
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)
