"""What is found, what is made, and what is shared or stopped while it is made."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import digest_text
from pipeline.engine import ops
from pipeline.engine.container import Container
from pipeline.engine.events import current_span
from pipeline.engine.files import Directory
from pipeline.engine.rootpath import EditFailed
from pipeline.engine.runtime.errors import ExecFailed
from pipeline.engine.solve import ContentGone
from pipeline.engine.threads import in_thread, settled
from tests.engine.workbench import PLATFORM, Workbench, open_workbench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Workbench]:
    async with open_workbench(tmp_path) as bench:
        yield bench


async def contents(bench: Workbench, directory: Directory, path: str) -> str:
    return await bench.engine.look(directory.tree, lambda root: (root / path).read_text())


async def mtime(bench: Workbench, directory: Directory, path: str) -> float:
    return await bench.engine.look(directory.tree, lambda root: (root / path).lstat().st_mtime)


# ---- keys ----------------------------------------------------------------------------------


async def test_equal_content_under_another_description_is_not_run_again(bench: Workbench) -> None:
    """One tree was read from a directory, the other from a part of another one."""
    one = await bench.host(file="same")
    two = (await bench.host(sub__file="same", other="different")).directory("sub")

    first = await bench.stdout(bench.sh("cat /src/file", bench.base.with_directory("/src", one)))
    second = await bench.stdout(bench.sh("cat /src/file", bench.base.with_directory("/src", two)))

    assert (first, second, bench.count_runs()) == ("same", "same", 1)


async def test_what_a_copy_does_not_take_is_not_in_its_key(bench: Workbench) -> None:
    """A filter leaves the changed file out; without it the command runs again."""
    one = await bench.host(file="same", readme="1")
    two = await bench.host(file="same", readme="2")

    for source in (one, two):
        await bench.engine.sync(bench.sh("true", bench.base.with_directory("/s", source, include=["file"])))
    filtered = bench.count_runs()
    for source in (one, two):
        await bench.engine.sync(bench.sh("true", bench.base.with_directory("/s", source)))

    assert (filtered, bench.count_runs()) == (1, 3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"permissions": 0o600}, {"permissions": 0o644}, id="permissions"),
        pytest.param({"owner": "1"}, {"owner": "2"}, id="owner"),
    ],
)
async def test_what_a_copy_makes_of_files_is_in_its_key(
    bench: Workbench, one: dict[str, Any], other: dict[str, Any]
) -> None:
    source = await bench.host(file="same")

    first = await bench.engine.digest(Directory().with_directory("/", source, **one))
    second = await bench.engine.digest(Directory().with_directory("/", source, **other))

    assert first != second


async def test_a_file_keeps_its_name_where_it_enters_a_directory(bench: Workbench) -> None:
    """Two files of equal content, copied into a directory that only evaluation shows to be one."""
    source = await bench.host(a="same", b="same")
    folder = Directory().with_new_directory("into")

    made = [folder.with_file("into", source.file(name)) for name in ("a", "b")]

    assert [await contents(bench, each, f"into/{name}") for each, name in zip(made, "ab", strict=True)] == [
        "same",
        "same",
    ]


async def test_names_of_owners_are_those_of_the_tree_copied_to(bench: Workbench) -> None:
    source = await bench.host(file="same")
    owners = []
    for number in (7, 8):
        target = Directory().with_new_file("etc/passwd", f"me:x:{number}:{number}::/:/bin/sh\n")
        made = target.with_directory("/d", source, owner="me")
        owners.append(await bench.engine.look(made.tree, lambda root: (root / "d/file").stat().st_uid))

    assert owners == [7, 8]


async def test_times_that_were_set_are_kept_by_copies_although_they_are_in_no_digest(
    bench: Workbench,
) -> None:
    """The copy of the same files without the times was made before."""
    source = await bench.host(file="same")
    plain = Directory().with_directory("/copy", source)
    await bench.engine.require(plain)

    dated = Directory().with_directory("/copy", source.with_timestamps(1000))
    again = Directory().with_directory("/", dated.directory("copy"))

    assert await mtime(bench, dated, "copy/file") == 1000
    assert await mtime(bench, again, "file") == 1000


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda c: c.with_env_variable("A", "1"), id="a variable"),
        pytest.param(lambda c: c.with_user("bob"), id="the user"),
        pytest.param(lambda c: c.with_workdir("/tmp"), id="the working directory"),
        pytest.param(lambda c: c.with_mounted_temp("/t"), id="a mount"),
        pytest.param(lambda c: c.with_mounted_cache("/t", ops.CacheVolume(key="k")), id="a cache"),
        pytest.param(lambda c: c.with_volatile_variable("V", "1"), id="the name of a volatile variable"),
    ],
)
async def test_what_a_command_sees_is_in_its_key(bench: Workbench, change: Any) -> None:
    await bench.engine.sync(bench.sh("true"))
    await bench.engine.sync(bench.sh("true", change(bench.base)))

    assert bench.count_runs() == 2


async def test_values_of_volatile_variables_and_of_labels_are_in_no_key(bench: Workbench) -> None:
    for value in ("1", "2"):
        changed = bench.base.with_volatile_variable("V", value).with_label("l", value)
        assert await bench.stdout(bench.sh("echo $V", changed)) == "1\n"

    assert bench.count_runs() == 1


# ---- results that are kept -----------------------------------------------------------------


async def test_a_failed_command_is_run_again_each_time(bench: Workbench) -> None:
    for _ in range(2):
        with pytest.raises(ExecFailed, match="exit code: 3"):
            await bench.engine.sync(bench.sh("exit 3"))

    assert bench.count_runs() == 2


async def test_an_expected_failure_is_a_result_like_any_other(bench: Workbench) -> None:
    """What was kept for one that expects it is not taken by one that does not."""
    for _ in range(2):
        result = await bench.engine.last_exec(bench.sh("exit 3", expect="ANY"))
        assert result.exit_code == 3

    assert bench.count_runs() == 1
    with pytest.raises(ExecFailed):
        await bench.engine.sync(bench.sh("exit 3"))


async def test_a_later_session_replays_everything_without_running(tmp_path: Path) -> None:
    """Output, code, root and writable mounts."""
    script = "echo out; echo err >&2; echo r >/root-file; echo m >/m/mount-file; exit 3"
    seen = []
    for _ in range(2):
        async with open_workbench(tmp_path) as bench:
            mounted = bench.base.with_mounted_directory("/m", await bench.host(x="x"))
            ran = bench.sh(script, mounted, expect="ANY")
            seen.append(
                (
                    *[await bench.engine.output(ran, stream) for stream in ("stdout", "stderr")],
                    sorted((await bench.engine.output(ran, "combined")).split()),
                    (await bench.engine.last_exec(ran)).exit_code,
                    await contents(bench, ran.rootfs_directory(), "root-file"),
                    await contents(bench, ran.directory("/m"), "mount-file"),
                )
            )
            runs = bench.count_runs()

    assert seen == [("out\n", "err\n", ["err", "out"], 3, "r\n", "m\n")] * 2
    assert runs == 0


async def test_what_was_pruned_is_made_again(tmp_path: Path) -> None:
    async with open_workbench(tmp_path) as bench:
        first = await bench.stdout(bench.sh("echo made; echo x >/file"))
    async with open_workbench(tmp_path) as bench:
        bench.engine.store.prune(max_bytes=0)

        second = await bench.stdout(bench.sh("echo made; echo x >/file"))

        assert (first, second, bench.count_runs()) == ("made\n", "made\n", 1)


async def test_content_that_is_gone_is_told_with_what_helps(bench: Workbench) -> None:
    gone = ops.Pinned(content=digest_text("never was"))

    with pytest.raises(ContentGone, match="no longer in the engine's store") as caught:
        await bench.engine.solver.tree(gone)

    assert caught.value.hint == "run again: the source is read anew"


async def test_an_edit_that_fails_leaves_no_draft(bench: Workbench) -> None:
    before = sorted(os.listdir(bench.engine.store.root / "snapshots"))
    directory = Directory().with_new_file("a", "x").with_symlink("t", "a")

    with pytest.raises(EditFailed, match="file exists"):
        await bench.engine.require(directory)

    after = sorted(os.listdir(bench.engine.store.root / "snapshots"))
    assert len(after) == len(before) + 1  # the file, which was made before the link failed


async def test_the_digest_of_a_file_does_not_know_its_name(bench: Workbench) -> None:
    source = await bench.host(a="same", b="same", c="other")

    digests = [await bench.engine.digest(source.file(name)) for name in "abc"]

    assert digests[0] == digests[1] != digests[2]


# ---- work that is shared -------------------------------------------------------------------


async def test_equal_commands_at_once_run_once_and_each_who_asked_is_told(bench: Workbench) -> None:
    """The second to ask is told what it would have been told a moment later: that it is there."""
    command = bench.sh("sleep 0.3; echo done")

    async def ask(span: str) -> str:
        current_span.set(span)
        return await bench.stdout(command)

    answers = await asyncio.gather(ask("a" * 16), ask("b" * 16))

    assert list(answers) == ["done\n", "done\n"]
    spans = {kind: [event.span_id for event in bench.told(kind)] for kind in ("started", "cached")}
    assert spans == {"started": ["a" * 16], "cached": ["b" * 16]}


async def test_all_who_wait_get_the_failure_and_the_next_runs_again(bench: Workbench) -> None:
    command = bench.sh("sleep 0.2; exit 4")

    results = await asyncio.gather(*(bench.stdout(command) for _ in range(3)), return_exceptions=True)

    assert [str(result) for result in results] == ["exit code: 4"] * 3
    assert bench.count_runs() == 1
    with pytest.raises(ExecFailed):
        await bench.stdout(command)
    assert bench.count_runs() == 2


async def test_one_of_two_who_leaves_stops_nothing(bench: Workbench) -> None:
    command = bench.sh("echo begun; sleep 0.5; echo done")
    first, second = (asyncio.ensure_future(bench.stdout(command)) for _ in range(2))
    await bench.until_output("begun")

    first.cancel()

    assert await second == "begun\ndone\n"
    assert bench.count_runs() == 1


async def test_when_all_have_left_the_command_is_killed_and_nothing_stays(bench: Workbench) -> None:
    """Within a second; the next who asks runs it anew."""
    mark = f"3{os.getpid()}"
    command = bench.sh(f"echo begun; sleep {mark}")
    waits = [asyncio.ensure_future(bench.stdout(command)) for _ in range(2)]
    await bench.until_output("begun")
    drafts = len(os.listdir(bench.engine.store.root / "snapshots"))

    began = time.monotonic()
    for wait in waits:
        wait.cancel()
    ended: list[object] = await asyncio.gather(*waits, return_exceptions=True)

    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    assert time.monotonic() - began < 1
    assert not processes_with(mark)
    assert len(os.listdir(bench.engine.store.root / "snapshots")) == drafts - 1


async def test_whoever_is_cancelled_twice_still_waits_until_the_command_is_gone(bench: Workbench) -> None:
    """A clean-up that cancels again, as task groups do, cuts nothing short."""
    mark = f"4{os.getpid()}"
    wait = asyncio.ensure_future(bench.engine.sync(bench.sh("true", bench.sh(f"echo begun; sleep {mark}"))))
    await bench.until_output("begun")

    wait.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
        wait.cancel()
    await asyncio.gather(wait, return_exceptions=True)

    assert not processes_with(mark)
    assert not bench.engine.solver._tasks


async def test_a_failure_ends_what_was_wanted_beside_it(bench: Workbench) -> None:
    mark = f"5{os.getpid()}"
    slow = bench.sh(f"sleep {mark}")
    failing = bench.sh("sleep 0.2; exit 1")

    with pytest.raises(ExecFailed):
        await bench.engine.solver.trees([slow.rootfs, failing.rootfs])

    assert not processes_with(mark)


async def test_a_session_that_ends_takes_its_commands_along(tmp_path: Path) -> None:
    mark = f"6{os.getpid()}"
    async with open_workbench(tmp_path) as bench:
        wait = asyncio.ensure_future(bench.stdout(bench.sh(f"echo begun; sleep {mark}")))
        await bench.until_output("begun")

    assert not processes_with(mark)
    assert isinstance((await asyncio.gather(wait, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_service_that_needs_a_command_gets_its_turn(tmp_path: Path) -> None:
    """Only one command may run at once, and the service of that one is made by another."""
    async with open_workbench(tmp_path, max_execs=1) as bench:
        made = bench.sh("echo hello >/page")
        serving = made.with_exposed_port(80).as_service(args=["httpd", "-f", "-p", "80", "-h", "/"])
        client = bench.sh("wget -qO- http://web/page", bench.base.with_service_binding("web", serving))

        async with asyncio.timeout(30):
            assert await bench.stdout(client) == "hello\n"


async def test_no_more_commands_run_at_once_than_allowed(tmp_path: Path) -> None:
    """Those that wait for a locked volume take no place."""
    async with open_workbench(tmp_path, max_execs=2) as bench:
        volume = ops.CacheVolume(key="k", sharing="LOCKED")
        locked = [
            bench.sh(f"echo l{n}; sleep 0.7", bench.base.with_mounted_cache("/c", volume)) for n in range(3)
        ]
        free = bench.sh("echo free")
        waits = [asyncio.ensure_future(bench.stdout(each)) for each in locked]
        await bench.until_output("l")

        assert await bench.stdout(free) == "free\n"
        still_waiting = [one for one in waits if not one.done()]
        await asyncio.gather(*waits)

        assert still_waiting  # had those that wait taken the places, all of them would have been done before
        assert bench.count_runs() == 4


def processes_with(mark: str) -> list[str]:
    """Return the command lines of running processes with `mark` in them."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as stream:
                    line = stream.read().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"sleep {mark}" in line:
                found.append(line)
    return found


# ---- threads -------------------------------------------------------------------------------


async def test_a_thread_is_waited_for_however_often_its_caller_is_cancelled() -> None:
    done: list[str] = []

    def work() -> None:
        time.sleep(0.3)
        done.append("work")

    caller = asyncio.ensure_future(in_thread(work))
    for _ in range(5):
        await asyncio.sleep(0.01)
        caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    assert caller.cancelled()
    assert done == ["work"]


async def test_waiting_for_tasks_ends_at_its_limit() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))

    began = time.monotonic()
    await settled(task, within_s=0.1)

    assert 0.1 <= time.monotonic() - began < 5
    assert not task.done()
    task.cancel()
    await settled(task)


async def test_a_container_without_files_is_empty(bench: Workbench) -> None:
    await bench.engine.sync(Container(platform=PLATFORM))

    assert await bench.engine.look(ops.Scratch(), lambda root: os.listdir(root)) == []
