"""The one account of a run: events are folded into a `RunRecord`, and every view reads that.

What a killed run had told until then is a record too, in which some stages have no outcome.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, assert_never

from pipeline.graph.events import (
    Event,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageQuiet,
    StageRetried,
    StageStarted,
    StageStep,
)
from pipeline.graph.outcome import Failure, Outcome
from pipeline.graph.plan import NOT_SELECTED
from pipeline.text import clean, some

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

State = Literal["waiting", "running", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What is known of one stage."""

    name: str
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    effect: bool = False
    action: Literal["run", "cached", "skip"] = "run"  # as planned
    why: str = ""
    expected_s: float | None = None
    state: State = "waiting"
    attempt: int = 0
    started_at: float | None = None  # of the first attempt, seconds since the epoch
    finished_at: float | None = None
    duration_s: float = 0.0
    outcome: Outcome | None = None
    cached: bool = False
    flaky: bool = False
    soft_failed: bool = False
    failure: Failure | None = None
    retries: tuple[StageRetried, ...] = ()
    steps: int = 0  # container commands that ended
    cached_steps: int = 0
    last_line: str = ""
    quiet_s: float = 0.0
    key: str = ""
    kept: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One word for people: as in `VERDICTS`, or cached, running, waiting."""
        if self.outcome is None:
            return self.state if self.state != "done" else "unfinished"
        if self.outcome is Outcome.SUCCESS:
            return "cached" if self.cached else "passed"
        return VERDICTS[self.outcome]

    @property
    def is_selected(self) -> bool:
        """Whether the run was asked for it, or for one that needs it."""
        return not (self.outcome is Outcome.SKIP and self.why == NOT_SELECTED)

    @property
    def took_s(self) -> float | None:
        """Seconds from start to end; None for a stage that did not start or has no end."""
        started = self.started_at is not None or self.cached
        return self.duration_s if started and self.outcome is not None else None

    @property
    def is_bad(self) -> bool:
        """Whether the stage makes the run bad."""
        good = self.outcome in (None, Outcome.SUCCESS, Outcome.SKIP, Outcome.CANCELLATION)
        return not good and not self.soft_failed

    @property
    def flags(self) -> tuple[str, ...]:
        """What must be seen beside the verdict."""
        attempts = f", {self.attempt} attempts" if self.attempt > 1 else ""
        flaky = (f"flaky{attempts}",) if self.flaky else ()
        soft = ("soft failure",) if self.soft_failed else ()
        effect = ("effect",) if self.effect and self.outcome is Outcome.SUCCESS else ()
        count = len(self.warnings)
        warned = (some(count, "warning"),) if count else ()
        return flaky + soft + warned + effect


VERDICTS = {
    Outcome.SUCCESS: "passed",
    Outcome.FAILURE: "failed",
    Outcome.ERROR: "error",
    Outcome.TIMEOUT: "timeout",
    Outcome.SKIP: "skipped",
    Outcome.CANCELLATION: "cancelled",
}


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """A run so far. Only `add` changes it; the stages stand in the order of the plan."""

    run_id: str = ""
    project: str = ""
    command: tuple[str, ...] = ()
    commit: str = ""
    dirty: bool = False
    environment: str = ""
    started_at: float = 0.0
    finished_at: float | None = None
    duration_s: float = 0.0
    outcome: Outcome | None = None
    exit_code: int | None = None
    message: str = ""
    stages: dict[str, StageRecord] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take one more event into account."""
        match event:
            case RunStarted():
                self._start(event)
            case RunFinished():
                self.finished_at = event.at
                self.duration_s = event.duration_s
                self.outcome = event.outcome
                self.exit_code = event.exit_code
                self.message = event.message
            case _:
                stage = self.stages.get(event.stage) or StageRecord(name=event.stage)
                self.stages[event.stage] = _advance(stage, self._with_reproduction(event))

    def _with_reproduction(self, event: StageEvent) -> StageEvent:
        """Give a failure that does not say how to see it again the command that runs its stage alone."""
        if not isinstance(event, StageFinished) or event.failure is None or event.failure.reproduce:
            return event
        environment = f" --env {shlex.quote(self.environment)}" if self.environment else ""
        is_of_commit = any(part.split("=")[0] == "--commit" for part in self.command)
        commit = f" --commit {self.commit[:12]}" if is_of_commit else ""
        again = f"pipeline run --only {event.stage}{commit}{environment}"
        return replace(event, failure=replace(event.failure, reproduce=again))

    def _start(self, event: RunStarted) -> None:
        self.run_id = event.run_id
        self.project = event.project
        self.command = event.command
        self.commit = event.commit
        self.dirty = event.dirty
        self.environment = event.environment
        self.started_at = event.at
        for row in event.stages:
            self.stages[row.name] = StageRecord(
                name=row.name,
                needs=row.needs,
                after=row.after,
                effect=row.effect,
                action=row.action,
                why=row.why,
                expected_s=row.expected_s,
            )

    @property
    def verdict(self) -> str:
        """One word for the run; "unfinished" when it was killed or still goes on."""
        return VERDICTS[self.outcome] if self.outcome is not None else "unfinished"

    @property
    def bad_stages(self) -> list[StageRecord]:
        """The stages that failed, also softly, in the order in which they ended."""
        bad = [stage for stage in self.stages.values() if stage.is_bad or stage.soft_failed]
        return sorted(bad, key=lambda stage: stage.finished_at or 0.0)

    @property
    def warnings(self) -> list[str]:
        """What stages warned of, `stage: text`."""
        return [f"{stage.name}: {text}" for stage in self.stages.values() for text in stage.warnings]

    @property
    def stand_ins(self) -> list[str]:
        """The images of the run that were not the registry's, each with what it was instead."""
        return sorted({line for stage in self.stages.values() for line in stage.stand_ins})

    def counts(self) -> dict[str, int]:
        """How many stages have each verdict, worst first; verdicts without a stage are left out.

        Those that nobody selected count as "not selected", last.
        """
        found = Counter(
            stage.verdict if stage.is_selected else NOT_SELECTED for stage in self.stages.values()
        )
        return {verdict: found[verdict] for verdict in _ORDER if found[verdict]}


_ORDER = (
    "failed",
    "error",
    "timeout",
    "cancelled",
    "unfinished",
    "running",
    "waiting",
    "skipped",
    "passed",
    "cached",
    NOT_SELECTED,
)

StageEvent = StageStarted | StageOutput | StageStep | StageQuiet | StageRetried | StageFinished


def _advance(stage: StageRecord, event: StageEvent) -> StageRecord:
    """What is known of a stage after `event`."""
    match event:
        case StageStarted():
            began = event.at if stage.started_at is None else stage.started_at
            return replace(stage, state="running", attempt=event.attempt, started_at=began, why=event.why)
        case StageOutput():
            return replace(stage, last_line=last_line(event.text) or stage.last_line, quiet_s=0.0)
        case StageStep():
            return replace(stage, steps=stage.steps + 1, cached_steps=stage.cached_steps + event.cached)
        case StageQuiet():
            return replace(stage, quiet_s=event.quiet_s)
        case StageRetried():
            return replace(stage, retries=(*stage.retries, event))
        case StageFinished():
            return replace(
                stage,
                state="done",
                attempt=event.attempts,
                finished_at=event.at,
                duration_s=event.duration_s,
                outcome=event.outcome,
                why=event.why,
                cached=event.cached,
                flaky=event.flaky,
                soft_failed=event.soft_failed,
                failure=event.failure,
                key=event.key,
                kept=event.kept,
                warnings=event.warnings,
                stand_ins=event.stand_ins,
            )
    assert_never(event)


def fold(events: Iterable[Event]) -> RunRecord:
    """Make the record of the events."""
    record = RunRecord()
    for event in events:
        record.add(event)
    return record


def load_record(folder: Path) -> RunRecord:
    """Read the record of a run from its folder; a run that was killed has what it had told.

    Raises:
        BadEvent: A line before the last is damaged.
    """
    from pipeline.graph.history import read_events

    record = fold(read_events(folder))
    record.run_id = record.run_id or folder.name
    return record


def last_line(text: str) -> str:
    """The last line of `text` that says something, or "". A progress bar's last state counts as a line."""
    lines = re.split(r"[\r\n]", text)
    return next((line.strip() for line in reversed([clean(line) for line in lines]) if line.strip()), "")
