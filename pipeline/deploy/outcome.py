"""How deployments end, and what is told while they go on."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time when a record is read
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from pipeline.errors import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_RESUMABLE,
    EXIT_ROLLBACK_FAILED,
    EXIT_ROLLED_BACK,
    EXIT_WAITING,
    PipelineError,
)


class Outcome(StrEnum):
    """The ends of a deployment."""

    SUCCEEDED = "succeeded"
    ALREADY = "already there"
    FAILED = "failed"  # nothing was changed
    REFUSED = "refused"  # by policy, lock, freeze or a missing approval; nothing was changed
    ROLLED_BACK = "rolled back"  # the old release is healthy
    ROLLBACK_FAILED = "rollback failed"
    WAITING = "waiting"  # for somebody's word; both releases run
    INTERRUPTED = "interrupted"  # to be resumed by the next deployer


EXIT_CODES: Final[Mapping[Outcome, int]] = {
    Outcome.SUCCEEDED: EXIT_OK,
    Outcome.ALREADY: EXIT_OK,
    Outcome.FAILED: EXIT_FAILED,
    Outcome.REFUSED: EXIT_REFUSED,
    Outcome.ROLLED_BACK: EXIT_ROLLED_BACK,
    Outcome.ROLLBACK_FAILED: EXIT_ROLLBACK_FAILED,
    Outcome.WAITING: EXIT_WAITING,
    Outcome.INTERRUPTED: EXIT_RESUMABLE,
}

Decision: TypeAlias = Literal["pass", "hold", "breach", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What watching a release has shown, with every number that decided it."""

    decision: Decision
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


class Breach(PipelineError):
    """A release that takes traffic is not good enough."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"cannot keep the release: {verdict.reason}")
        self.verdict = verdict


class Held(PipelineError):
    """A release is neither good nor bad enough to decide; somebody has to say."""

    def __init__(self, environment: str, verdict: Verdict) -> None:
        super().__init__(f"the deployment waits: {verdict.reason}")
        self.verdict = verdict
        self.hint = f"`pipeline deploy {environment} --continue`, or `pipeline rollback {environment}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Something that happened; `step` is the step's name, "" for the deployment as a whole."""

    deployment: str
    what: Literal["open", "begin", "done", "failed", "undo", "undone", "stuck", "warn", "wait", "close"]
    step: str = ""
    text: str = ""
    seconds: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of one deployment. `release` is what runs now, as far as it is known; "" is nothing."""

    deployment: str
    outcome: Outcome
    release: str
    reason: str = ""
    problems: tuple[str, ...] = ()  # of undoing

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]
