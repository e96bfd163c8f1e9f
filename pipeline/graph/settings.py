"""What a run is told, and what it answers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.graph.lookup import World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.graph.cache import StageCache
    from pipeline.graph.events import StageFinished
    from pipeline.graph.history import History
    from pipeline.graph.inputs import ProjectFiles
    from pipeline.graph.outcome import Outcome
    from pipeline.graph.record import RunFolder


def nothing_known(name: str) -> str | None:
    """Know no secret, and no image."""
    return None


def usable_cpus() -> int:
    """The CPUs this process may use; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything a run depends on besides its plan."""

    root: Path  # the project
    folder: RunFolder  # where evidence goes; its `run_id` is the run's
    slots: int = 0  # weight running at once; 0: the CPUs this process may use
    keep_going: bool = False
    timeout_s: float | None = None  # of the whole run
    quiet_s: float = 120.0  # warn when a stage gave no output for so long
    grace_s: float = 10.0  # how long cancelled stages, and the engine, may clean up
    environment: str = ""
    commit: str = ""
    dirty: bool = False
    command: tuple[str, ...] = ()  # as the user typed it
    config: Mapping[str, Any] = field(default_factory=dict)  # opaque tables for stages
    options: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # per stage, over the declared ones
    facts: Mapping[str, str] = field(default_factory=dict)  # in every key: platform, engine kind, ...
    secret: Callable[[str], str | None] = nothing_known
    image_digest: Callable[[str], str | None] = nothing_known  # what an image name means now (lock file)
    value_now: Callable[[str], str | None] = nothing_known  # of what stages named in `depend_on`
    files: ProjectFiles | None = None  # None: read from `root` when the run starts
    memory: Path | None = None  # digests of files outside git, remembered
    recheck_inputs: bool = True  # before storing a result, see whether its inputs changed meanwhile
    cache: StageCache | None = None  # None: nothing is taken or stored
    cache_read: bool = True  # False: results are stored but none is taken (--no-cache)
    reuse: Path | None = None  # run folder whose succeeded effects stand for themselves (--failed)
    history: History | None = None  # where the run's line goes when it ends
    expected_s: Mapping[str, float] = field(default_factory=dict)  # from history: long ways start first
    handle_signals: bool = True  # SIGINT, SIGTERM and SIGHUP, in the main thread

    def world(self) -> World:
        """What keys depend on."""
        return World(
            environment=self.environment,
            commit=self.commit,
            dirty=self.dirty,
            config=self.config,
            options=self.options,
            facts=self.facts,
            image_digest=self.image_digest,
            value_now=self.value_now,
        )


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended; `stages` in the order they finished, those skipped by the plan included."""

    run_id: str
    outcome: Outcome
    exit_code: int
    duration_s: float
    stages: Mapping[str, StageFinished]
    message: str = ""
    problems: tuple[str, ...] = ()  # what went wrong beside the stages: observers, closing the engine
