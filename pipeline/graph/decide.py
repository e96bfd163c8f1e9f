"""Which stages start now, and which are skipped: a pure function of what is known.

The loop that starts tasks (`run`) has no rules of its own; they are all here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Standing(Enum):
    """What a finished stage means to those that wait for it."""

    GOOD = "good"  # it succeeded, its result is there
    TOLERATED = "tolerated"  # no result, but nobody minds: it failed softly, or skipped itself
    BAD = "bad"  # it failed, or was skipped because another one failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What one stage waits for and what it takes up while it runs."""

    needs: frozenset[str] = frozenset()  # must be GOOD
    after: frozenset[str] = frozenset()  # must be GOOD or TOLERATED
    despite: frozenset[str] = frozenset()  # must be over, however it ended
    weight: int = 1
    exclusive: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Stages to start, in order, and stages to skip with the stage each waited for in vain."""

    start: list[str] = field(default_factory=list)
    skip: dict[str, str] = field(default_factory=dict)


def decide(
    waiting: Mapping[str, Wait],
    done: Mapping[str, Standing],
    running: Mapping[str, Wait],
    *,
    slots: int,
    keep_going: bool,
) -> Decision:
    """Say which of the `waiting` stages to start and which to skip now; change nothing.

    `waiting` is in order of preference. A stage is ready when all it needs is GOOD, all it comes after is at
    least TOLERATED, and all it may run `despite` is over. Ready stages start while their weights fit into
    `slots`; one that does not fit lets lighter ones behind it go first. A stage heavier than all slots
    counts as heavy as all of them, so it runs alone: an idle machine always starts something that is ready.
    Of an `exclusive` group one stage runs at a time.

    A stage that waits for a BAD one, or needs a TOLERATED one, is skipped. Record the skips as BAD (as
    TOLERATED where all it waited for in vain was TOLERATED) and ask again: a failure travels one step of the
    graph per call. Without `keep_going` (fail-fast) one BAD stage is enough: nothing new starts, every
    waiting stage is skipped on account of the first BAD one (or of the one it waited for), and those
    running are left to finish.
    """
    lacking = {name for name, standing in done.items() if standing is not Standing.GOOD}
    bad = {name for name in lacking if done[name] is Standing.BAD}
    if bad and not keep_going:
        first = next(name for name in done if name in bad)
        return Decision(skip={name: _culprit(wait, done) or first for name, wait in waiting.items()})
    decision = Decision()
    settled = done.keys()
    free = slots - sum(min(wait.weight, slots) for wait in running.values())
    taken: set[str | None] = {wait.exclusive for wait in running.values()}
    for name, wait in waiting.items():
        if free <= 0 and not lacking:
            break  # only an optimisation: what follows could neither start nor be skipped
        if lacking and (wait.needs & lacking or wait.after & bad):
            decision.skip[name] = _culprit(wait, done) or ""
        elif wait.needs <= settled and wait.after <= settled and wait.despite <= settled:
            weight = min(wait.weight, slots)
            if weight <= free and (wait.exclusive is None or wait.exclusive not in taken):
                decision.start.append(name)
                free -= weight
                taken.add(wait.exclusive)
    return decision


def _culprit(wait: Wait, done: Mapping[str, Standing]) -> str | None:
    """The stage waited for in vain: a BAD one if there is one, else the lacking need; first by name."""
    bad = [name for name in wait.needs | wait.after if done.get(name) is Standing.BAD]
    lacking = [name for name in wait.needs if done.get(name) is Standing.TOLERATED]
    return min(bad or lacking, default=None)
