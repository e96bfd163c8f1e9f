"""The process that starts launchers may be lost at any time, and leaves with its runner."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.runtime.errors import RunnerFailed
from pipeline.engine.runtime.launcher import LauncherRunner
from tests.engine import busybox
from tests.engine.test_runner import Bench, Result

if TYPE_CHECKING:
    from pipeline.engine.runtime.spec import Running

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    busybox.require_launcher()
    busybox.fill(tmp_path / "root")
    return Bench(LauncherRunner(), tmp_path / "root", tmp_path)


def launchers() -> set[int]:
    """The children of this process that are launchers; a server is one that outlives what ran."""
    found = set()
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"launcher\0"):
            found.add(int(child))
    return found


async def server_of(bench: Bench) -> int:
    before = launchers()
    await bench.sh("true")
    [server] = launchers() - before
    return server


def kill(server: int) -> None:
    """Kill it and wait for its end; the runner reaps it."""
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)


async def test_a_server_that_was_killed_is_replaced(bench: Bench) -> None:
    """Whoever runs something next does not notice."""
    server = await server_of(bench)
    kill(server)

    result = await bench.sh("echo again")

    assert result == Result(code=0, stdout="again\n", stderr="")
    assert not Path(f"/proc/{server}").exists()


async def test_what_runs_outlives_its_server(bench: Bench) -> None:
    """A container is the engine's child, and comes to its own end."""
    server = await server_of(bench)

    def lose_server(running: Running) -> None:
        os.close(running.pidfd)
        kill(server)

    result = await bench.run(bench.spec("sh", "-c", "sleep 0.2; echo done"), started=lose_server)

    assert result == Result(code=0, stdout="done\n", stderr="")


async def test_a_server_that_ends_before_it_has_started_anything_is_told(bench: Bench) -> None:
    """The exec fails; nothing waits for ever."""
    server = await server_of(bench)
    os.kill(server, signal.SIGSTOP)
    running = asyncio.ensure_future(bench.sh("echo never"))
    await asyncio.sleep(0.05)
    kill(server)

    with pytest.raises(RunnerFailed) as failure:
        await running

    assert str(failure.value) == "cannot start the launcher: the process that starts them has ended"


async def test_a_server_goes_with_its_runner(bench: Bench) -> None:
    """Nothing is left of a runner that nobody holds."""
    server = await server_of(bench)

    del bench.runner

    assert not Path(f"/proc/{server}").exists()
