"""A run killed at any moment leaves nothing behind, and the next run works.

`ROBUST_KILLS` sets how many kills; `ROBUST_SEED` the moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.pipelines.robust import finish, problems_of_store

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.pipelines.robust import RobustProject

KILLS: Final = int(os.environ.get("ROBUST_KILLS", "15"))
SEED: Final = int(os.environ.get("ROBUST_SEED", "20"))
RUN_EVERY: Final = 5
ENGINE: Final = "pipeline.session"


def kill_command(project: RobustProject, process: subprocess.Popen[str]) -> None:
    """Kill the command; its engine sees that by itself."""
    process.kill()


def kill_engine(project: RobustProject, process: subprocess.Popen[str]) -> None:
    """Kill the engine; the command sees that by itself."""
    for pid, command in project.left().items():
        if ENGINE in command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def kill_groups(project: RobustProject, process: subprocess.Popen[str]) -> None:
    """Kill both process groups, command first."""
    groups = {os.getpgid(pid) for pid, command in project.left().items() if ENGINE in command}
    for group in (process.pid, *groups):
        with contextlib.suppress(ProcessLookupError):  # it had ended just before
            os.killpg(group, signal.SIGKILL)


WAYS: Final[tuple[Callable[[RobustProject, subprocess.Popen[str]], None], ...]] = (
    kill_command,
    kill_engine,
    kill_groups,
)


@pytest.mark.root
@pytest.mark.timeout(60 + 12 * KILLS)
def test_kills_at_random_moments_lose_nothing_but_the_work_in_flight(project: RobustProject) -> None:
    """After each kill no process or mount is left; each next run works; the store stays consistent."""
    moments = random.Random(SEED)  # noqa: S311 - moments, not secrets
    mounts = project.room.mounts()
    began = time.monotonic()
    assert project("run").code == 0
    whole_s = time.monotonic() - began

    for number in range(1, KILLS + 1):
        project.write({"salt.txt": f"salt{number}"})
        wait_s, way = moments.uniform(0, whole_s), WAYS[number % len(WAYS)]
        print(f"kill {number}: {way.__name__} after {wait_s:.3f} s (seed {SEED})")  # noqa: T201 - to repeat it
        process = project.start("run")
        time.sleep(wait_s)
        way(project, process)
        done = finish(process, within_s=30)
        if way is kill_engine:
            assert done.code in (0, 1), done
            assert "Traceback" not in done.stderr, done
        assert project.wait_until_gone() == {}
        assert project.room.mounts() == mounts
        if number % RUN_EVERY == 0 or number == KILLS:
            began = time.monotonic()
            after = project("run")
            whole_s = (whole_s + time.monotonic() - began) / 2
            assert after.code == 0, after
            assert project.result("join") == project.expected(f"salt{number}")
            assert project.record()["outcome"] == "success"
            assert project.left() == {}
            assert (project.room.links(), project.room.rules()) == (["lo"], [])
            assert problems_of_store(project.store) == []
