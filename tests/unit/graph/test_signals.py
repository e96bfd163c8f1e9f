"""Real signals to real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.graph.events import RunFinished, StageFinished
from pipeline.graph.history import failed_stages, read_events
from pipeline.graph.outcome import Outcome

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import asyncio, sys, time
from pathlib import Path
from pipeline import Context, stage
from pipeline.graph.inputs import ProjectFiles
from pipeline.graph.plan import Graph
from pipeline.graph.record import RunFolder
from pipeline.graph.run import RunSettings, run

base, kind = Path(sys.argv[1]), sys.argv[2]

@stage(inputs=())
async def slow(ctx: Context) -> int:
    ctx.log("started")
    try:
        if kind == "blocks":
            time.sleep(60)
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if kind == "stubborn":
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        (base / "cleaned").touch()
        raise
    return 1

@stage(inputs=())
async def later(ctx: Context, slow: int) -> None: ...

settings = RunSettings(
    root=base, folder=RunFolder.create(base / "runs", time.time()), grace_s=0.5,
    files=ProjectFiles(digests={}, from_git=False),
    timeout_s=0.5 if len(sys.argv) > 3 else None,
)
result = asyncio.run(run(Graph([slow, later]).select(), settings))
print(result.exit_code, result.message)
sys.exit(result.exit_code)
"""


class Process:
    """A run in a process of its own, whose one stage has started."""

    def __init__(self, base: Path, kind: str, *more: str, before: tuple[str, ...] = ()) -> None:
        self.base = base
        argv = [*before, sys.executable, "-c", SCRIPT, str(base), kind, *more]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while not list(base.glob("runs/*/stages/slow/log.txt")):
            assert time.monotonic() < until, self.process.poll()
            time.sleep(0.02)
        time.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    def end(self) -> tuple[int, str, str, float]:
        """Exit code, stdout, stderr and seconds until it ended."""
        began = time.monotonic()
        out, said = self.process.communicate(timeout=20)
        return self.process.returncode, out, said, time.monotonic() - began

    @property
    def folder(self) -> Path:
        """The run folder."""
        return next((self.base / "runs").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_cancels_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """The stage cleans up, the evidence is complete, the exit code is 130."""
    process = Process(tmp_path, "nice")

    process.send(number)
    code, out, said, seconds = process.end()

    assert (code, said) == (130, "")
    assert out.startswith(f"130 interrupted by {number.name} while `slow` ran (")
    assert seconds < 2
    assert (tmp_path / "cleaned").exists()
    run = json.loads((process.folder / "run.json").read_text())
    assert (run["status"], run["outcome"], run["exit_code"]) == ("finished", "cancellation", 130)
    ends = {event.stage: event for event in read_events(process.folder) if isinstance(event, StageFinished)}
    assert (ends["slow"].outcome, ends["later"].outcome) == (Outcome.CANCELLATION, Outcome.SKIP)
    assert ends["later"].why.startswith("not started: interrupted by")
    assert failed_stages(process.folder) == ("slow", "later")


def test_a_hangup_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """That is what `nohup` is for; the interrupt still works."""
    process = Process(tmp_path, "nice", before=("nohup",))

    process.send(signal.SIGHUP)
    time.sleep(0.3)
    alive = process.process.poll() is None
    process.send(signal.SIGINT)
    code, out, _, _ = process.end()

    assert (alive, code) == (True, 130)
    assert "interrupted by SIGINT" in out


@pytest.mark.parametrize("kind", ["stubborn", "blocks"])
def test_a_second_signal_kills(tmp_path: Path, kind: str) -> None:
    """Also a stage that swallows cancellation, and one that blocks the event loop."""
    process = Process(tmp_path, kind)

    process.send(signal.SIGINT)
    time.sleep(0.2)
    process.send(signal.SIGINT)
    code, _, said, seconds = process.end()

    assert (code, said) == (130, "error: killed by a second SIGINT\n")
    assert seconds < 1.5
    last = list(read_events(process.folder))[-1]
    assert isinstance(last, RunFinished)
    assert (last.exit_code, last.message) == (130, "killed by a second SIGINT")


@pytest.mark.parametrize("kind", ["stubborn", "blocks"])
def test_stages_that_do_not_stop_are_ended_in_bounded_time(tmp_path: Path, kind: str) -> None:
    """After `grace_s` and a margin, by force; the evidence says why."""
    process = Process(tmp_path, kind)

    process.send(signal.SIGTERM)
    code, _, _, seconds = process.end()

    assert code == 130
    assert 0.4 < seconds < 6
    ends = {event.stage: event for event in read_events(process.folder) if isinstance(event, StageFinished)}
    assert ends["slow"].outcome is Outcome.CANCELLATION
    assert ends["slow"].why == "stages did not stop within 0.5 s of SIGTERM"


def test_a_stage_that_blocks_the_loop_cannot_outlive_the_runs_limit(tmp_path: Path) -> None:
    """The process ends with 124."""
    process = Process(tmp_path, "blocks", "limit")

    code, _, _, _ = process.end()

    run = json.loads((process.folder / "run.json").read_text())
    assert (code, run["outcome"], run["exit_code"]) == (124, "timeout", 124)


def test_a_killed_run_leaves_all_it_knew(tmp_path: Path) -> None:
    """SIGKILL: no end is told, but what happened is."""
    process = Process(tmp_path, "nice")

    process.send(signal.SIGKILL)
    code, _, _, _ = process.end()

    assert code == -9
    assert [type(event).__name__ for event in read_events(process.folder)] == ["RunStarted", "StageStarted"]
    assert (process.folder / "stages/slow/log.txt").read_text() == "started\n"
    assert json.loads((process.folder / "run.json").read_text())["status"] == "running"
    assert failed_stages(process.folder) == ("slow", "later")
