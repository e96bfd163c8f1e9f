"""Decides what becomes of a deployment whose deployer died: pure, from its journal and its plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.deploy.steps import BEFORE_CHANGES, StepId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.deploy.journal import Line
    from pipeline.deploy.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """`undo`: all steps up to `step`; `forward`: from `step` on; `close`: nothing has been changed."""

    what: Literal["undo", "forward", "close"]
    step: int
    reason: str


def decide_resolution(lines: Sequence[Line], steps: Sequence[Step]) -> Resolution:
    """Say how to end an open deployment.

    It goes on only where the last watch has passed: what was measured is lost with the deployer, and the old
    release is known to be good. An undo that had begun is finished.
    """
    reached = max((line.step for line in lines if line.event == "intent"), default=-1)
    done = {line.step for line in lines if line.event == "done"}
    at = f"its deployer ended at step `{steps[reached].name}`" if reached >= 0 else "its deployer ended"
    undoing = any(line.event in ("undo", "failed") for line in lines)
    watched = max((place for place, step in enumerate(steps) if step.id is StepId.BAKE), default=-1)
    if not undoing and watched >= 0 and watched in done:
        return Resolution(what="forward", step=max(done) + 1, reason=at)
    if reached < 0 or steps[reached].id in BEFORE_CHANGES:
        return Resolution(what="close", step=reached, reason=at)
    return Resolution(what="undo", step=reached, reason=at)
