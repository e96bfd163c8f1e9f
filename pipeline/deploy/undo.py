"""Undoes a deployment: traffic first, evidence before anything is removed, and nothing ends it half-way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.health import wait_until_ready
from pipeline.deploy.outcome import Told
from pipeline.deploy.steps import StepId
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pipeline.deploy.journal import Event
    from pipeline.deploy.release import Release
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment, Target

HEALTHY_FOR_S: Final = 1.0
"""The old release has run before: it is asked to stay healthy for less long than a new one."""


@dataclass(kw_only=True)
class Undo:
    """One undoing. `line` writes to the journal."""

    target: Target
    deployment: Deployment
    line: Callable[[Event, int, Mapping[str, Any]], Awaitable[None]]
    tell: Callable[[Told], None]
    keep: Callable[[Mapping[str, bytes]], None]
    _problems: list[str] = field(default_factory=list)

    async def all_of(self, steps: Sequence[Step], reached: int) -> tuple[str, ...]:
        """Undo the steps up to `reached`, and see that the old release is healthy; return what went wrong."""
        await self._attempt("traffic back", reached, self._send_back)
        await self._attempt("evidence", reached, self._keep_evidence)
        for place in range(reached, -1, -1):
            step = steps[place]
            if step.id is StepId.START:
                remove = partial(self.target.remove, self.deployment, step.part)
                await self._attempt(step.name, place, remove)
            elif step.id is StepId.DRAIN:
                await self._attempt(step.name, place, partial(self._restore, step.part))
        if self.deployment.old is not None:
            await self._attempt("old release", reached, partial(self._see_old, self.deployment.old))
        return tuple(self._problems)

    async def _send_back(self) -> None:
        """Give the old release all traffic, if it runs: as long as it does not, bad answers beat none."""
        old = self.deployment.old
        if old is not None and old.id in (await self.target.live()).running:
            await self.target.shift(self.deployment, 0)

    async def _restore(self, part: int) -> None:
        await self.target.restore(self.deployment, part)
        if self.deployment.old is not None:
            await self._see_old(self.deployment.old)

    async def _see_old(self, old: Release) -> None:
        await wait_until_ready(self.target, self.deployment, old, at_most_s=HEALTHY_FOR_S)
        await self._send_back()

    async def _keep_evidence(self) -> None:
        self.keep(await self.target.evidence(self.deployment))

    async def _attempt(self, name: str, place: int, act: Callable[[], Awaitable[None]]) -> None:
        """Try one part; a failure is remembered, and the next part is tried all the same."""
        await self.line("undo", place, {"what": name})
        self.tell(Told(deployment=self.deployment.id, what="undo", step=name))
        try:
            await act()
        except (PipelineError, OSError) as error:
            self._problems.append(f"{name}: {error}")
            await self.line("stuck", place, {"what": name, "reason": str(error)})
            self.tell(Told(deployment=self.deployment.id, what="stuck", step=name, text=str(error)))
            return
        await self.line("undone", place, {"what": name})
        self.tell(Told(deployment=self.deployment.id, what="undone", step=name))
