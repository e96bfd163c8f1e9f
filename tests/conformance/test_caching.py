"""What is run again and what is not."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.conftest import busybox, connected
from tests.conformance.test_protocol import has_process, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]
RANDOM = ["sh", "-c", "head -c 8 /dev/urandom | md5sum | tee /tmp/r; echo err >&2; exit 5"]
UUID = ["cat", "/proc/sys/kernel/random/uuid"]


async def test_an_exec_is_not_run_again_in_a_second_session(engines: Engines, rootfs: Path) -> None:
    """136, 138. What a command gave is known in the next session: files, streams and exit code."""

    async def run() -> tuple[str, str, int, str]:
        async with engines.session() as dag:
            done = busybox(dag, rootfs).with_exec(RANDOM, expect=dagger.ReturnType.ANY)
            return (
                await done.stdout(),
                await done.stderr(),
                await done.exit_code(),
                await done.file("/tmp/r").contents(),
            )

    assert await run() == await run()


async def test_a_failed_exec_runs_again(base: dagger.Container, unique: str) -> None:
    """137. Failures are not kept."""
    texts = []
    for _ in range(2):
        with pytest.raises(dagger.ExecError) as caught:
            await base.with_env_variable("U", unique).with_exec(RANDOM).sync()
        texts.append(caught.value.stdout)

    assert texts[0] != texts[1]


async def test_equal_execs_at_once_run_once(dag: dagger.Client, base: dagger.Container, unique: str) -> None:
    """139. Equal commands run once, as long as somebody waits for them."""
    cache = dag.cache_volume(unique)
    mounted = base.with_mounted_cache("/c", cache)
    command = mounted.with_exec(["sh", "-c", "echo x >> /c/runs; sleep 1"])
    leaving = asyncio.create_task(command.with_env_variable("A", "1").sync())
    staying = asyncio.create_task(command.with_env_variable("B", "1").sync())
    await asyncio.sleep(0.5)

    leaving.cancel()
    await staying

    assert await mounted.with_exec(["wc", "-l", "/c/runs"]).stdout() == "1 /c/runs\n"


async def test_a_command_ends_when_all_who_waited_have_gone(base: dagger.Container) -> None:
    """139. Equal commands end with the last who wants them."""
    command = base.with_exec(["sleep", "606"])
    waiting = [asyncio.create_task(command.with_env_variable("A", str(n)).sync()) for n in range(2)]
    await wait_for(lambda: has_process(["sleep", "606"]))

    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    await asyncio.sleep(0.3)
    assert has_process(["sleep", "606"])
    waiting[1].cancel()
    await asyncio.wait([waiting[1]])

    await wait_for(lambda: not has_process(["sleep", "606"]), within_s=1.5)


async def test_secrets_in_keys(engines: Engines, rootfs: Path) -> None:
    """132, 133. A secret counts by the name it was set with; by its value when looked up, or by a key."""

    async def run(value: str) -> tuple[str, str, str]:
        async with engines.session("store", TOKEN=value) as dag:
            base = busybox(dag, rootfs)
            named = base.with_secret_variable("S", dag.set_secret("n", value)).with_exec(UUID)
            looked_up = base.with_secret_variable("S", dag.secret("env://TOKEN")).with_exec(UUID)
            keyed = base.with_secret_variable("S", dag.secret("env://TOKEN", cache_key="k")).with_exec(UUID)
            return await named.stdout(), await looked_up.stdout(), await keyed.stdout()

    first, second = await run("one"), await run("two")

    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[2] == second[2]


async def test_no_secret_is_in_the_store(engines: Engines, rootfs: Path) -> None:
    """134. Values of secrets are nowhere in the store."""
    plain = "very-secret-134-text"
    async with engines.session("store", TOKEN=plain) as dag:
        secret = dag.set_secret("n", plain)
        base = busybox(dag, rootfs).with_secret_variable("S", secret).with_mounted_secret("/s", secret)
        assert await base.with_exec(["sh", "-c", "echo $S; cat /s"]).stdout() == "***\n***"
        assert await base.with_secret_variable("T", dag.secret("env://TOKEN")).id()

    found = subprocess.run(
        ["grep", "-rl", plain, engines.folder / "store"], capture_output=True, text=True, check=False
    )

    assert found.stdout == ""


@pytest.mark.differs("there a label is part of what a command runs in")
async def test_a_label_is_in_no_key(base: dagger.Container, unique: str) -> None:
    """140. A label that changed before a command does not repeat it."""
    marked = base.with_env_variable("U", unique)

    one, two = marked.with_label("a", "1").with_exec(UUID), marked.with_label("a", "2").with_exec(UUID)

    assert await one.stdout() == await two.stdout()
    assert await two.label("a") == "2"


async def test_equal_content_elsewhere_hits(
    dag: dagger.Client, base: dagger.Container, tmp_path: Path
) -> None:
    """141. Equal directories are the same one, wherever they are."""
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
        mounted = base.with_mounted_directory("/m", dag.host().directory(str(tmp_path / name)))
        texts.append(await mounted.with_exec(UUID).stdout())

    assert texts[0] == texts[1]


async def test_what_is_in_a_cache_volume_is_in_no_key(
    dag: dagger.Client, base: dagger.Container, unique: str
) -> None:
    """142. What a volume holds makes nothing run again."""
    mounted = base.with_mounted_cache("/c", dag.cache_volume(unique))
    uuid = mounted.with_exec(UUID)

    before = await uuid.stdout()
    await mounted.with_exec(["touch", "/c/x"]).sync()

    assert await uuid.with_env_variable("A", "1").stdout() == before


async def test_pruning_spares_what_is_in_use(engines: Engines, rootfs: Path) -> None:
    """143. What no session of now has used goes; what a running command stands on stays."""
    old, new = ([*UUID, name] for name in ("/etc/passwd", "/etc/group"))
    async with engines.session() as dag:
        gone = await busybox(dag, rootfs).with_exec(old).stdout()
    async with engines.session() as dag:
        base = busybox(dag, rootfs)
        used = base.with_exec(new)
        kept = await used.stdout()
        running = asyncio.create_task(used.with_exec(["sh", "-c", "sleep 1.5; cat /etc/group"]).stdout())
        await asyncio.sleep(0.5)
        cache = dag.engine().local_cache()
        before = await cache.entry_set().entry_count()

        await cache.prune()

        assert await cache.entry_set().entry_count() < before
        assert await running == (rootfs / "etc/group").read_text()
        assert await base.with_exec(new).stdout() == kept
        assert await base.with_exec(old).stdout() != gone


async def test_pruning_keeps_what_it_is_told_to_keep(engines: Engines, rootfs: Path) -> None:
    """143. Within its limits nothing of a cache goes; the limits can be asked for."""
    async with engines.session() as dag:
        kept = await busybox(dag, rootfs).with_exec(UUID).stdout()
    async with engines.session() as dag:
        cache = dag.engine().local_cache()
        sizes = [await cache.max_used_space(), await cache.target_space(), await cache.min_free_space()]

        await cache.prune(max_used_space="90%")
        await cache.prune(use_default_policy=True, reserved_space="1GB")

        assert sizes[0] > sizes[1] > 0
        assert sizes[2] > 0
        assert await cache.reserved_space() == 0
        assert await busybox(dag, rootfs).with_exec(UUID).stdout() == kept
        with pytest.raises(dagger.QueryError, match="cannot read the size"):
            await cache.prune(target_space="much")


async def test_a_killed_engine_leaves_a_store_that_opens(engines: Engines, rootfs: Path) -> None:
    """144. A killed engine loses nothing that was finished, and leaves nothing that was not."""
    engine = engines.start()
    async with connected(engine, "embedded", engine.workdir) as dag:
        done = busybox(dag, rootfs).with_exec(["sh", "-c", "cat /proc/sys/kernel/random/uuid > /tmp/u"])
        first = await done.file("/tmp/u").contents()
        running = asyncio.create_task(done.with_exec(["sh", "-c", "touch /tmp/half; sleep 604"]).sync())
        await asyncio.sleep(0.5)
        engine.kill()
        with pytest.raises(dagger.DaggerError):
            await running

    async with engines.session() as dag:
        done = busybox(dag, rootfs).with_exec(["sh", "-c", "cat /proc/sys/kernel/random/uuid > /tmp/u"])
        assert await done.file("/tmp/u").contents() == first


async def test_an_id_of_an_earlier_session_is_found(engines: Engines, rootfs: Path) -> None:
    """What a stage made can be taken up by another process, on another day."""
    async with engines.session() as dag:
        done = busybox(dag, rootfs).with_exec(UUID)
        identifier, text = await done.id(), await done.stdout()

    async with engines.session() as dag:
        again = dag.load_container_from_id(dagger.ContainerID(identifier))
        assert await again.stdout() == text
        assert await again.env_variable("PATH") == "/bin"
