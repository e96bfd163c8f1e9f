"""Signals, closed terminals and deadlines end a run in bounded time, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.pipelines.robust import COMMAND, finish

if TYPE_CHECKING:
    from tests.pipelines.robust import RobustProject

SLEEPER = '''
from pipeline import Context, stage

drop = ["*"]


@stage()
async def wait(ctx: Context) -> None:
    """Sleep in a container that hears no polite signal."""
    client = await ctx.dagger()
    container = client.container().with_rootfs(client.host().directory("ROOTFS"))
    script = "trap '' TERM INT HUP; echo asleep; sleep 600 & sleep 601; true"
    await container.with_exec(["sh", "-c", script]).sync()


@stage()
async def after(ctx: Context, wait: None) -> None:
    """Never reached."""
'''

STUBBORN = '''
import asyncio

from pipeline import Context, stage

drop = ["*"]


@stage()
async def wait(ctx: Context) -> None:
    """Does not stop when it is asked to."""
    client = await ctx.dagger()
    await client.default_platform()
    (ctx.root / "begun").touch()
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            continue
'''


def assert_nothing_is_left(project: RobustProject, mounts: list[str]) -> None:
    """No process, mount, network device or rule."""
    assert project.wait_until_gone() == {}
    assert project.room.mounts() == mounts
    assert (project.room.links(), project.room.rules()) == (["lo"], [])


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_in_a_long_exec_ends_the_run_cleanly(bare: RobustProject, number: signal.Signals) -> None:
    """Exit code 130 within seconds; the record says what was interrupted; the container is gone."""
    bare.write({"ci/stages.py": SLEEPER})
    mounts = bare.room.mounts()
    process = bare.start("run")
    bare.wait_for("sleep 601")

    began = time.monotonic()
    process.send_signal(number)
    done = finish(process, within_s=30)

    assert time.monotonic() - began < 5
    assert done.code == 130, done
    assert_nothing_is_left(bare, mounts)
    record = bare.record()
    assert record["outcome"] == "cancellation"
    assert record["message"].startswith(f"interrupted by {number.name} while `wait`")
    outcomes = {name: row["outcome"] for name, row in record["stages"].items()}
    assert outcomes == {"wait": "cancellation", "after": "skip"}
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_a_second_signal_kills_a_run_whose_stage_does_not_stop(bare: RobustProject) -> None:
    """The record still has the end, and the engine ends with the command."""
    bare.write({"ci/stages.py": STUBBORN})
    mounts = bare.room.mounts()
    process = bare.start("run")
    while not (bare.root / "begun").exists():
        time.sleep(0.02)

    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    done = finish(process, within_s=5)

    assert done.code == 130
    assert_nothing_is_left(bare, mounts)
    assert bare.record()["message"] == "killed by a second SIGINT"


@pytest.mark.root
def test_a_closed_terminal_ends_the_run(bare: RobustProject) -> None:
    """Output that cannot be written any more stops neither the cleaning up nor the record."""
    bare.write({"ci/stages.py": SLEEPER})
    mounts = bare.room.mounts()
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *bare.room.argv(str(COMMAND), "-C", str(bare.root), "run")],
        env={**bare.environment({}), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    bare.started.add(process.pid)
    os.close(theirs)
    bare.wait_for("sleep 601")

    os.close(ours)

    assert process.wait(10) == 130
    assert_nothing_is_left(bare, mounts)
    assert bare.record()["outcome"] == "cancellation"


@pytest.mark.root
def test_nohup_keeps_a_run_alive(bare: RobustProject) -> None:
    """A hang-up that is ignored when the run begins stays ignored; other signals end it."""
    bare.write({"ci/stages.py": SLEEPER})
    process = bare.start("run", before=("nohup",))
    bare.wait_for("sleep 601")

    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    done = finish(process, within_s=30)

    assert done.code == 130
    assert bare.record()["message"].startswith("interrupted by SIGTERM")


@pytest.mark.root
def test_the_runs_limit_ends_it_and_says_what_was_going_on(bare: RobustProject) -> None:
    """Exit code 124."""
    bare.write({"ci/stages.py": SLEEPER})
    mounts = bare.room.mounts()

    began = time.monotonic()
    done = bare("run", "--timeout", "3s")

    assert time.monotonic() - began < 10
    assert done.code == 124, done
    assert_nothing_is_left(bare, mounts)
    record = bare.record()
    assert record["outcome"] == "timeout"
    assert record["message"].startswith("the run's limit of 3 s was over while `wait`")
    assert record["message"] in done.stdout + done.stderr
