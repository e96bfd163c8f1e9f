"""Passes datagrams between the clients of a UDP port and what stands behind it, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Address = tuple[str, int]

_FLOWS: Final = 256
_IDLE_S: Final = 60.0
_WAITING: Final = 64


async def datagrams_to(host: str, port: int) -> socket.socket:
    """Return a UDP socket connected to a port of a host, not blocking.

    Raises:
        OSError: The host is not known, or cannot be reached.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    family, kind, number, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    ours = socket.socket(family, kind | socket.SOCK_NONBLOCK, number)
    try:
        ours.connect(address)
    except OSError:
        ours.close()
        raise
    return ours


class DatagramRelay(asyncio.DatagramProtocol):
    """A UDP port that leads elsewhere: each client has a socket of its own there, for its answers.

    The one that was silent for longest loses it when 256 others are there, and any after a minute.
    """

    def __init__(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        """`connect` returns a UDP socket connected to the other side, not blocking."""
        self._connect = connect
        self._transport: asyncio.DatagramTransport | None = None
        self._flows: OrderedDict[Address, _Flow] = OrderedDict()

    async def open(self, listener: socket.socket) -> None:
        """Take over a bound UDP socket."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=listener)

    async def close(self) -> None:
        """Stop listening and forget all clients."""
        if self._transport is not None:
            self._transport.close()
        flows = list(self._flows.values())
        for flow in flows:
            flow.task.cancel()
        await asyncio.gather(*(flow.task for flow in flows), return_exceptions=True)
        await asyncio.sleep(0)  # the sockets are closed by the loop's next round

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Pass a client's datagram on."""
        flow = self._flows.get(addr)
        if flow is None:
            if len(self._flows) >= _FLOWS:
                self._flows.popitem(last=False)[1].task.cancel()
            flow = self._flows[addr] = _Flow(addr, self)
        self._flows.move_to_end(addr)
        with contextlib.suppress(asyncio.QueueFull):  # lost, as datagrams may be
            flow.waiting.put_nowait(data)

    async def serve(self, flow: _Flow) -> None:
        """Pass on what one client sends, and send it what comes back."""
        loop = asyncio.get_running_loop()
        try:
            ours = await self._connect()
            transport, _ = await loop.create_datagram_endpoint(lambda: _Answers(flow), sock=ours)
            try:
                async with asyncio.timeout(_IDLE_S) as flow.limit:
                    while True:
                        transport.sendto(await flow.waiting.get())
                        flow.touch()
            finally:
                transport.close()
        except (OSError, TimeoutError):
            return  # a client that sends again has another socket then
        finally:
            if self._flows.get(flow.client) is flow:
                del self._flows[flow.client]

    def answer(self, data: bytes, client: Address) -> None:
        """Send a client what came back for it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, client)


class _Flow:
    """One client of a port."""

    def __init__(self, client: Address, relay: DatagramRelay) -> None:
        self.client = client
        self.relay = relay
        self.waiting: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
        self.limit: asyncio.Timeout | None = None
        self.task = asyncio.ensure_future(relay.serve(self))

    def touch(self) -> None:
        """Begin another minute."""
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(asyncio.get_running_loop().time() + _IDLE_S)


class _Answers(asyncio.DatagramProtocol):
    """Takes what comes back for one client; a refusal is a loss."""

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def datagram_received(self, data: bytes, _addr: Address) -> None:
        self._flow.touch()
        self._flow.relay.answer(data, self._flow.client)
