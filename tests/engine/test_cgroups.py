"""Control groups: a leaf for each exec, what it tells and forbids, and that none is left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.connect import open_session, parse_target
from pipeline.engine.runtime.cgroups import Cgroups, Limits, find_problem, in_leaf, parents_of
from pipeline.engine.runtime.errors import ExecFailed
from pipeline.engine.runtime.launcher import LauncherRunner
from pipeline.engine.settings import EngineSettings
from tests.engine import busybox
from tests.engine.test_execute import Lab, lab
from tests.engine.test_runner import Bench, Result, root

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["lab", "root"]

pytestmark = [pytest.mark.root, pytest.mark.anyio]
LIMITS = Limits(memory_bytes=48 << 20, pids=20)


@pytest.fixture
def bench(root: Path, tmp_path: Path) -> Iterator[Bench]:
    busybox.require_launcher()
    if problem := find_problem():
        pytest.skip(problem)
    runner = LauncherRunner(limits=LIMITS)
    assert runner.cgroups is not None
    yield Bench(runner, root, tmp_path)
    runner.cgroups.close()


async def run(bench: Bench, script: str, *, insecure: bool = False) -> tuple[Result, bool]:
    """Return how it ended, and whether memory ran out."""
    spec = replace(bench.spec("sh", "-c", script), insecure=insecure)
    with in_leaf(bench.runner.cgroups, spec) as (placed, leaf):
        assert leaf is not None
        result = await bench.run(placed)
        return result, leaf.ran_out_of_memory()


def require_controller(bench: Bench, name: str) -> None:
    assert bench.runner.cgroups is not None
    with bench.runner.cgroups.lease() as leaf:
        if leaf is None or not any((place / name).exists() for place in leaf.directories):
            pytest.skip(f"no `{name}` in the control groups here")


async def test_the_end_of_memory_is_told_by_the_kernel_not_by_the_code(bench: Bench) -> None:
    """Also when the command made another code of it; and a command that kills itself did not run out."""
    if not any((Path("/sys/fs/cgroup") / name).exists() for name in ("memory", "cgroup.controllers")):
        pytest.skip("no memory controller here")

    outcomes = [
        await run(bench, "dd if=/dev/zero of=/dev/null bs=100M count=1 || exit 5"),
        await run(bench, "kill -9 $$"),
        await run(bench, "exit 5"),
    ]

    assert [(result.code, told) for result, told in outcomes] == [(5, True), (137, False), (5, False)]


async def test_an_exec_that_ran_out_of_memory_says_so(lab: Lab) -> None:
    """The code in the message stays the command's."""
    if problem := find_problem():
        pytest.skip(problem)
    lab.runner = LauncherRunner(limits=LIMITS)

    with pytest.raises(ExecFailed) as caught:
        await lab.run(lab.exec("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"))

    assert (str(caught.value), caught.value.exit_code) == ("exit code: 137 (out of memory)", 137)


async def test_a_fork_bomb_stops_at_the_limit(bench: Bench) -> None:
    """What it started is gone afterwards."""
    require_controller(bench, "pids.max")

    result, _ = await run(bench, "for i in $(seq 50); do sleep 100 & done; echo alive")

    assert "alive" not in result.stdout
    assert "fork" in result.stderr


@pytest.mark.parametrize("device", ["b 7 0", "c 10 229", "c 10 237"], ids=["disk", "fuse", "loop-control"])
@pytest.mark.parametrize("leaf", [True, False], ids=["leaf", "no-leaf"])
async def test_a_new_device_file_opens_nothing(bench: Bench, device: str, leaf: bool) -> None:
    """Wherever it is made, by the leaf or by how the file systems are mounted."""
    script = (
        f"for at in /tmp/x /dev/x /dev/shm/x /m/x; do mknod $at {device}; (: < $at) 2>&1; done | "
        "grep -c 'not permitted\\|ermission denied'"
    )
    if leaf:
        result, _ = await run(bench, f"mkdir /m; {script}")
    else:
        result = await bench.sh(f"mkdir /m; {script}")

    assert result.stdout == "4\n"


async def test_a_usual_device_can_be_made_anywhere_in_a_leaf_that_guards_devices(bench: Bench) -> None:
    """As tools that make root file systems do."""
    require_controller(bench, "devices.deny")

    result, _ = await run(bench, "mknod /tmp/null c 1 3 && echo gone > /tmp/null && echo works")

    assert result.stdout == "works\n"


async def test_an_insecure_exec_may_use_other_devices(bench: Bench) -> None:
    """The leaf does not guard them for it."""
    result, _ = await run(bench, ": < /dev/fuse && echo opened", insecure=True)

    assert result.stdout == "opened\n" or not Path("/dev/fuse").exists()


async def test_leaves_are_used_again_and_removed_at_the_end(bench: Bench) -> None:
    """A few execs one by one need one leaf; at once, one each."""
    cgroups = bench.runner.cgroups
    assert cgroups is not None
    with cgroups.lease() as first:
        assert first is not None
    base = first.directories[0].parent

    for _ in range(3):
        await run(bench, "true")
    with cgroups.lease(), cgroups.lease():
        leaves = sorted(path.name for path in base.iterdir() if path.is_dir())
    cgroups.close()

    assert leaves == ["1", "2"]
    assert not base.exists()


async def test_a_leaf_is_used_again_once_what_ran_in_it_is_gone(bench: Bench) -> None:
    """A process that outlives its exec's end by a moment costs no leaf for good."""
    cgroups = bench.runner.cgroups
    assert cgroups is not None
    with cgroups.lease() as first:
        assert first is not None
        sleeper = subprocess.Popen(["sleep", "60"])
        for directory in first.directories:
            (directory / "cgroup.procs").write_text(str(sleeper.pid))
    sleeper.wait()

    with cgroups.lease() as second:
        pass

    assert second == first


ENGINE = """
import os, signal
from pipeline.connect import open_session, parse_target
from pipeline.engine.runtime.cgroups import Cgroups
with Cgroups().lease() as leaf:
    print(*(place.parent for place in leaf.directories), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_what_a_killed_engine_left_goes_with_the_next(bench: Bench) -> None:
    """It is told from one that is alive by a lock."""
    done = subprocess.run([sys.executable, "-c", ENGINE], capture_output=True, text=True, check=False)
    bases = [Path(word) for word in done.stdout.split()]
    assert bases
    assert all(base.exists() for base in bases)

    Cgroups().close()

    assert bench.runner.cgroups is not None
    with bench.runner.cgroups.lease() as mine:
        assert mine is not None
        assert mine.directories[0].exists()
    assert not any(base.exists() for base in bases)


async def test_without_control_groups_execs_run_without(tmp_path: Path) -> None:
    """And it is said why."""
    cgroups = Cgroups(root=tmp_path)

    with cgroups.lease() as leaf:
        pass

    assert (leaf, cgroups.problem) == (None, f"no control groups are mounted at `{tmp_path}`")


@pytest.mark.parametrize(
    ("files", "groups", "expected"),
    [
        pytest.param(["cgroup.controllers"], "0::/\n", ["."], id="v2-root"),
        pytest.param(
            ["cgroup.controllers", "user.slice/session/"], "0::/user.slice/session\n", ["user.slice"], id="v2"
        ),
        pytest.param(["cgroup.controllers"], "0::/not/seen/here\n", ["."], id="v2-in-a-container"),
        pytest.param(
            ["memory/cgroup.procs", "memory/a/", "pids/cgroup.procs"],
            "4:memory:/a\n3:pids:/b\n2:cpu:/\n0::/\n",
            ["memory/a", "pids"],
            id="v1",
        ),
        pytest.param([], "", [], id="none"),
    ],
)
async def test_where_leaves_are_made(
    tmp_path: Path, files: list[str], groups: str, expected: list[str]
) -> None:
    """Below the group the engine is in, or in version 2 beside it."""
    for name in files:
        place = tmp_path / name
        if name.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    assert parents_of(groups, tmp_path) == [tmp_path / name for name in expected]


async def test_a_group_of_version_2_is_killed_as_a_whole(root: Path, tmp_path: Path) -> None:
    """Whatever is left in it."""
    unified = next(
        (place for place in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
         if (place / "cgroup.controllers").exists()), None,
    )  # fmt: skip
    if unified is None or os.geteuid() != 0:
        pytest.skip("no control groups of version 2 here")
    cgroups = Cgroups(root=unified)
    sleeper = subprocess.Popen(["sleep", "100"])

    with cgroups.lease() as leaf:
        assert leaf is not None
        (leaf.directories[0] / "cgroup.procs").write_text(str(sleeper.pid))
    code = sleeper.wait(timeout=5)
    cgroups.close()

    assert code == -9
    assert not leaf.directories[0].exists()


async def test_the_settings_bound_an_exec_and_the_client_is_told(tmp_path: Path) -> None:
    """As in a session of the SDK."""
    import dagger

    busybox.require_launcher()
    if problem := find_problem():
        pytest.skip(problem)
    busybox.fill(tmp_path / "root")
    settings = EngineSettings(store=str(tmp_path / "store"), offline=True, exec_memory_bytes=48 << 20)

    async with open_session(
        parse_target("embedded"), settings, workdir=tmp_path, observer=lambda _event: None
    ) as client:
        box = client.container().with_rootfs(client.host().directory(str(tmp_path / "root")))
        with pytest.raises(dagger.ExecError) as caught:
            await box.with_exec(["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]).sync()

    assert caught.value.exit_code == 137
    assert "out of memory" in str(caught.value)
