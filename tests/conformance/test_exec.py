"""Containers: running commands."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dagger
import pytest
from dagger import ReturnType

from tests.conformance.conftest import busybox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess, Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


async def test_streams_are_apart_and_untrimmed(base: dagger.Container) -> None:
    """51. The streams are told apart, byte for byte, and together."""
    done = base.with_exec(["sh", "-c", "echo ' out '; echo err >&2; echo more"])

    assert await done.stdout() == " out \nmore\n"
    assert await done.stderr() == "err\n"
    assert sorted(await done.combined_output()) == sorted(" out \nmore\nerr\n")


async def test_later_changes_keep_the_output_of_the_last_exec(base: dagger.Container) -> None:
    """52. What the last command printed stays known."""
    done = base.with_exec(["echo", "hi"]).with_env_variable("A", "1").with_new_file("/tmp/x", "")

    assert await done.stdout() == "hi\n"
    assert await done.exit_code() == 0


async def test_stdin_is_given_and_ends(base: dagger.Container) -> None:
    """53. Input is the text given, else nothing, and ends."""
    assert await base.with_exec(["cat"], stdin="some\ntext").stdout() == "some\ntext"
    assert await base.with_exec(["cat"]).stdout() == ""


async def test_stdin_from_a_file(base: dagger.Container) -> None:
    """54. Input can be a file of the container; both at once are refused."""
    container = base.with_workdir("/tmp").with_new_file("/tmp/in", "from a file")

    assert await container.with_exec(["cat"], redirect_stdin="in").stdout() == "from a file"
    with pytest.raises(dagger.QueryError, match="stdin"):
        await container.with_exec(["cat"], redirect_stdin="in", stdin="x").id()
    with pytest.raises(dagger.ExecError) as caught:
        await container.with_exec(["cat"], redirect_stdin="missing").sync()
    assert caught.value.exit_code == -1


async def test_output_to_files(base: dagger.Container) -> None:
    """55. Output can go to files as well; a new one belongs to the user alone, an old one keeps its mode."""
    container = base.with_user("auser").with_workdir("/tmp")
    done = container.with_exec(
        ["sh", "-c", "echo out; echo err >&2"], redirect_stdout="o", redirect_stderr="/tmp/e"
    )
    old = base.with_new_file("/tmp/o", "something longer", permissions=0o640, owner="auser")
    again = old.with_exec(["echo", "new"], redirect_stdout="/tmp/o")

    look = ["sh", "-c", "stat -c '%a %u' /tmp/o"]
    assert await done.stdout() == "out\n"
    assert await done.file("/tmp/o").contents() == "out\n"
    assert await done.file("/tmp/e").contents() == "err\n"
    assert await done.with_exec(look).stdout() == "600 1234\n"
    assert await again.file("/tmp/o").contents() == "new\n"
    assert await again.stat("/tmp/o").permissions() == 0o640
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["echo"], redirect_stdout="/no/such/folder/o").sync()
    assert caught.value.exit_code == -1


@pytest.mark.differs("there it belongs to the user of the command afterwards")
async def test_output_to_a_file_that_is_there(base: dagger.Container) -> None:
    """55. A file that is written over keeps its owner."""
    old = base.with_new_file("/tmp/o", "something longer", permissions=0o640, owner="auser")

    again = old.with_exec(["echo", "new"], redirect_stdout="/tmp/o")

    assert await again.with_exec(["stat", "-c", "%a %u", "/tmp/o"]).stdout() == "640 1234\n"


@pytest.mark.parametrize(
    ("expect", "code", "accepted"),
    [
        (ReturnType.SUCCESS, 0, True),
        (ReturnType.SUCCESS, 1, False),
        (ReturnType.FAILURE, 0, False),
        (ReturnType.FAILURE, 1, True),
        (ReturnType.FAILURE, 200, True),
        (ReturnType.ANY, 0, True),
        (ReturnType.ANY, 3, True),
        (ReturnType.ANY, 137, False),
        (ReturnType.ANY, 200, True),
    ],
)
async def test_expected_exit_codes(
    base: dagger.Container, expect: ReturnType, code: int, accepted: bool
) -> None:
    """56, 57, 58. What counts as success can be said; what a signal ended never does."""
    done = base.with_exec(["sh", "-c", f"touch /tmp/made; exit {code}"], expect=expect)

    if accepted:
        assert await done.exit_code() == code
        assert await done.directory("/tmp").entries() == ["made"]
    else:
        with pytest.raises(dagger.ExecError, match=f"exit code: {code}"):
            await done.sync()


async def test_death_by_a_signal_always_fails(base: dagger.Container) -> None:
    """58. A command that was killed has failed, whatever was expected."""
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["sh", "-c", "kill -9 $$"], expect=ReturnType.ANY).sync()

    assert caught.value.exit_code == 137


@pytest.mark.parametrize("no_init", [False, True])
async def test_a_missing_command_fails_with_its_name(base: dagger.Container, no_init: bool) -> None:
    """59. A command that is not there fails with code 1 and is named."""
    with pytest.raises(dagger.ExecError) as caught:
        await base.with_exec(["no-such-command"], no_init=no_init).sync()

    assert caught.value.exit_code == 1
    assert "no-such-command" in caught.value.stderr


async def test_process_one_is_an_init_unless_unwanted(base: dagger.Container) -> None:
    """60. The first process is an init, or the command where none is wanted."""
    command = ["sh", "-c", "echo $$"]

    assert await base.with_exec(command).stdout() != "1\n"
    assert await base.with_exec(command, no_init=True).stdout() == "1\n"


async def test_a_background_child_does_not_keep_the_exec_alive(base: dagger.Container) -> None:
    """61. A command is done when its first process is."""
    assert await base.with_exec(["sh", "-c", "sleep 500 & echo done"]).stdout() == "done\n"


async def test_the_host_name(base: dagger.Container) -> None:
    """63. Every command has the same host name."""
    assert await base.with_exec(["hostname"]).stdout() == "dagger\n"


async def test_hosts_and_resolver_are_not_the_images_and_not_changed(base: dagger.Container) -> None:
    """64, 65. The files that tell names are the engine's, read-only, and no part of the result."""
    container = base.with_new_file("/etc/hosts", "mine").with_new_file("/etc/resolv.conf", "mine")
    done = container.with_exec(["sh", "-c", "cat /etc/hosts; (echo x >> /etc/hosts) 2>&1 || echo refused"])

    text = await done.stdout()

    assert "127.0.0.1" in text
    assert "mine" not in text
    assert text.endswith("refused\n")
    assert await done.file("/etc/hosts").contents() == "mine"
    assert await done.file("/etc/resolv.conf").contents() == "mine"


@pytest.mark.parametrize(
    ("command", "works"),
    [
        ("echo 1 > /proc/sys/kernel/printk", False),
        ("head -c 1 /proc/kcore | grep -q .", False),
        ("mount -t tmpfs none /tmp", False),
        ("unshare -m true", False),
        ("touch /tmp/f && chown 5:6 /tmp/f", True),
        ("mknod /tmp/null c 1 3", os.geteuid() == 0),  # a user namespace allows nobody to
    ],
)
async def test_what_a_command_may_do(base: dagger.Container, command: str, works: bool) -> None:
    """66. A command has the rights that Docker gives, no more."""
    done = base.with_exec(["sh", "-c", f"({command}) 2>/dev/null && echo yes || echo no"])

    assert await done.stdout() == ("yes\n" if works else "no\n")


async def test_a_command_may_be_given_all_rights(base: dagger.Container) -> None:
    """67. With `insecure_root_capabilities` a command may do what the machine's root may."""
    done = base.with_exec(
        ["sh", "-c", "mount -t tmpfs none /tmp && echo mounted"], insecure_root_capabilities=True
    )

    assert await done.stdout() == "mounted\n"


@pytest.mark.differs("there the root has another digest all the same")
async def test_an_exec_that_writes_nothing_changes_nothing(base: dagger.Container) -> None:
    """68. A root that nothing was written to keeps its digest."""
    assert await base.with_exec(["true"]).rootfs().digest() == await base.rootfs().digest()


async def test_mount_points_do_not_appear_in_the_root(dag: dagger.Client, base: dagger.Container) -> None:
    """69. Places made for mounts are gone afterwards."""
    secret = dag.set_secret("conformance-69", "x")
    done = (
        base.with_mounted_cache("/new/cache", dag.cache_volume("conformance-69"))
        .with_mounted_secret("/new/secret", secret)
        .with_mounted_directory("/new/dir", dag.directory())
        .with_exec(["ls", "/new"])
    )

    assert await done.stdout() == "cache\ndir\nsecret\n"
    assert await done.rootfs().exists("new") is False


async def test_volatile_variables(base: dagger.Container) -> None:
    """70, 71. A volatile value is seen by what runs, and makes nothing run again."""
    command = ["sh", "-c", "echo $V; head -c 8 /dev/urandom | md5sum > /tmp/random"]
    one = base.with_volatile_variable("V", "1").with_exec(command)
    two = base.with_volatile_variable("V", "2").with_exec(command)

    assert await one.stdout() == "1\n"
    assert await two.stdout() == "1\n"
    assert await one.file("/tmp/random").contents() == await two.file("/tmp/random").contents()
    assert await two.env_variable("V") is None
    assert await two.with_exec(["sh", "-c", "echo $V"]).stdout() == "2\n"


async def test_volatile_variables_are_for_commands_alone(
    dag: dagger.Client, base: dagger.Container, unique: str, registry: str
) -> None:
    """70. A name that is added counts; services and images know nothing of it."""
    random = ["cat", "/proc/sys/kernel/random/uuid"]
    marked = base.with_env_variable("U", unique)
    named = marked.with_volatile_variable("V", "1")
    show = ["sh", "-c", "mkdir /www; env > /www/env; exec httpd -f -p 8080 -h /www"]
    service = named.with_exposed_port(8080).with_default_args(show).as_service()

    bound = base.with_service_binding("web", service).with_env_variable("N", unique)
    seen = await bound.with_exec(["wget", "-qO-", "http://web:8080/env"]).stdout()
    image = dag.container().from_(await named.publish(f"{registry}/volatile:{unique}"))

    assert await marked.with_exec(random).stdout() != await named.with_exec(random).stdout()
    assert f"U={unique}\n" in seen
    assert "V=" not in seen
    assert [await v.name() for v in await image.env_variables()] == ["PATH", "U"]


async def test_environment_basics(base: dagger.Container) -> None:
    """72. There is always a path to search and a home directory."""
    bare = base.without_env_variable("PATH").with_exec(["/bin/sh", "-c", "echo $PATH; echo $HOME"])

    assert await bare.stdout() == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/root\n"


async def test_proxies_of_the_engine_reach_a_command(engines: Engines, rootfs: Path) -> None:
    """72. In both spellings, unless the container sets one; they make nothing run again."""
    show = ["sh", "-c", "echo $HTTP_PROXY $http_proxy $no_proxy; cat /proc/sys/kernel/random/uuid"]
    texts = []
    for proxy in ("http://one.invalid:1", "http://two.invalid:2"):
        async with engines.session("store", HTTP_PROXY=proxy, no_proxy="localhost") as dag:
            base = busybox(dag, rootfs)
            own = base.with_env_variable("http_proxy", "http://mine.invalid:3")
            texts.append(
                [await c.with_exec(show).stdout() for c in (base, own.with_env_variable("N", proxy))]
            )

    lines = [text.splitlines()[0] for pair in texts for text in pair]
    assert lines[0] == "http://one.invalid:1 http://one.invalid:1 localhost"
    assert lines[1] == lines[3] == "http://mine.invalid:3 localhost"
    assert texts[0][0] == texts[1][0]


@pytest.mark.slow
async def test_much_output_does_not_fill_the_memory(base: dagger.Container, embedded: EngineProcess) -> None:
    """73. Output goes to the disk, not to memory."""
    done = base.with_exec(["sh", "-c", "yes 0123456789abcdef0123456789abcdef | head -c 200000000"])
    await done.sync()

    with open(f"/proc/{embedded.process.pid}/status") as status:
        peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak_kb < 200_000


async def test_output_that_is_no_utf8_is_replaced(base: dagger.Container) -> None:
    """51. Bytes that are no UTF-8 are told as U+FFFD."""
    assert await base.with_exec(["printf", "a\\377b"]).stdout() == "a\ufffdb"


async def test_a_static_program_runs_on_nothing(dag: dagger.Client, base: dagger.Container) -> None:
    """A program that needs no other files runs in a container of its own."""
    program = base.file("/bin/busybox")
    container = dag.container().with_file("/busybox", program)

    assert await container.with_exec(["/busybox", "echo", "alone"]).stdout() == "alone\n"


async def test_a_killed_engine_leaves_no_process(engines: Engines) -> None:
    """What an engine was running dies with it, however it dies."""
    import asyncio
    import shutil

    from tests.conformance.conftest import connected
    from tests.conformance.test_protocol import has_process, wait_for

    engine = engines.start()
    async with connected(engine, "embedded", engine.workdir) as dag:
        program = dag.host().file(shutil.which("busybox") or "")
        command = dag.container().with_file("/sleep", program).with_exec(["/sleep", "603"])
        running = asyncio.create_task(command.sync())
        await wait_for(lambda: has_process(["/sleep", "603"]))

        engine.kill()

        await wait_for(lambda: not has_process(["/sleep", "603"]))
        with pytest.raises(dagger.DaggerError):
            await running
    assert os.path.isdir(engine.store)
