"""Images by name, from and to real registries and archives, and what is told of where they came from."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.container import Container
from pipeline.engine.foundimage import NoImage
from pipeline.engine.keep import keep_file
from pipeline.engine.oci.errors import ImagePullFailed, RegistryOffline
from tests.engine.oci.servers import Answer, RealRegistry, real_registry, serve
from tests.engine.workbench import PLATFORM, Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.oci.servers import Request

pytestmark = [pytest.mark.root, pytest.mark.anyio]
EMPTY = Container(platform=PLATFORM)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with real_registry(tmp_path / "registry") as registry:
        yield registry


async def read_file(bench: Workbench, container: Container, path: str) -> str:
    file = container.file(path)
    return await bench.engine.look(file.tree, lambda root: (root / path.lstrip("/")).read_text())


async def publish(bench: Workbench, address: str, text: str) -> str:
    return await bench.engine.images.publish(bench.base.with_new_file("/text", text), address)


async def test_what_is_published_is_pulled_again(tmp_path: Path, registry: RealRegistry) -> None:
    """By another engine with an empty store; the reference has the tag and the digest."""
    address = f"{registry.address}/app:1"
    async with open_workbench(tmp_path / "one", offline=False) as bench:
        reference = await publish(bench, address, "hello")

    async with open_workbench(tmp_path / "two", offline=False) as bench:
        pulled = await bench.engine.images.from_image(EMPTY, address)

        assert reference.startswith(f"{address}@sha256:")
        assert pulled.image_ref == reference
        assert pulled.env_value("PATH") == "/bin"
        assert await read_file(bench, pulled, "/text") == "hello"
        assert await bench.stdout(bench.sh("cat /text", pulled)) == "hello"
        [event] = bench.images()
        assert (event.reference, event.source, event.note) == (address, "registry", "")
        assert reference.endswith(event.digest)


async def test_a_name_is_looked_up_once_in_a_session(tmp_path: Path, registry: RealRegistry) -> None:
    """Who asks at the same time shares the answer; the tag may move on meanwhile."""
    address = f"{registry.address}/app:1"
    async with open_workbench(tmp_path / "one", offline=False) as bench:
        await publish(bench, address, "first")

        found = await asyncio.gather(*(bench.engine.images.from_image(EMPTY, address) for _ in range(3)))
        await publish(bench, address, "second")
        later = await bench.engine.images.from_image(EMPTY, address)
        other = await bench.engine.images.from_image(EMPTY, f"{registry.address}/app@{later_digest(later)}")

    assert len({each.image_ref for each in (*found, later)}) == 1
    assert later_digest(other) == later_digest(later)


def later_digest(container: Container) -> str:
    return container.image_ref.partition("@")[2]


async def test_a_failure_is_not_remembered(tmp_path: Path, registry: RealRegistry) -> None:
    address = f"{registry.address}/app:1"
    async with open_workbench(tmp_path / "one", offline=False) as bench:
        with pytest.raises(ImagePullFailed, match="cannot pull") as caught:
            await bench.engine.images.from_image(EMPTY, address)
        await publish(bench, address, "there")

        found = await bench.engine.images.from_image(EMPTY, address)

        assert (caught.value.status, caught.value.hint) == (404, "check the image's name and tag")
        assert await read_file(bench, found, "/text") == "there"


async def test_an_image_that_was_used_once_works_offline(tmp_path: Path, registry: RealRegistry) -> None:
    """It is told that it came from the store; one that never was there is refused with what helps."""
    address = f"{registry.address}/app:1"
    async with open_workbench(tmp_path / "one", offline=False) as bench:
        await publish(bench, address, "kept")
    async with open_workbench(tmp_path / "two", offline=False) as bench:
        await bench.engine.sync(await bench.engine.images.from_image(EMPTY, address))

    async with open_workbench(tmp_path / "two", offline=True) as bench:
        found = await bench.engine.images.from_image(EMPTY, address)

        assert await bench.stdout(bench.sh("cat /text", found)) == "kept"
        assert [event.source for event in bench.images()] == ["store"]
        with pytest.raises(NoImage) as caught:
            await bench.engine.images.from_image(EMPTY, f"{registry.address}/other:1")
        assert isinstance(caught.value.__cause__, RegistryOffline)
        assert caught.value.hint == "fetch the image beforehand, or run without offline mode"


async def test_where_no_registry_answers_the_store_does(tmp_path: Path) -> None:
    """The tag means what it led to last, if all of that is here; the event says why."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with real_registry(tmp_path / "registry") as registry:
        address = f"{registry.address}/app:1"
        async with open_workbench(tmp_path / "one", offline=False) as bench:
            await publish(bench, address, "kept")
        async with open_workbench(tmp_path / "used", offline=False) as bench:
            await bench.engine.sync(await bench.engine.images.from_image(EMPTY, address))
        async with open_workbench(tmp_path / "named", offline=False) as bench:
            await bench.engine.images.from_image(EMPTY, address)

    async with open_workbench(tmp_path / "used", offline=False) as bench:
        found = await bench.engine.images.from_image(EMPTY, address)

        assert await read_file(bench, found, "/text") == "kept"
        [event] = bench.images()
        assert event.source == "store"
        assert event.note.startswith("what the tag led to last, for cannot reach registry")
    async with open_workbench(tmp_path / "named", offline=False) as bench:
        with pytest.raises(NoImage, match="cannot reach registry"):
            await bench.engine.images.from_image(EMPTY, address)


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_registry_that_refuses_is_told_as_it_said(tmp_path: Path, status: int) -> None:
    def refuse(_request: Request) -> Answer:
        return Answer(status=status)

    with serve(refuse) as server:
        async with open_workbench(tmp_path, offline=False) as bench:
            with pytest.raises((ImagePullFailed, NoImage), match=server.address):
                await bench.engine.images.from_image(EMPTY, f"{server.address}/app:1")

            assert bench.images() == []


async def test_stand_ins_are_named_in_the_advice_where_there_is_one(tmp_path: Path) -> None:
    async with open_workbench(tmp_path) as bench:
        with pytest.raises(NoImage) as known:
            await bench.engine.images.from_image(EMPTY, "python:3.13-slim")
        with pytest.raises(NoImage) as unknown:
            await bench.engine.images.from_image(EMPTY, "somebody/something")

    assert known.value.hint is not None
    assert known.value.hint.endswith("or build a stand-in from Debian packages: --image-fallback recipe")
    assert unknown.value.hint == "fetch the image beforehand, or run without offline mode"


@pytest.mark.parametrize(
    ("name", "platform", "why"),
    [
        ("somebody/something", PLATFORM, "recipes exist for the official debian, ubuntu, python"),
        ("python@sha256:" + "0" * 64, PLATFORM, "it is pinned by digest"),
        ("python:3.13-slim", "linux/s390x", "recipes are made for this machine, not for linux/s390x"),
    ],
)
async def test_why_there_is_no_stand_in(tmp_path: Path, name: str, platform: str, why: str) -> None:
    async with open_workbench(tmp_path, image_fallback="recipe") as bench:
        with pytest.raises(NoImage, match=why):
            await bench.engine.images.from_image(Container(platform=platform), name)


async def test_an_archive_is_read_back(tmp_path: Path) -> None:
    """Root file system and configuration; the archive is private and in the store's own folder."""
    async with open_workbench(tmp_path) as bench:
        made = replace(
            bench.base.with_new_file("/text", "kept").with_entrypoint(["cat"]), annotations=(("a", "b"),)
        )
        path = await bench.engine.images.archive(made)
        mode = path.stat().st_mode & 0o777
        file = keep_file(bench.engine.store, path, "image.tar")

        back = await bench.engine.images.import_image(EMPTY, file)

        assert mode == 0o600
        assert back.config == made.config
        assert await bench.engine.digest(back.rootfs_directory()) == await bench.engine.digest(
            made.rootfs_directory()
        )


async def test_variants_of_an_empty_container_are_all_there_is(
    tmp_path: Path, registry: RealRegistry
) -> None:
    address = f"{registry.address}/many:1"
    async with open_workbench(tmp_path, offline=False) as bench:
        variants = [replace(bench.base, platform=p) for p in (PLATFORM, "linux/arm64")]
        await bench.engine.images.publish(EMPTY, address, variants=variants)

        found = await bench.engine.images.from_image(Container(platform="linux/arm64"), address)

        assert found.platform == "linux/arm64"


async def test_a_search_that_everybody_gave_up_ends_with_the_session(tmp_path: Path) -> None:
    """A registry that never answers keeps nobody."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = {"offline": False, "plain_http": (address,)}
        async with asyncio.timeout(30), open_workbench(tmp_path, **settings) as bench:
            wait = asyncio.ensure_future(bench.engine.images.from_image(EMPTY, f"{address}/app:1"))
            await asyncio.sleep(0.2)
            wait.cancel()
            await asyncio.gather(wait, return_exceptions=True)

    assert wait.cancelled()


async def test_a_lookup_ends_when_the_last_who_waits_for_it_has_gone(tmp_path: Path) -> None:
    """One of two may go and the lookup goes on; with the second its connection is closed."""
    asked, closed = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == b"\x16":  # a TLS handshake: plain HTTP follows when it is refused
            writer.close()
            return
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/app:1"
    async with server, open_workbench(tmp_path / "store", offline=False) as bench:
        images = bench.engine.images
        first, second = (asyncio.create_task(images.from_image(EMPTY, address)) for _ in range(2))
        await asyncio.wait_for(asked.wait(), 10)

        first.cancel()
        await asyncio.wait([first])
        went_on = not closed.is_set() and not second.done()
        second.cancel()
        await asyncio.wait([second])

        await asyncio.wait_for(closed.wait(), 10)
        assert went_on


async def test_a_lookup_that_is_given_up_in_the_tls_handshake_closes_its_connection(tmp_path: Path) -> None:
    """A server that reads and never answers; no socket is left to the garbage collector."""
    asked, closed = asyncio.Event(), asyncio.Event()

    async def read_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(read_only, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/app:1"
    async with server, open_workbench(tmp_path / "store", offline=False) as bench:
        lookup = asyncio.create_task(bench.engine.images.from_image(EMPTY, address))
        await asyncio.wait_for(asked.wait(), 10)

        lookup.cancel()
        await asyncio.wait([lookup])

        await asyncio.wait_for(closed.wait(), 10)
    gc.collect()
    assert lookup.cancelled()
