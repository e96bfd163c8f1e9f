"""Requests as no client writes them: cut anywhere, of odd methods, framings and lengths. Each is answered."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from pipeline.session.http import HttpLimits
from pipeline.session.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio
HEAD: Final = (
    b"Host: localhost\r\nAuthorization: Basic " + base64.b64encode(b"secret:") + b"\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\n"
)
POST: Final = b"POST /query HTTP/1.1\r\n" + HEAD
LIMIT_S: Final = 5.0


async def echo(body: bytes) -> bytes:
    return json.dumps({"data": len(body)}).encode()


async def exchange(port: int, parts: Sequence[bytes]) -> bytes:
    """Send parts one after another, as packets of their own, and return all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), LIMIT_S)
    finally:
        writer.close()


async def send_for(writer: asyncio.StreamWriter, limit_s: float) -> None:
    """Send ten thousand bytes again and again."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        writer.write(b"x" * 10_000)
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_request_cut_at_any_byte_is_answered_like_a_whole_one() -> None:
    """In two parts at every place, and byte by byte; with a length and in chunks."""
    server = Server(echo, token="secret")
    port = await server.open()
    sized = POST + b"Content-Length: 5\r\n\r\n{   }"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{ \r\n3\r\n  }\r\n0\r\n\r\n"
    cuts = [[data[:at], data[at:]] for data in (sized, chunked) for at in range(1, len(data))]
    bytewise = [[data[at : at + 1] for at in range(len(data))] for data in (sized, chunked)]

    answers = [await exchange(port, parts) for parts in [*cuts, *bytewise]]

    await server.close()
    assert len(answers) > 300
    assert {answer.split(b"\r\n", 1)[0] for answer in answers} == {b"HTTP/1.1 200 "}
    assert {answer.rpartition(b"\r\n")[2] for answer in answers} == {b'{"data": 5}'}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"HEAD /query HTTP/1.1\r\n" + HEAD + b"\r\n", 405, id="no body wanted"),
        pytest.param(b"HEAD /query HTTP/1.1\r\nHost: evil\r\n\r\n", 403, id="no body wanted by a stranger"),
        pytest.param(POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, id="length of 5000 digits"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="two lengths"),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, id="unknown framing"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 50 + b"\r\n", 400, id="huge chunk"
        ),
        pytest.param(b"CONNECT localhost:1 HTTP/1.1\r\n" + HEAD + b"\r\n", 404, id="proxy"),
        pytest.param(b"GET /query HTTP/1.1\r\n" + HEAD + b"Upgrade: websocket\r\n\r\n", 405, id="upgrade"),
        pytest.param(b"GET /query HTTP/1.0\r\n" + HEAD + b"\r\n", 405, id="old version"),
        pytest.param(b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n", 400, id="path of no text"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"G" * 200_000, 431, id="line without end"),
        pytest.param(POST + b"Content-Length: 300000000\r\n\r\n" + b"x" * 5_000_000, 413, id="huge body"),
    ],
)
async def test_what_is_wrong_with_a_request_is_answered(data: bytes, status: int) -> None:
    """Also while more of it is on its way: the answer is not lost with the connection."""
    server = Server(echo, token="secret")
    port = await server.open()

    answer = await exchange(port, [data])
    after = await exchange(port, [POST + b"Content-Length: 2\r\n\r\n{}"])

    await server.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert after.endswith(b'{"data": 2}')


async def test_who_goes_on_sending_after_the_answer_is_cut_off() -> None:
    """The rest of a refused body is read for a bounded time and kept nowhere."""
    server = Server(echo, token="secret", limits=HttpLimits(body_bytes=10))
    port = await server.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST + b"Content-Length: 100000000000\r\n\r\n")

    answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    with pytest.raises(ConnectionError):
        await send_for(writer, 2 * LIMIT_S)

    await server.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
