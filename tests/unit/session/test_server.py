"""The server over real sockets: who may ask, statuses, and clients that leave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING

import httpx
import pytest

from pipeline.engine.events import current_span
from pipeline.session.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipeline.session.server import Answer

pytestmark = pytest.mark.anyio
JSON = {"Content-Type": "application/json"}


async def echo(body: bytes) -> bytes:
    return json.dumps({"data": json.loads(body)["query"]}).encode()


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    server = Server(answer, token="secret")
    port = await server.open()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", auth=("secret", "")) as client:
        yield server, client
    await server.close()


async def test_a_query_with_the_token_is_answered() -> None:
    async with serving(echo) as (_, client):
        answer = await client.post("/query", json={"query": "{ a }"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"data": "{ a }"}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Basic " + base64.b64encode(b"wrong:").decode(),
        "Basic ???",
        "Bearer secret",
    ],
    ids=["missing", "wrong", "garbage", "bearer"],
)
async def test_without_the_token_there_is_a_challenge_and_no_body(header: str | None) -> None:
    async with serving(echo) as (_, client):
        client.auth = httpx.Auth()
        headers = {"Authorization": header} if header else {}
        answer = await client.post("/query", content=b"not even json", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert answer.content == b""


async def test_only_the_user_name_is_compared() -> None:
    async with serving(echo) as (_, client):
        answer = await client.post("/query", json={"query": "q"}, auth=("secret", "anything"))

    assert answer.status_code == 200


async def test_telemetry_is_taken_and_dropped() -> None:
    async with serving(echo) as (_, client):
        statuses = [
            (await client.post(f"/v1/{kind}", content=b"x")).status_code for kind in ("traces", "logs")
        ]

    assert statuses == [200, 200]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [("POST", "/nothing", JSON, 404), ("GET", "/query", JSON, 405), ("POST", "/query", {}, 400)],
)
async def test_a_wrong_request_has_a_list_of_errors(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    async with serving(echo) as (_, client):
        answer = await client.request(method, path, content=b"{}", headers=headers)

    assert answer.status_code == status
    assert [set(error) for error in answer.json()["errors"]] == [{"message"}]


async def test_what_is_no_http_gets_a_list_of_errors_and_the_connection_closed() -> None:
    async with serving(echo) as (_, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"nonsense\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"errors"' in answer


async def test_an_internal_exception_is_a_graphql_error() -> None:
    async def fail(_: bytes) -> bytes:
        raise RuntimeError("boom")

    async with serving(fail) as (_, client):
        answer = await client.post("/query", json={"query": "q"})

    assert answer.status_code == 200
    assert answer.json() == {
        "data": None,
        "errors": [{"message": "internal error: RuntimeError: boom"}],
    }


async def test_the_span_of_the_request_is_known_while_it_is_answered() -> None:
    async def span(_: bytes) -> bytes:
        return json.dumps({"data": current_span.get()}).encode()

    async with serving(span) as (_, client):
        traced = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
        told = await client.post("/query", json={"query": "q"}, headers=traced)
        bare = await client.post("/query", json={"query": "q"})

    assert (told.json(), bare.json()) == ({"data": "b7ad6b7169203331"}, {"data": ""})


async def test_a_client_that_leaves_cancels_its_request_at_once() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_: bytes) -> bytes:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b"{}"

    async with serving(wait) as (_, client):
        asking = asyncio.create_task(client.post("/query", json={"query": "q"}, timeout=None))
        await started.wait()
        asking.cancel()

        await asyncio.wait_for(cancelled.wait(), 1)

        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_many_requests_are_answered_side_by_side_and_on_one_connection() -> None:
    together = asyncio.Barrier(20)

    async def meet(body: bytes) -> bytes:
        await together.wait()
        return body

    async with serving(meet) as (_, client):
        answers = await asyncio.gather(*(client.post("/query", json={"query": str(n)}) for n in range(20)))
    async with serving(echo) as (_, client):
        again = [(await client.post("/query", json={"query": str(n)})).json() for n in range(3)]

    assert [a.json()["query"] for a in answers] == [str(n) for n in range(20)]
    assert again == [{"data": "0"}, {"data": "1"}, {"data": "2"}]


async def test_after_the_end_requests_are_refused_with_a_list_of_errors() -> None:
    async with serving(echo) as (server, client):
        server.refuse()
        answer = await client.post("/query", json={"query": "q"})

    assert answer.status_code == 503
    assert answer.json()["errors"] == [{"message": "cannot answer: the session has ended"}]


async def test_closing_cancels_what_is_in_progress_and_waits_for_it() -> None:
    started, undone = asyncio.Event(), asyncio.Event()

    async def wait(_: bytes) -> bytes:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            undone.set()
        return b"{}"

    async with serving(wait) as (server, client):
        asking = asyncio.create_task(client.post("/query", json={"query": "q"}, timeout=None))
        await started.wait()

        await server.close()

        assert undone.is_set()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking


async def test_shutdown_is_told_to_the_process() -> None:
    async with serving(echo) as (server, client):
        answer = await client.post("/shutdown")

        assert answer.status_code == 200
        assert server.shutdown_asked.is_set()


async def test_a_body_of_several_megabytes_is_read_whole() -> None:
    async def length(body: bytes) -> bytes:
        return json.dumps({"data": len(body)}).encode()

    async with serving(length) as (_, client):
        answer = await client.post("/query", content=b"x" * 8_000_000, headers=JSON)

    assert answer.json() == {"data": 8_000_000}
