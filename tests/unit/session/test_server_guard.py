"""Who is let in to a session's server, and what those who are not can do to it: nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import random

import pytest

from pipeline.session.http import HttpLimits
from pipeline.session.server import Server

pytestmark = pytest.mark.anyio
AUTHORIZATION = b"Authorization: Basic " + base64.b64encode(b"secret:") + b"\r\n"
CONTENT_TYPE = b"Content-Type: application/json\r\n"


async def echo(body: bytes) -> bytes:
    return json.dumps({"data": len(body)}).encode()


async def exchange(port: int, data: bytes) -> bytes:
    """Send bytes and return all that comes until the server has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(*headers: bytes, host: bytes = b"127.0.0.1:1", body: bytes = b"{}") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST /query HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n"
    return head + length + CONTENT_TYPE + b"".join(headers) + b"\r\n" + body


async def status_of(port: int, data: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param(b"127.0.0.1:4000", 200, id="address"),
        pytest.param(b"localhost", 200, id="name"),
        pytest.param(b"[::1]:4000", 200, id="version 6"),
        pytest.param(b"evil.example:4000", 403, id="rebound name"),
        pytest.param(b"127.0.0.1.evil.example", 403, id="name that begins like the address"),
        pytest.param(b"localhost:4000:5", 403, id="two ports"),
        pytest.param(b"", 403, id="none"),
    ],
)
async def test_only_names_of_this_machine_are_answered(host: bytes, status: int) -> None:
    server = Server(echo, token="secret")
    port = await server.open()

    found = await status_of(port, post(AUTHORIZATION, host=host))

    await server.close()
    assert found == status


@pytest.mark.parametrize(
    "header", [b"Origin: http://127.0.0.1\r\n", b"Origin: null\r\n", b"Sec-Fetch-Site: same-origin\r\n"]
)
async def test_what_a_browser_sends_is_refused_even_with_the_token(header: bytes) -> None:
    server = Server(echo, token="secret")
    port = await server.open()

    found = await status_of(port, post(AUTHORIZATION, header))

    await server.close()
    assert found == 403


async def test_the_body_of_who_has_no_token_is_not_waited_for() -> None:
    server = Server(echo, token="secret")
    port = await server.open()
    head = b"POST /query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"

    found = await status_of(port, head)

    await server.close()
    assert found == 401


@pytest.mark.parametrize("framing", [b"Content-Length: 2000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_beyond_the_limit_is_refused(framing: bytes) -> None:
    server = Server(echo, token="secret", limits=HttpLimits(body_bytes=1000))
    port = await server.open()
    head = b"POST /query HTTP/1.1\r\nHost: localhost\r\n" + AUTHORIZATION + CONTENT_TYPE + framing + b"\r\n"

    found = await status_of(port, head + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n")

    await server.close()
    assert found == 413


async def test_headers_without_end_are_refused() -> None:
    server = Server(echo, token="secret")
    port = await server.open()

    answer = await exchange(port, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)

    await server.close()
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4",))


async def test_a_connection_that_never_asks_is_closed_and_holds_nobody_up() -> None:
    server = Server(echo, token="secret", limits=HttpLimits(first_request_s=1.0))
    port = await server.open()
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for _, writer in slow:
        writer.write(b"POST /query HTTP/1.1\r\nHo")

    found = await status_of(port, post(AUTHORIZATION))
    ends = [await asyncio.wait_for(reader.read(), 10) for reader, _ in slow]

    for _, writer in slow:
        writer.close()
    await server.close()
    assert found == 200
    assert ends == [b""] * 100


async def test_thirty_clients_at_once_are_all_answered() -> None:
    server = Server(echo, token="secret")
    port = await server.open()

    found = await asyncio.gather(*(status_of(port, post(AUTHORIZATION)) for _ in range(30)))

    await server.close()
    assert found == [200] * 30


async def test_no_bytes_break_the_server() -> None:
    """500 requests damaged at random places (seeded): each ends, and an ordinary one is answered after."""
    chance = random.Random(7)  # noqa: S311 - places, not secrets
    server = Server(echo, token="secret")
    port = await server.open()

    for _ in range(500):
        data = bytearray(post(AUTHORIZATION, body=b'{"query": "{ version }"}'))
        for _ in range(chance.randrange(1, 8)):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        await exchange(port, bytes(data))
    found = await status_of(port, post(AUTHORIZATION))

    await server.close()
    assert found == 200
