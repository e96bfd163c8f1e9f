"""Datagrams that are passed on: each client gets its own answers."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, cast

import pytest

from pipeline.engine.runtime.datagrams import DatagramRelay, datagrams_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
LIMIT_S = 5.0


class Shout(asyncio.DatagramProtocol):
    """Answers each datagram in upper case."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data.upper(), addr)


def bound() -> socket.socket:
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    ours.bind(("127.0.0.1", 0))
    return ours


async def closed(transport: asyncio.BaseTransport) -> None:
    transport.close()
    await asyncio.sleep(0)  # the socket is closed by the loop


async def ask(client: socket.socket, text: bytes) -> bytes:
    """Send a datagram and return the next one that comes."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT_S):
        await loop.sock_sendall(client, text)
        return await loop.sock_recv(client, 4096)


@pytest.fixture
async def shouting() -> AsyncIterator[int]:
    """The port of a server that shouts back."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Shout, sock=bound())
    yield transport.get_extra_info("sockname")[1]
    await closed(transport)


async def test_each_client_gets_its_own_answers(shouting: int) -> None:
    """Several at once, several times."""
    listener = bound()
    port = listener.getsockname()[1]
    relay = DatagramRelay(lambda: datagrams_to("localhost", shouting))
    await relay.open(listener)
    clients = [await datagrams_to("127.0.0.1", port) for _ in range(3)]

    rounds = [
        await asyncio.gather(*(ask(client, b"%d-%s" % (n, word)) for n, client in enumerate(clients)))
        for word in (b"one", b"two")
    ]

    assert rounds == [[b"0-ONE", b"1-ONE", b"2-ONE"], [b"0-TWO", b"1-TWO", b"2-TWO"]]
    await relay.close()
    for client in clients:
        client.close()


async def test_a_client_outlives_a_server_that_was_not_there_yet() -> None:
    """What is sent meanwhile is lost; the client's next datagram arrives."""
    place = bound()
    port = place.getsockname()[1]
    place.close()
    listener = bound()
    relay = DatagramRelay(lambda: datagrams_to("127.0.0.1", port))
    await relay.open(listener)
    client = await datagrams_to("127.0.0.1", listener.getsockname()[1])
    await asyncio.get_running_loop().sock_sendall(client, b"lost")
    await asyncio.sleep(0.05)

    server, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Shout, local_addr=("127.0.0.1", port)
    )
    answer = await ask(client, b"again")

    assert answer == b"AGAIN"
    await relay.close()
    await closed(server)
    client.close()
