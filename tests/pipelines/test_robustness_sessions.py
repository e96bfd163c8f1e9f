"""Engines that stay, killed at random moments of real work: what was answered is there, and nothing is left.

A worker is a client of the SDK. It first asks for what the workers before it were told, and sees whether the
answers are the same and the layers whole; then it does work of its own until something of it is killed.
`ROBUST_SESSION_KILLS` sets how many kills; `ROBUST_SEED` the moments.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline.session.standing import find_keepers
from tests.pipelines.robust import LIMIT_S, problems_of_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.pipelines.robust import RobustProject

KILLS: Final = int(os.environ.get("ROBUST_SESSION_KILLS", "20"))
SEED: Final = int(os.environ.get("ROBUST_SEED", "20"))
ASKED_AGAIN: Final = 12
"""How many of the earlier answers a worker asks for, half of them the newest."""
STORE_EVERY: Final = 10
STEPS: Final = 12

WORKER: Final = '''
import asyncio, json, sys
from pathlib import Path

from pipeline.connect import Target, open_session
from pipeline.engine.settings import EngineSettings

rootfs, store, workdir, name, steps, earlier = json.loads(sys.argv[1])
SCRIPT = """
word=$(cat /proc/sys/kernel/random/uuid)
mkdir -p /out
for i in 0 1 2 3 4 5 6 7 8 9; do echo $word > /out/$STEP.$i; done
echo $word > /word
"""
CHECK = "set -e; for i in 0 1 2 3 4 5 6 7 8 9; do cmp /word /out/$STEP.$i; done; ls /out | wc -l"


def tell(**what):
    print(json.dumps(what), flush=True)


def work_of(client, name, step):
    """One to three commands in a row; each leaves ten files with a word of its own."""
    container = client.container().with_rootfs(client.host().directory(rootfs))
    container = container.with_env_variable("NAME", name)
    if step % 4 == 3:
        web = (
            container.with_exposed_port(8000)
            .with_default_args(["sh", "-c", "mkdir /w; echo served > /w/index.html; httpd -f -p 8000 -h /w"])
            .as_service()
        )
        fetch = ["wget", "-q", "-O", "/a", "web:8000"]
        container = container.with_service_binding("web", web).with_exec(fetch)
    for number in range(1 + step % 3):
        container = container.with_env_variable("STEP", str(number)).with_exec(["sh", "-c", SCRIPT])
    return container


async def main():
    settings = EngineSettings(store=store, offline=True, idle_s=60.0)
    target = Target(kind="embedded")
    observer = lambda event: None
    async with open_session(target, settings, workdir=Path(workdir), observer=observer) as client:
        for old, step, word in earlier:
            container = work_of(client, old, step)
            found = await container.file("/word").contents()
            files = await container.with_exec(["sh", "-c", CHECK]).stdout()
            if (found.strip(), int(files)) != (word, 10 * (1 + step % 3)):
                tell(lost=[old, step, word, found, files])
        tell(checked=len(earlier))
        for step in range(steps):
            word = await work_of(client, name, step).file("/word").contents()
            tell(done=[name, step, word.strip()])


asyncio.run(main())
'''


@dataclass(kw_only=True)
class Work:
    """Workers one after another on one store, and what they were told."""

    project: RobustProject
    chance: random.Random
    answered: list[tuple[str, int, str]] = field(default_factory=list)
    lost: list[Any] = field(default_factory=list)
    checked: int = 0

    def start(self, name: str, *, steps: int) -> subprocess.Popen[str]:
        """Start a worker."""
        newest, older = self.answered[-ASKED_AGAIN // 2 :], self.answered[: -ASKED_AGAIN // 2]
        earlier = [*newest, *self.chance.sample(older, min(len(older), ASKED_AGAIN // 2))]
        project = self.project
        told = [str(project.rootfs), str(project.store), str(project.root), name, steps, earlier]
        process = subprocess.Popen(
            project.room.argv(sys.executable, "-c", WORKER, json.dumps(told)),
            env=project.environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        project.started.add(process.pid)
        return process

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a worker, keep what it was told, and return what it said on stderr."""
        try:
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        whole = stdout[: stdout.rfind("\n") + 1]  # one that was killed may have ended in the middle of a line
        for told in map(json.loads, whole.splitlines()):
            self.checked += told.get("checked", 0)
            self.lost += [told["lost"]] if "lost" in told else []
            self.answered += [tuple(told["done"])] if "done" in told else []
        return stderr

    # ---- processes -------------------------------------------------------------------------

    def keepers(self) -> list[int]:
        """The engines that stay with the store."""
        return [keeper["pid"] for keeper in find_keepers(self.project.room.inside(self.project.store))]

    def sessions(self) -> list[int]:
        """What the engines that stay have forked."""
        return [child for keeper in self.keepers() for child in children_of(keeper)]

    def launchers(self) -> list[int]:
        """The programs that run containers."""
        return [pid for pid, command in self.project.left().items() if command.startswith("launcher")]


def children_of(pid: int) -> list[int]:
    """The children of a process; none of one that is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pids: Sequence[int]) -> None:
    """Kill processes, some of which may just have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


WAYS: Final[Mapping[str, Callable[[Work, int], Sequence[int]]]] = {
    "session": lambda work, _: work.sessions(),
    "launcher": lambda work, _: work.launchers(),
    "keeper": lambda work, _: work.keepers(),
    "client": lambda _, client: [client],
    "keeper and session": lambda work, _: [*work.sessions(), *work.keepers()],
    "all": lambda work, client: [client, *work.keepers(), *work.sessions(), *work.launchers()],
}
GOES_ON: Final = ("keeper",)
"""After these kills the worker comes to its end as if nothing had happened."""


@pytest.fixture
def work(project: RobustProject) -> Iterator[Work]:
    """Workers on the project's store; the engines that stay end with the test."""
    lent = Work(project=project, chance=random.Random(SEED))  # noqa: S311 - moments, not secrets
    yield lent
    kill(list(project.left()))
    assert project.wait_until_gone() == {}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(120 + 12 * KILLS)
def test_kills_of_engine_launcher_and_keeper_lose_no_answer_and_leave_nothing(work: Work) -> None:
    """Every answer given before a kill is given after it, from whole layers; each next engine works."""
    project, mounts, seen = work.project, work.project.room.mounts(), set[int]()
    began = time.monotonic()
    ended_in_order(work, "first", seen)
    whole_s = time.monotonic() - began

    for number in range(1, KILLS + 1):
        way = list(WAYS)[number % len(WAYS)]
        process = work.start(f"work{number}", steps=STEPS)
        before, wait_s = len(work.answered), work.chance.uniform(0, whole_s)
        time.sleep(wait_s)
        seen.update(work.sessions())
        kill(victims(work, way, process))
        said = work.finish(process)
        answers = len(work.answered) - before
        print(f"kill {number}: {way} after {wait_s:.3f} s, {answers} answers before (seed {SEED})")  # noqa: T201

        assert process.returncode == 0 or way not in GOES_ON, said
        assert wait_but_for_keepers(work) == {}
        assert project.room.mounts() == mounts
        assert work.lost == []
        if number % STORE_EVERY == 0 or number == KILLS:
            ended_in_order(work, f"between{number}", seen)

    print(f"{len(work.answered)} answers, {work.checked} of them asked for again, none lost")  # noqa: T201


def victims(work: Work, way: str, process: subprocess.Popen[str]) -> Sequence[int]:
    """Find what is to be killed now; where it is not there yet, as soon as it is."""
    while not (found := WAYS[way](work, process.pid)) and process.poll() is None:
        time.sleep(0.005)
    return found


def wait_but_for_keepers(work: Work) -> Mapping[int, str]:
    """Wait until nothing of ours lives but engines that stay; return what else does."""
    until = time.monotonic() + 5
    while True:
        left, keepers = work.project.left(), work.keepers()
        others = {pid: command for pid, command in left.items() if pid not in keepers}
        if not others or time.monotonic() > until:
            return others
        time.sleep(0.02)


def ended_in_order(work: Work, name: str, seen: set[int]) -> None:
    """See that one more worker comes to its end, and that a whole store and nothing else is left."""
    project = work.project
    process = work.start(name, steps=STEPS)
    seen.update(victims(work, "session", process))
    said = work.finish(process)
    kill(work.keepers())

    assert (process.returncode, said, work.lost) == (0, "", [])
    assert project.wait_until_gone() == {}
    assert (project.room.links(), project.room.rules()) == (["lo"], [])
    assert groups_of(seen) == []
    assert problems_of_store(project.room.inside(project.store)) == []


def groups_of(pids: set[int]) -> list[Path]:
    """The control groups that engines with these process ids have made and nobody removed."""
    return [path for pid in pids for path in Path("/sys/fs/cgroup").glob(f"**/pipeline-{pid}-*")]
