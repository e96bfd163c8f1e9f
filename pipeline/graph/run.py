"""Run a plan: start what `decide` says, keep the limits, tell events, and give every stage its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.graph.cache import StageCache
    from pipeline.graph.context import EngineOpener
    from pipeline.graph.events import Event, StageFinished
    from pipeline.graph.inputs import ProjectFiles
    from pipeline.graph.outcome import Failure, Outcome
    from pipeline.graph.plan import Plan
    from pipeline.graph.record import RunFolder


def no_secret(name: str) -> str | None:
    """Know no secret."""
    return None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything a run depends on besides its plan."""

    root: Path  # the project
    folder: RunFolder  # where evidence goes; its `run_id` is the run's
    slots: int = 0  # weight running at once; 0: the CPUs this process may use
    keep_going: bool = False
    timeout_s: float | None = None  # of the whole run
    quiet_s: float = 120.0  # warn when a stage gave no output for so long
    grace_s: float = 10.0  # how long cancelled stages may clean up
    environment: str = ""
    commit: str = ""
    dirty: bool = False
    command: tuple[str, ...] = ()  # as the user typed it
    config: Mapping[str, Any] = field(default_factory=dict)  # opaque tables for stages
    options: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # per stage, over the declared ones
    facts: Mapping[str, str] = field(default_factory=dict)  # in every key: platform, engine kind, ...
    secret: Callable[[str], str | None] = no_secret
    image_digest: Callable[[str], str | None] = no_secret  # what an image name means now (lock file)
    files: ProjectFiles | None = None  # None: read from `root` when the run starts
    cache: StageCache | None = None  # None: nothing is taken or stored (--no-cache)
    reuse: Path | None = None  # run folder whose succeeded effects stand for themselves (--failed)
    expected_s: Mapping[str, float] = field(default_factory=dict)  # from history: long paths start first
    handle_signals: bool = True  # only in the main thread


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended; `stages` in the order they finished."""

    run_id: str
    outcome: Outcome
    exit_code: int
    duration_s: float
    stages: Mapping[str, StageFinished]
    message: str = ""
    problems: tuple[str, ...] = ()  # observers that failed: what they said


async def run(
    plan: Plan,
    settings: RunSettings,
    *,
    observers: Sequence[Callable[[Event], None]] = (),
    opener: EngineOpener | None = None,
    describe: Callable[[BaseException], Failure] | None = None,
) -> RunResult:
    """Run `plan`."""
    raise NotImplementedError
