"""What a run tells while it goes: one event a line in `events.jsonl`; `report.record` folds them.

Times are seconds since the epoch. An event's `kind` in JSON is its class name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.graph.outcome import Outcome

if TYPE_CHECKING:
    from pipeline.graph.outcome import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The run has a plan: stages in the order of the plan, with what is to happen to each."""

    at: float
    run_id: str
    command: tuple[str, ...]
    project: str
    commit: str  # 40 hex digits, or "" outside git
    dirty: bool
    environment: str
    stages: tuple[PlannedStage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One row of the plan."""

    name: str
    needs: tuple[str, ...]
    after: tuple[str, ...]
    action: Literal["run", "cached", "skip"]
    why: str
    effect: bool
    expected_s: float | None  # median of past runs; None without history


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage began its `attempt` (1 is the first)."""

    at: float
    stage: str
    attempt: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOutput:
    """Text of a stage: from its own log or from a container it runs. Not in `events.jsonl` but in the log."""

    at: float
    stage: str
    stream: Literal["log", "stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStep:
    """A container command of a stage ended; `cached` means the engine had its result."""

    at: float
    stage: str
    argv: tuple[str, ...]
    cached: bool
    exit_code: int | None
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageQuiet:
    """A stage has given no output for `quiet_s`."""

    at: float
    stage: str
    quiet_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRetried:
    """An attempt failed and another follows after `wait_s`."""

    at: float
    stage: str
    attempt: int
    failure: Failure
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished:
    """A stage has its outcome."""

    at: float
    stage: str
    outcome: Outcome
    why: str  # for cached and skip: the reason; else why it ran
    duration_s: float
    attempts: int
    cached: bool = False
    flaky: bool = False
    soft_failed: bool = False
    failure: Failure | None = None
    key: str = ""
    kept: tuple[str, ...] = ()  # names of kept files, in stages/<name>/files/
    warnings: tuple[str, ...] = ()  # what must be seen beside the outcome
    stand_ins: tuple[str, ...] = ()  # images that were not the registry's: "name: what it was instead"

    @property
    def how(self) -> str:
        """How it ended, as it follows the stage's name in a sentence."""
        return "was skipped" if self.outcome is Outcome.SKIP else f"ended in {self.outcome}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The run is over."""

    at: float
    outcome: Outcome
    exit_code: int
    duration_s: float
    message: str = ""  # what was going on when a deadline expired, who interrupted


Event = (
    RunStarted
    | StageStarted
    | StageOutput
    | StageStep
    | StageQuiet
    | StageRetried
    | StageFinished
    | RunFinished
)
