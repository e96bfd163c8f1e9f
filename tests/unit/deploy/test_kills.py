"""A deployer is killed at every write of a record: afterwards exactly one release runs, and it is known."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from pipeline.config.values import Command
from pipeline.deploy.execute import Request
from pipeline.deploy.history import read_history
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.state import LocalState
from tests.unit.deploy.doubles import deployer, release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD, NEW = release(1), release(2)


class Killing(LocalState):
    """Kills its process before or after the write of that number, from 1."""

    def __init__(self, folder: Path, at: int, when: str) -> None:
        super().__init__(folder)
        self._left, self._when = at, when

    def _count(self, when: str) -> None:
        self._left -= when == "before"
        if self._left == 0 and when == self._when:
            os.kill(os.getpid(), signal.SIGKILL)

    async def append(self, name: str, line: bytes) -> None:
        self._count("before")
        await super().append(name, line)
        self._count("after")

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        self._count("before")
        version = await super().write(name, data, version=version)
        self._count("after")
        return version


def _deploy_in_a_child(folder: Path, at: int, when: str, strategy: str, faults: dict[str, str]) -> bool:
    """Deploy NEW in a process that is killed; False when it came to its end before."""
    child = os.fork()
    if child == 0:
        target = FakeTarget(folder, faults)
        target.state = Killing(folder / "state", at, when)
        subject = deployer(target, strategy=strategy, migrates=True, backup=Command(("backup",)), ttl_s=600.0)
        anyio.run(subject.deploy, Request(release=NEW))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where making writes durable costs nothing: it is done thousands of times here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # a kill is no loss of power
        yield Path(name)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("strategy", "faults"),
    [
        pytest.param("blue_green", {}, id="blue-green"),
        pytest.param("canary", {}, id="canary"),
        pytest.param("recreate", {}, id="recreate"),
        pytest.param("rolling", {}, id="rolling"),
        pytest.param("blue_green", {"preview": "wrong answer"}, id="while-undoing"),
        pytest.param("recreate", {"preview": "wrong answer"}, id="while-restoring"),
    ],
)
def test_a_kill_at_any_write_leaves_what_the_next_deployer_ends(
    when: str, strategy: str, faults: dict[str, str], in_memory: Path
) -> None:
    """It takes the dead one's lock at once, and what runs then is the old or the new release alone."""
    begin = in_memory / "begin"
    anyio.run(deployer(FakeTarget(begin)).deploy, Request(release=OLD))
    at = 0
    ends: set[Outcome | None] = set()
    while True:
        at += 1
        folder = shutil.copytree(begin, in_memory / str(at))
        killed = _deploy_in_a_child(folder, at, when, strategy, faults)
        target = FakeTarget(folder)

        resolved = anyio.run(deployer(target, strategy=strategy).resolve)

        live = anyio.run(target.live)
        assert live.release in (OLD.id, NEW.id), at
        assert live.running == {live.release}, at
        last = anyio.run(read_history, target.state)[-1]
        if last.new == NEW.id and last.outcome is not None:
            assert (last.outcome is Outcome.SUCCEEDED) == (live.release == NEW.id), at
        ends.add(resolved.outcome if resolved else None)
        if not killed:
            break

    undone = {Outcome.FAILED, Outcome.ROLLED_BACK, None}
    assert at > 20
    assert ends == (undone if faults else undone | {Outcome.SUCCEEDED})
