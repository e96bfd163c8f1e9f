"""The steps of a deployment, in order, for each strategy: pure, and all that `--plan` shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pipeline.digest import Digest, digest_json
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.config.delivery import DeploySettings


class StepId(StrEnum):
    """What is done; the comment says what undoes it."""

    PREFLIGHT = "preflight"  # looks only
    AUTHORISE = "authorise"  # looks only
    LOCK = "lock"  # released
    RECORD = "record"  # the history entry gets its outcome
    FETCH = "fetch"  # images stay: they hurt nobody
    BACKUP = "backup"  # stays
    EXPAND = "expand"  # stays: the old release works with it
    START = "start"  # evidence is kept, then the new instances go
    READY = "ready"  # looks only
    PREVIEW = "preview"  # looks only
    SHIFT = "shift"  # traffic goes back: always the first thing undone
    BAKE = "bake"  # looks only
    DRAIN = "drain"  # the old instances start again
    KEEP = "keep"  # nothing
    FINISH = "finish"  # nothing


BEFORE_CHANGES: Final = frozenset(
    {
        *(StepId.PREFLIGHT, StepId.AUTHORISE, StepId.LOCK, StepId.RECORD, StepId.FETCH),
        *(StepId.BACKUP, StepId.EXPAND),
    }
)
"""Steps that leave what runs as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. When rolling, `part` of `parts` counts from 1; a shift says the percentage of traffic."""

    id: StepId
    part: int = 1
    parts: int = 1
    share: float | None = None

    @property
    def name(self) -> str:
        """What people and the journal call it: `shift 25%`, `start 2/3`."""
        if self.share is not None:
            return f"{self.id} {self.share:g}%"
        return f"{self.id} {self.part}/{self.parts}" if self.parts > 1 else str(self.id)


class BadBatch(UsageError):
    """`batch`, or a canary step, is no number or percentage that can be used."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(
            f'cannot use `{key} = "{text}"`: expected a number from 1, or a percentage up to 100'
        )


def plan_steps(
    settings: DeploySettings, *, instances: int = 1, is_first: bool = False, migrates: bool = False
) -> tuple[Step, ...]:
    """Return the steps of one deployment.

    Args:
        instances: How many instances or hosts the old release has, for `batch`.
        is_first: Nothing runs there yet: there is nobody to compare with, to drain or to keep.
        migrates: Migrations are pending.

    Raises:
        BadBatch: A number in the settings cannot be used.
    """
    before = [StepId.PREFLIGHT, StepId.AUTHORISE, StepId.LOCK, StepId.RECORD, StepId.FETCH]
    before += [StepId.BACKUP] if settings.backup is not None else []
    before += [StepId.EXPAND] if migrates else []
    last = [StepId.KEEP, StepId.FINISH] if not is_first else [StepId.FINISH]
    return (
        *(Step(id=one) for one in before),
        *_moves(settings, instances, is_first),
        *(Step(id=one) for one in last),
    )


def plan_digest(environment: str, release_id: str, steps: Sequence[Step]) -> Digest:
    """Hash what an approval is bound to: where, what, and how."""
    return digest_json([environment, release_id, [step.name for step in steps]])


def _moves(settings: DeploySettings, instances: int, is_first: bool) -> Iterator[Step]:
    """The steps from the first that changes what runs."""
    strategy = "blue_green" if is_first else settings.strategy
    if strategy == "rolling":
        yield from _rolling(math.ceil(instances / batch_size(settings.batch, instances)))
        return
    if strategy == "recreate":
        yield Step(id=StepId.DRAIN)
    yield from (Step(id=StepId.START), Step(id=StepId.READY), Step(id=StepId.PREVIEW))
    shares = [share_of(text) for text in settings.canary.steps] if strategy == "canary" else [100.0]
    for share in shares:
        yield Step(id=StepId.SHIFT, share=share)
        yield Step(id=StepId.BAKE, share=share)
    if strategy != "recreate" and not is_first:
        yield Step(id=StepId.DRAIN)


def _rolling(parts: int) -> Iterator[Step]:
    for part in range(1, parts + 1):
        yield from (Step(id=one, part=part, parts=parts) for one in (StepId.START, StepId.READY))
        if part == 1:
            yield Step(id=StepId.PREVIEW)
        yield Step(id=StepId.SHIFT, part=part, parts=parts, share=100.0 * part / parts)
        yield Step(id=StepId.DRAIN, part=part, parts=parts)
    yield Step(id=StepId.BAKE, share=100.0)


def batch_size(text: str, instances: int) -> int:
    """Return how many of `instances` go at once, at least one.

    Raises:
        BadBatch: `text` is neither a number from 1 nor a percentage.
    """
    if text.endswith("%"):
        return max(1, math.floor(instances * share_of(text, "batch") / 100))
    if not text.isdecimal() or int(text) < 1:
        raise BadBatch("batch", text)
    return min(int(text), max(instances, 1))


def share_of(text: str, key: str = "steps") -> float:
    """Read "25%" as 25.0.

    Raises:
        BadBatch: It is no percentage above 0 and up to 100.
    """
    number = text.removesuffix("%")
    if number == text or not number.replace(".", "", 1).isdecimal() or not 0 < float(number) <= 100:
        raise BadBatch(key, text)
    return float(number)
