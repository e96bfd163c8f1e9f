"""Registries that hang, reset, trickle, lie or never end: bounded time and memory, one sentence."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import socket
import struct
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.credentials import Credentials
from pipeline.engine.oci.errors import (
    ImagePullFailed,
    ImagePushFailed,
    PlatformNotOffered,
    RegistryUnreachable,
)
from pipeline.engine.oci.image import publish
from pipeline.engine.oci.model import OCI_INDEX, Descriptor
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.oci.registry import Registry
from tests.engine.oci.samples import entry, image, put_layer
from tests.engine.oci.servers import Answer, RealRegistry, Request, forward, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pipeline.engine.store import Store

pytestmark = pytest.mark.anyio

AMD64 = "linux/amd64"
SILENCE_S = 0.2
LIMIT_S = 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
DATA = bytes(range(256)) * 800
BLOB = Descriptor(media_type="", digest=digest_bytes(DATA), size_bytes=len(DATA))


class Talk:
    """One connection of which the request was read; `number` counts the requests of the server."""

    def __init__(self, writer: asyncio.StreamWriter, head: bytes, number: int) -> None:
        self.head = head.decode()
        self.number = number
        self._writer = writer

    async def say(self, data: bytes, *, byte_by_byte_s: float = 0) -> None:
        """Send `data`, slowly where asked."""
        for piece in [data[at : at + 1] for at in range(len(data))] if byte_by_byte_s else [data]:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(byte_by_byte_s)

    async def hang(self) -> None:
        """Stay silent."""
        await asyncio.sleep(60)

    def reset(self) -> None:
        """End the connection as a crashed machine would."""
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )


@asynccontextmanager
async def talking(script: Callable[[Talk], Awaitable[None]]) -> AsyncIterator[str]:
    """Run a server that does what `script` says to each request, and lend its address."""
    number = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal number
        number += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await script(Talk(writer, head, number))
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(serve_one(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def client(store: Store, address: str, **options: Any) -> AsyncIterator[Registry]:
    """Lend a client that soon loses patience."""
    options = {"backoff_s": 0.01, "silence_limit_s": SILENCE_S, "plain_http": [address], **options}
    registry = Registry(store, credentials=Credentials({"XDG_RUNTIME_DIR": "/nowhere"}), **options)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield registry
    finally:
        await registry.aclose()


async def nothing(talk: Talk) -> None:
    await talk.hang()


async def headers_trickle(talk: Talk) -> None:
    await talk.say(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, byte_by_byte_s=0.03)


async def early_hints_without_end(talk: Talk) -> None:
    while True:
        await talk.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.03)


async def body_stops(talk: Talk) -> None:
    await talk.say(OK % len(DATA) + DATA[:100])
    await talk.hang()


async def body_trickles(talk: Talk) -> None:
    await talk.say(OK % len(DATA))
    await talk.say(DATA, byte_by_byte_s=0.03)


async def reset_at_once(talk: Talk) -> None:
    talk.reset()


async def reset_in_body(talk: Talk) -> None:
    await talk.say(OK % len(DATA) + DATA[:100])
    await asyncio.sleep(0.05)
    talk.reset()


SLOW = f"it was silent for {SILENCE_S:g} s"
NOT_TAKEN = f"it did not take 262144 bytes within {SILENCE_S:g} s"
NO_ANSWER = f"it did not answer within {3 * SILENCE_S:g} s"


@pytest.mark.parametrize(
    ("script", "of_manifest", "of_blob"),
    [
        pytest.param(nothing, SLOW, SLOW, id="never-answers"),
        pytest.param(headers_trickle, NO_ANSWER, NO_ANSWER, id="headers-trickle"),
        pytest.param(early_hints_without_end, NO_ANSWER, NO_ANSWER, id="hints-without-end"),
        pytest.param(
            body_stops,
            "its answer broke off (ReadTimeout)",
            "the download broke off (ReadTimeout)",
            id="body-stops",
        ),
        pytest.param(
            body_trickles,
            f"its answer did not end within {2 * SILENCE_S:g} s",
            "the download is slower than 1000 bytes a second",
            id="body-trickles",
        ),
        pytest.param(reset_at_once, "the connection broke off", "the connection broke off", id="reset"),
        pytest.param(
            reset_in_body,
            "its answer broke off (ReadError)",
            "the download broke off (ReadError)",
            id="reset-in-body",
        ),
    ],
)
async def test_who_never_finishes_an_answer_is_given_up(
    store: Store, script: Callable[[Talk], Awaitable[None]], of_manifest: str, of_blob: str
) -> None:
    """After a few attempts, in bounded time; the store is as it was."""
    async with talking(script) as address, client(store, address) as registry:
        with pytest.raises(RegistryUnreachable) as manifest:
            await registry.resolve(f"{address}/app", AMD64)
        with pytest.raises(RegistryUnreachable) as blob:
            await registry.fetch_blob(parse_reference(f"{address}/app"), BLOB)

    assert str(manifest.value) == f"cannot reach registry `{address}`: {of_manifest}"
    assert str(blob.value) == f"cannot reach registry `{address}`: {of_blob}"
    assert not store.blobs.has(BLOB.digest)


@asynccontextmanager
async def dripping(pieces: list[int]) -> AsyncIterator[str]:
    """Run a registry that takes uploads a few bytes at a time; `pieces` gets what it took."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif head.startswith(b"POST"):
            told = b"HTTP/1.1 202 Accepted\r\nLocation: /v2/here\r\nContent-Length: 0\r\n"
            writer.write(told + b"Connection: close\r\n\r\n")
        else:
            pieces.append(0)
            while data := await reader.read(100):
                pieces[-1] += len(data)
                await asyncio.sleep(0.01)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def serve_one() -> None:
            try:
                await answer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                return
            finally:
                writer.close()

        tasks.add(asyncio.ensure_future(serve_one()))

    tasks: set[asyncio.Task[None]] = set()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(accept, sock=listener, limit=2048)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_takes_an_upload_byte_by_byte_is_given_up(store: Store) -> None:
    """Though it is never silent; after as many attempts as any upload has."""
    pieces: list[int] = []
    digest = store.blobs.put_bytes(os.urandom(8 << 20))
    async with (
        dripping(pieces) as address,
        client(store, address) as registry,
    ):
        with pytest.raises(RegistryUnreachable) as caught:
            await registry.push_blob(parse_reference(f"{address}/app"), digest)

    assert str(caught.value) == f"cannot reach registry `{address}`: {NOT_TAKEN}"
    assert len(pieces) == 4
    assert all(0 < taken < 1 << 18 for taken in pieces)


@pytest.mark.parametrize("fault", [body_stops, reset_at_once, reset_in_body])
async def test_two_faults_pass_unnoticed(store: Store, fault: Callable[[Talk], Awaitable[None]]) -> None:
    """The third answer is whole; a blob goes on from where it broke off."""
    ranges: list[str] = []

    async def script(talk: Talk) -> None:
        ranges.extend(line for line in talk.head.lower().splitlines() if line.startswith("range"))
        if talk.number <= 2:
            await fault(talk)
        else:
            await talk.say(OK % len(DATA) + DATA)

    async with talking(script) as address, client(store, address) as registry:
        path = await registry.fetch_blob(parse_reference(f"{address}/app"), BLOB)

    assert path.read_bytes() == DATA
    assert len(ranges) == (0 if fault is reset_at_once else 2)


async def test_a_manifest_that_is_cut_off_is_asked_for_again(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """Two times; the third is whole."""
    cuts = [100, 0]

    def script(request: Request) -> Answer:
        answer = forward(open_registry.address, request)
        if "/manifests/" in request.path and request.method == "GET" and cuts:
            return Answer(status=200, headers=answer.headers, body=answer.body, cut=cuts.pop())
        return answer

    with serve(script) as server:
        async with client(store, server.address, silence_limit_s=20) as registry:
            pushed = image(put_layer(store, entry("a", b"1")))
            reference = await publish(registry, store, f"{open_registry.address}/app", [pushed])
        async with client(other_store, server.address, silence_limit_s=20) as registry:
            resolved = await registry.resolve(f"{server.address}/app", AMD64)

    assert cuts == []
    assert reference.endswith(str(resolved.reference.digest))


# ---- lies ----


@pytest.mark.parametrize(
    ("more", "what"),
    [pytest.param(10, "shorter", id="too-much-claimed"), pytest.param(-10, "longer", id="too-little")],
)
async def test_a_manifest_that_lies_about_a_size_is_told(
    open_registry: RealRegistry, store: Store, other_store: Store, more: int, what: str
) -> None:
    """The registry has the blob, of another size than the manifest says."""
    digest = store.blobs.put_bytes(DATA)
    reference = parse_reference(f"{open_registry.address}/app")
    claimed = Descriptor(media_type="", digest=digest, size_bytes=len(DATA) + more)

    async with client(store, open_registry.address, silence_limit_s=20) as registry:
        await registry.push_blob(reference, digest)
    async with client(other_store, open_registry.address, silence_limit_s=20) as registry:
        with pytest.raises(ImagePullFailed) as caught:
            await registry.fetch_blob(reference, claimed)

    assert str(caught.value) == f"cannot pull `{reference}`: its blob {digest} is {what} than it should be"
    assert not other_store.blobs.has(digest)


async def test_a_range_that_begins_elsewhere_is_noticed(store: Store) -> None:
    """The digest of the whole does not fit, so nothing is kept."""
    answers = [
        Answer(body=DATA, cut=100_000),
        Answer(status=206, headers={"Content-Range": "bytes 0-1/2"}, body=DATA[: len(DATA) - 100_000]),
    ]

    with serve(lambda _: answers.pop(0)) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed, match="has another digest"):
                await registry.fetch_blob(parse_reference(f"{server.address}/app"), BLOB)

    assert not store.blobs.has(BLOB.digest)


async def test_a_manifest_of_another_digest_than_told_or_asked_for_is_refused(store: Store) -> None:
    """By the header that comes with a tag, and by the name that was asked for."""
    headers = {"Docker-Content-Digest": str(digest_bytes(b"other"))}
    pinned = Digest("sha256:" + "1" * 64)

    with serve(lambda _: Answer(headers=headers, body=b"{}")) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed, match="not have the digest that the registry told"):
                await registry.resolve(f"{server.address}/app:1", AMD64)
    with serve(lambda _: Answer(body=b"{}")) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed, match="sent a manifest with another digest"):
                await registry.resolve(f"{server.address}/app@{pinned}", AMD64)

    assert not store.blobs.has(pinned)


# ---- busy ----


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: "1", id="seconds"),
        pytest.param(lambda: "1 ", id="seconds-and-a-space"),
        pytest.param(lambda: email.utils.formatdate(time.time() + 2, usegmt=True), id="date"),
    ],
)
async def test_a_busy_registry_is_left_alone_for_as_long_as_it_asks(
    store: Store, ask: Callable[[], str]
) -> None:
    """429 with Retry-After in both its forms."""
    asked: list[float] = []

    def script(_: Request) -> Answer:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return Answer(status=429, headers={"Retry-After": ask()})
        return Answer(body=DATA)

    with serve(script) as server:
        async with client(store, server.address, silence_limit_s=20) as registry:
            await registry.fetch_blob(parse_reference(f"{server.address}/app"), BLOB)

    assert len(asked) == 2
    assert asked[1] - asked[0] >= 0.9


async def test_a_registry_that_stays_busy_tells_what_helps(store: Store) -> None:
    """After five attempts, with the status."""
    with serve(lambda _: Answer(status=429)) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed) as caught:
                await registry.resolve(f"{server.address}/app:1", AMD64)

    assert (caught.value.status, len(server.requests)) == (429, 5)
    assert "configure a mirror" in (caught.value.hint or "")


# ---- without end ----


async def endless(talk: Talk, head: bytes) -> None:
    """Send for as long as anybody reads."""
    await talk.say(head)
    while True:
        await talk.say(b"[" * 65536)


@pytest.mark.parametrize(
    ("head", "what"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "its manifest is longer than any manifest", id="manifest"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", "the registry answered 404", id="error"),
        pytest.param(
            b"HTTP/1.1 307 Moved\r\nLocation: /v2/app/manifests/1\r\n\r\n",
            "it redirects without end",
            id="redirect",
        ),
    ],
)
async def test_an_answer_without_end_is_not_read(store: Store, head: bytes, what: str) -> None:
    """Of what has a limit, no more than that is taken."""
    async with talking(lambda talk: endless(talk, head)) as address, client(store, address) as registry:
        with pytest.raises(ImagePullFailed) as caught:
            await registry.resolve(f"{address}/app:1", AMD64)

    assert str(caught.value) == f"cannot pull `{address}/app:1`: {what}"


async def test_a_token_without_end_is_not_read(store: Store) -> None:
    """Its server is not the registry's, and no better trusted."""

    async def script(talk: Talk) -> None:
        if " /token" in talk.head:
            await endless(talk, b"HTTP/1.1 200 OK\r\n\r\n")
        challenge = f'WWW-Authenticate: Bearer realm="http://{address}/token"'
        await talk.say(f"HTTP/1.1 401 No\r\n{challenge}\r\nContent-Length: 0\r\n\r\n".encode())

    async with talking(script) as address, client(store, address) as registry:
        with pytest.raises(ImagePullFailed) as caught:
            await registry.resolve(f"{address}/app:1", AMD64)

    what = "its token server's answer is longer than any token"
    assert str(caught.value) == f"cannot pull `{address}/app:1`: {what}"


async def test_a_manifest_that_would_unpack_to_gigabytes_is_taken_as_it_is(store: Store) -> None:
    """No encoding was asked for, so none is undone."""
    body = zstandard.compress(bytes(64 << 20))

    with serve(lambda _: Answer(headers={"Content-Encoding": "zstd"}, body=body)) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed, match="its manifest is not JSON"):
                await registry.resolve(f"{server.address}/app:1", AMD64)


# ---- odd but allowed, and not allowed ----


async def test_a_manifest_of_five_megabytes_with_a_wrong_content_type_is_good(
    open_registry: RealRegistry, store: Store, other_store: Store
) -> None:
    """What is in it decides, whatever the server calls it."""
    async with client(store, open_registry.address, silence_limit_s=20) as registry:
        pushed = image(put_layer(store, entry("a", b"1")))
        reference = await publish(registry, store, f"{open_registry.address}/app", [pushed])
        _, data = await registry.find_manifest(parse_reference(reference))
    document = json.loads(data)
    document["annotations"] = {"note": "x" * (5 << 20)}
    big = json.dumps(document).encode()

    def script(request: Request) -> Answer:
        if "/manifests/" in request.path:
            return Answer(headers={"Content-Type": "text/html"}, body=big)
        return forward(open_registry.address, request)

    with serve(script) as server:
        async with client(other_store, server.address, silence_limit_s=20) as registry:
            resolved = await registry.resolve(f"{server.address}/app:1", AMD64)

    assert resolved.manifest.digest == digest_bytes(big)
    assert resolved.image.config == pushed.config


def index_of(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def named(index: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": OCI_INDEX, "digest": digest_bytes(index), "size": len(index), **more}


def chain(indexes: int) -> list[bytes]:
    """Return indexes of which each names the one before."""
    made = [index_of()]
    while len(made) < indexes:
        made.append(index_of(named(made[-1])))
    return made


def documents(*known: bytes) -> Callable[[Request], Answer]:
    """Answer what is asked for by digest; for a tag the last."""
    by_digest = {digest_bytes(each): each for each in known}

    def answer(request: Request) -> Answer:
        return Answer(body=by_digest.get(Digest(request.path.rpartition("/")[2]), known[-1]))

    return answer


LIAR = index_of({"mediaType": OCI_INDEX, "digest": "sha256:" + "2" * 64, "size": 10})
CROWD = [index_of(named(index_of(), annotations={"n": str(n)})) for n in range(65)]


@pytest.mark.parametrize(
    ("known", "what", "asked"),
    [
        pytest.param(
            chain(6), "it is no image (its indexes are nested more than 4 levels deep)", 6, id="too-deep"
        ),
        pytest.param([LIAR], "the registry sent a manifest with another digest", 2, id="itself"),
        pytest.param(
            [index_of(*(named(each) for each in CROWD))],
            "it is no image (it names more than 64 indexes)",
            1,
            id="too-many",
        ),
    ],
)
async def test_indexes_in_an_index_are_read_within_limits(
    store: Store, known: list[bytes], what: str, asked: int
) -> None:
    """A circle needs an index that has not the digest by which it is named."""
    with serve(documents(*known)) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePullFailed) as caught:
                await registry.resolve(f"{server.address}/app:1", AMD64)

    assert str(caught.value).endswith(f"`: {what}")
    assert len(server.requests) == asked


async def test_an_index_that_is_named_a_thousand_times_is_read_once(store: Store) -> None:
    """It offers nothing."""
    inner = index_of()
    with serve(documents(inner, index_of(*[named(inner)] * 1000))) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(PlatformNotOffered) as caught:
                await registry.resolve(f"{server.address}/app:1", AMD64)

    assert caught.value.offered == ()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("location", "what"),
    [
        pytest.param("", "it did not tell where to upload to", id="none"),
        pytest.param("http://upload:port/", "it told no usable address to upload to", id="broken"),
    ],
)
async def test_an_upload_needs_an_address(store: Store, location: str, what: str) -> None:
    """The registry's own mistake is told as that."""
    digest = store.blobs.put_bytes(os.urandom(10))

    def script(request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(status=404)
        return Answer(status=202, headers={"Location": location} if location else {})

    with serve(script) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(ImagePushFailed, match=what):
                await registry.push_blob(parse_reference(f"{server.address}/app"), digest)


async def upload_hangs(talk: Talk) -> None:
    """Never read the body."""
    await talk.hang()


async def upload_is_reset(talk: Talk) -> None:
    """End the connection while the body comes."""
    await asyncio.sleep(0.02)
    talk.reset()


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        pytest.param(upload_hangs, NOT_TAKEN, id="hangs"),
        pytest.param(upload_is_reset, "the connection broke off", id="reset"),
    ],
)
async def test_an_upload_that_always_fails_is_given_up(
    store: Store, fault: Callable[[Talk], Awaitable[None]], what: str
) -> None:
    """After four attempts, each with an upload of its own."""
    digest = store.blobs.put_bytes(os.urandom(1 << 20) * 16)
    begun = []

    async def script(talk: Talk) -> None:
        method = talk.head.partition(" ")[0]
        if method == "HEAD":
            await talk.say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        elif method == "POST":
            begun.append(talk.number)
            location = f"/v2/app/blobs/uploads/{talk.number}"
            await talk.say(f"HTTP/1.1 202 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            await fault(talk)

    async with talking(script) as address, client(store, address) as registry:
        with pytest.raises(RegistryUnreachable) as caught:
            await registry.push_blob(parse_reference(f"{address}/app"), digest)

    assert str(caught.value) == f"cannot reach registry `{address}`: {what}"
    assert len(begun) == 4


@pytest.mark.parametrize("asked", ["\xb2", "soon", "-1", "Mon, 99 Foo 2026"])
async def test_a_pause_that_makes_no_sense_is_the_clients_own(store: Store, asked: str) -> None:
    """The next try comes after it."""
    answers = [Answer(status=429, headers={"Retry-After": asked}), Answer(body=DATA)]

    with serve(lambda _: answers.pop(0)) as server:
        async with client(store, server.address) as registry:
            path = await registry.fetch_blob(parse_reference(f"{server.address}/app"), BLOB)

    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("location", "what"),
    [
        pytest.param("http://storage:port/", "invalid url in location header", id="broken"),
        pytest.param("ftp://storage.invalid/", "request url has an unsupported protocol", id="ftp"),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_told(store: Store, location: str, what: str) -> None:
    """As the registry's failure; nothing else is asked."""
    with serve(lambda _: Answer(status=302, headers={"Location": location})) as server:
        async with client(store, server.address) as registry:
            with pytest.raises(RegistryUnreachable, match=what):
                await registry.resolve(f"{server.address}/app:1", AMD64)
