"""What past runs tell: usual durations, which run was the last, what failed in it.

A small file beside the run folders holds one line a run, so that listings need not read the folders.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UsageError
from pipeline.graph.events import RunFinished, RunStarted, StageFinished, StageStarted
from pipeline.graph.files import write_atomically
from pipeline.graph.outcome import Outcome
from pipeline.graph.wire import BadEvent, event_from_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.graph.events import Event

LINES_KEPT: Final = 200
LARGEST_BYTES: Final = 512 << 10
SAMPLES: Final = 10


class RunNotFound(UsageError):
    """There is no such run folder."""

    def __init__(self, wanted: str, runs: Path) -> None:
        super().__init__(f"cannot find run `{wanted}`: there is no such folder in `{runs}`")
        self.wanted = wanted


class RunAmbiguous(UsageError):
    """The beginning of a run id fits several runs."""

    def __init__(self, wanted: str, found: list[str]) -> None:
        super().__init__(f"cannot find run `{wanted}`: it could be {', '.join(found)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """How one stage of one run went."""

    outcome: Outcome
    duration_s: float
    cached: bool = False
    flaky: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run in the history file."""

    run_id: str
    at: float
    outcome: Outcome
    duration_s: float
    stages: Mapping[str, StageTime] = field(default_factory=dict)


class History:
    """The history file of a project, normally `.pipeline/history.jsonl`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, line: RunLine) -> None:
        """Append a run; old lines are dropped when the file has grown.

        Raises:
            OSError: The file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stages = {
            name: [str(s.outcome), round(s.duration_s, 3), s.cached, s.flaky]
            for name, s in line.stages.items()
        }
        data = [line.run_id, line.at, str(line.outcome), round(line.duration_s, 3), stages]
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # One write: lines of two runs that end together do not mix.
            os.write(handle, (json.dumps(data) + "\n").encode())
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
        if size > LARGEST_BYTES:
            lines = self.path.read_bytes().splitlines(keepends=True)
            write_atomically(self.path, b"".join(lines[-LINES_KEPT:]), durable=False)

    def lines(self) -> list[RunLine]:
        """The last runs, oldest first; damaged lines are left out."""
        try:
            text = self.path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return []
        found = (_run_line(line) for line in text.splitlines()[-LINES_KEPT:])
        return [line for line in found if line is not None]

    def expected_s(self) -> dict[str, float]:
        """Median seconds of each stage's last successes that really ran."""
        samples: dict[str, list[float]] = {}
        for line in reversed(self.lines()):
            for name, time in line.stages.items():
                have = samples.setdefault(name, [])
                if time.outcome is Outcome.SUCCESS and not time.cached and len(have) < SAMPLES:
                    have.append(time.duration_s)
        return {name: _median(times) for name, times in samples.items() if times}


def _median(values: list[float]) -> float:
    # The standard library's own costs 10 ms of imports, which every listing would pay.
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _run_line(text: str) -> RunLine | None:
    try:
        run_id, at, outcome, duration_s, stages = json.loads(text)
        times = {
            str(name): StageTime(
                outcome=Outcome(row[0]), duration_s=float(row[1]), cached=bool(row[2]), flaky=bool(row[3])
            )
            for name, row in stages.items()
        }
        return RunLine(
            run_id=str(run_id),
            at=float(at),
            outcome=Outcome(outcome),
            duration_s=float(duration_s),
            stages=times,
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def list_runs(runs: Path) -> list[Path]:
    """The run folders, oldest first."""
    try:
        found = [entry.path for entry in os.scandir(runs) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [Path(path) for path in sorted(found)]


def find_run(runs: Path, wanted: str = "last") -> Path:
    """The folder of a run: `last`, an id, or the beginning or end of one that fits no other.

    Raises:
        RunNotFound: None fits.
        RunAmbiguous: Several do.
    """
    folders = list_runs(runs)
    if wanted == "last" and folders:
        return folders[-1]
    exact = [path for path in folders if path.name == wanted]
    close = [path for path in folders if path.name.startswith(wanted) or path.name.endswith(wanted)]
    found = exact or (close if wanted else [])
    if not found:
        raise RunNotFound(wanted, runs)
    if len(found) > 1:
        raise RunAmbiguous(wanted, [path.name for path in found])
    return found[0]


def read_events(run: Path) -> Iterator[Event]:
    """A run's events in order; a last line that a kill cut short is left out.

    Raises:
        BadEvent: A line in the middle is damaged.
    """
    try:
        lines = (run / "events.jsonl").read_text("utf-8", "surrogatepass").split("\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(lines):
        try:
            if line:
                yield event_from_line(line)
        except BadEvent:
            if number < len(lines) - 1:
                raise


def failed_stages(run: Path) -> tuple[str, ...]:
    """Stages of a run that were to run and are not done: failed (softly too), cancelled, or never reached.

    A stage that skipped itself is done. Works for killed runs as well.

    Raises:
        BadEvent: The run's events are damaged.
    """
    planned: tuple[str, ...] = ()
    done: dict[str, bool] = {}
    for event in read_events(run):
        if isinstance(event, RunStarted):
            planned = tuple(row.name for row in event.stages if row.action != "skip")
        elif isinstance(event, StageStarted):
            done[event.stage] = False
        elif isinstance(event, StageFinished):
            skipped_itself = event.outcome is Outcome.SKIP and event.attempts > 0
            done[event.stage] = event.outcome is Outcome.SUCCESS or skipped_itself
    return tuple(name for name in planned if not done.get(name, False))


def line_of(run_id: str, finished: RunFinished, stages: Mapping[str, StageFinished]) -> RunLine:
    """The history line of a run that has just ended."""
    return RunLine(
        run_id=run_id,
        at=finished.at,
        outcome=finished.outcome,
        duration_s=finished.duration_s,
        stages={
            name: StageTime(
                outcome=event.outcome, duration_s=event.duration_s, cached=event.cached, flaky=event.flaky
            )
            for name, event in stages.items()
        },
    )


def load_run(run: Path) -> dict[str, Any] | None:
    """What `run.json` of a run holds; None when it is absent or damaged."""
    return _load_object(run / "run.json", "run_id")


def load_result(run: Path, stage: str) -> dict[str, Any] | None:
    """What `stages/<stage>/result.json` of a run holds; None when it is absent or damaged."""
    return _load_object(run / "stages" / stage / "result.json", "outcome")


def _load_object(path: Path, field_name: str) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and field_name in data else None
