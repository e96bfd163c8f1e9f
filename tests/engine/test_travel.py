"""A cache that travels: what one engine made, another need not make again."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.engine.container import Container
from pipeline.engine.engine import Engine
from pipeline.engine.events import ExecEvent
from pipeline.engine.ops import CacheVolume
from pipeline.engine.settings import EngineSettings
from pipeline.engine.store import Store
from pipeline.engine.travel.manifest import CacheRejected
from pipeline.engine.travel.pack import packing
from pipeline.engine.travel.places import CacheExportFailed, Directory, pull, push, write_directory
from pipeline.engine.travel.unpack import unpack
from tests.engine import busybox
from tests.engine.oci.servers import real_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipeline.engine.events import EngineEvent
    from pipeline.engine.travel.pack import Packed
    from pipeline.engine.travel.unpack import Imported

pytestmark = [pytest.mark.anyio, pytest.mark.root]

MIB = 1 << 20


@asynccontextmanager
async def machine(folder: Path) -> AsyncIterator[tuple[Engine, Container, list[EngineEvent]]]:
    """A machine with an engine: every folder is another one, with the same project on it."""
    busybox.require_launcher()
    rootfs = folder / "rootfs"
    if not rootfs.exists():
        busybox.fill(rootfs)
        (folder / "project").mkdir()
        (folder / "project/a.txt").write_text("one\n")
    events: list[EngineEvent] = []
    settings = EngineSettings(store=str(folder / "store"), offline=True)
    async with Engine.open(settings, workdir=folder, observer=events.append) as engine:
        base = Container(platform="linux/amd64").with_rootfs(await engine.host_directory("rootfs"))
        yield engine, base.with_env_variable("PATH", "/bin"), events


async def build(engine: Engine, base: Container) -> list[str]:
    """Do the work of a pipeline, and return all that can be seen of it."""
    project = await engine.host_directory("project")
    volume = CacheVolume(key="downloads")
    container = base.with_directory("/src", project).with_workdir("/src")
    container = container.with_mounted_cache("/cache", volume)
    container = container.with_exec(
        ["sh", "-c", "echo got > /cache/it; ln a.txt b.txt; rm /bin/vi; echo built"]
    )
    container = container.with_exec(
        ["sh", "-c", "mkdir -m 700 out; cp a.txt out; ls -l /cache >&2; echo packed"]
    )
    digest = await engine.digest(container.directory("/src"))
    return [await engine.output(container, "stdout"), await engine.output(container, "stderr"), digest]


def usage(folder: Path) -> dict[str, int]:
    """How many there are of each kind in a machine's store."""
    store = Store.open(folder / "store")
    try:
        return {each.kind: each.count for each in store.usage()}
    finally:
        store.close()


def ran(events: list[EngineEvent]) -> int:
    """How many commands were run."""
    return sum(isinstance(event, ExecEvent) and event.kind == "started" for event in events)


def carry(folder: Path, target: Path, **options: Any) -> Packed:
    """Export the cache of a machine to a directory."""
    store = Store.open(folder / "store")
    try:
        with packing(store, **{"max_bytes": 100 * MIB, **options}) as packed:
            write_directory(target, store, packed)
            return packed
    finally:
        store.close()


def take(folder: Path, source: Path) -> Imported:
    """Import a cache from a directory."""
    store = Store.open(folder / "store")
    try:
        cache = Directory(source)
        return unpack(store, cache.read(), cache, str(source))
    finally:
        store.close()


@pytest.fixture
async def here(tmp_path: Path) -> Path:
    """A machine on which the work was done."""
    folder = tmp_path / "here"
    folder.mkdir()
    async with machine(folder) as (engine, base, _):
        await build(engine, base)
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A machine on which nothing was done."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


async def test_another_machine_runs_nothing_again(here: Path, there: Path, tmp_path: Path) -> None:
    """Results, files, and cache volumes are there, as if it had made them."""
    carry(here, tmp_path / "cache")
    take(there, tmp_path / "cache")

    async with machine(here) as (engine, base, _):
        expected = await build(engine, base)
    async with machine(there) as (engine, base, events):
        found = await build(engine, base)
        listed = await engine.output(
            base.with_mounted_cache("/cache", CacheVolume(key="downloads")).with_exec(["cat", "/cache/it"]),
            "stdout",
        )

    assert found == expected
    assert usage(there)["images"] == usage(here)["images"]
    assert found[0] == "packed\n"
    assert (ran(events), listed) == (1, "got\n")


async def test_a_cache_goes_through_a_registry(here: Path, there: Path, tmp_path: Path) -> None:
    """What the registry has is not sent again, what the store has is not fetched."""
    from pipeline.engine.images import registry_for

    with real_registry(tmp_path / "registry") as registry:
        address = f"{registry.address}/team/cache:main"
        store = Store.open(here / "store")
        client = registry_for(store, EngineSettings())
        pushed = []
        for _ in range(2):
            with packing(store, max_bytes=100 * MIB) as packed:
                pushed.append(await push(client, address, packed))
        await client.aclose()
        store.close()
        store = Store.open(there / "store")
        client = registry_for(store, EngineSettings())
        imported = []
        for _ in range(2):
            cache = await pull(client, store, address)
            imported.append(unpack(store, cache.carried, cache, address))
        await client.aclose()
        store.close()
    async with machine(there) as (engine, base, events):
        await build(engine, base)

    assert pushed[0] == pushed[1]
    assert pushed[0].startswith(f"{address}@sha256:")
    assert (ran(events), imported[0].results > 2, imported[1].results, imported[1].snapshots) == (
        0,
        True,
        0,
        0,
    )


async def test_exporting_again_changes_only_what_is_new(here: Path, tmp_path: Path) -> None:
    """Blobs that are there stay; those nothing needs any more are removed."""
    carry(here, tmp_path / "cache")
    blobs = tmp_path / "cache/blobs/sha256"
    before = {path.name: path.stat().st_mtime_ns for path in blobs.iterdir()}
    async with machine(here) as (engine, base, _):
        await engine.output(base.with_exec(["sh", "-c", "echo more > /more"]), "stdout")

    packed = carry(here, tmp_path / "cache")

    after = {path.name: path.stat().st_mtime_ns for path in blobs.iterdir()}
    kept = before.keys() & after.keys()
    layers = {each.carried.blob.digest.removeprefix("sha256:") for each in packed.carried.snapshots}
    assert len(layers & kept) == len(layers) - 1
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after.keys() == {
        *(digest.removeprefix("sha256:") for digest in (*packed.carried.blobs(), packed.document.digest)),
        json.loads((tmp_path / "cache/index.json").read_text())["manifests"][0]["digest"][7:],
    }


@pytest.mark.parametrize(("max_bytes", "fits"), [(100 * MIB, True), (20_000, False), (0, False)])
async def test_a_budget_keeps_what_was_used_last(
    here: Path, tmp_path: Path, max_bytes: int, fits: bool
) -> None:
    """What does not fit is counted; what is carried stands on nothing that is not."""
    async with machine(here) as (engine, _, _):
        small = Container(platform="linux/amd64").with_new_file("/note", "small\n")
        await engine.sync(small)

    packed = carry(here, tmp_path / "cache", max_bytes=max_bytes)

    data_bytes = packed.size_bytes - packed.document.size_bytes
    assert (packed.left_out == 0, data_bytes <= max_bytes + 2000) == (fits, True)
    assert bool(packed.carried.results) == (max_bytes > 0)
    assert Directory(tmp_path / "cache").read() == packed.carried


async def test_volumes_can_stay_at_home(here: Path, tmp_path: Path) -> None:
    """They may be large, and hold what is nobody else's business."""
    with_them = carry(here, tmp_path / "a")
    without = carry(here, tmp_path / "b", with_volumes=False)

    assert (len(with_them.carried.volumes), len(without.carried.volumes)) == (1, 0)


async def test_a_volume_that_is_filled_is_left_as_it_is(here: Path, there: Path, tmp_path: Path) -> None:
    """What this machine has is at least as new."""
    carry(here, tmp_path / "cache")
    volume = CacheVolume(key="downloads")
    async with machine(there) as (engine, base, _):
        await engine.output(
            base.with_mounted_cache("/cache", volume).with_exec(["sh", "-c", "echo own > /cache/it"]),
            "stdout",
        )

    imported = take(there, tmp_path / "cache")

    async with machine(there) as (engine, base, _):
        seen = await engine.output(
            base.with_mounted_cache("/cache", volume).with_exec(["cat", "/cache/it"]), "stdout"
        )
    assert (imported.volumes, seen) == (0, "own\n")


async def test_an_export_leaves_nothing_of_its_own_in_the_store(here: Path, tmp_path: Path) -> None:
    """Lists and volumes are made anew each time; layers are kept for the next export."""
    packed = carry(here, tmp_path / "cache")

    left = {path.name for path in (here / "store").glob("blobs/sha256/*")}
    layers = {each.carried.layer.digest.removeprefix("sha256:") for each in packed.carried.snapshots}
    others = {packed.document.digest, *(each.layer.digest for each in packed.carried.volumes)}
    assert (layers <= left, {digest.removeprefix("sha256:") for digest in others} & left) == (True, set())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda cache: (cache / "index.json").unlink(), "`index.json` is missing"),
        (lambda cache: (cache / "index.json").write_text("{"), "Expecting property name"),
        (lambda cache: (cache / "index.json").write_text('{"manifests": []}'), "list index out of range"),
        (lambda cache: shutil.rmtree(cache), "`index.json` is missing"),
    ],
    ids=["no-index", "no-json", "no-manifest", "nothing"],
)
async def test_what_is_no_cache_is_refused(
    here: Path, there: Path, tmp_path: Path, damage: Any, reason: str
) -> None:
    """One sentence that names it."""
    cache = tmp_path / "cache"
    carry(here, cache)
    damage(cache)

    with pytest.raises(CacheRejected, match=f"cannot import the cache `{cache}`: {reason}"):
        take(there, cache)


async def test_any_damaged_blob_is_refused_and_what_came_before_it_is_whole(
    here: Path, there: Path, tmp_path: Path
) -> None:
    """Nothing wrong is ever used: the work is done again instead."""
    cache = tmp_path / "cache"
    carry(here, cache)
    blobs = sorted((cache / "blobs/sha256").iterdir())
    refused = 0
    for blob in blobs:
        data = blob.read_bytes()
        blob.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        folder = there / blob.name
        folder.mkdir()

        with pytest.raises(CacheRejected):
            take(folder, cache)

        refused += 1
        blob.write_bytes(data)
        async with machine(folder) as (engine, base, _):
            assert (await build(engine, base))[0] == "packed\n"
    assert refused == len(blobs)


async def test_a_list_cannot_name_what_is_not_there(here: Path, there: Path, tmp_path: Path) -> None:
    """Places out of range, cycles, and keys that are no digests are refused before anything is written."""
    from dataclasses import asdict

    from pipeline.engine.travel.manifest import VERSION, from_json

    good = {"version": VERSION, **asdict(carry(here, tmp_path / "cache").carried)}
    wrong: list[dict[str, Any]] = [
        {**good, "version": 2},
        {**good, "snapshots": [{**good["snapshots"][0], "parent": 0}]},
        {**good, "snapshots": []},
        {**good, "contents": {"../../etc": 0}},
        {**good, "results": [{**good["results"][0], "keys": ["x"]}]},
        {**good, "results": None},
    ]

    for table in wrong:
        with pytest.raises(CacheRejected, match="cannot import the cache `x`: "):
            from_json(json.dumps(table).encode(), "x")


async def test_a_directory_that_holds_something_else_is_not_written_to(here: Path, tmp_path: Path) -> None:
    """Nobody's files are lost by a wrong argument."""
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")

    with pytest.raises(CacheExportFailed) as failed:
        carry(here, target)

    assert str(failed.value) == f"cannot export the cache to `{target}`: it holds something else"
    assert os.listdir(target) == ["thesis.txt"]
