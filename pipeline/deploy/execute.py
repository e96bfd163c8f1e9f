"""Carries out a deployment: each step with a durable line before and after it; undoes it when a step fails.

What may be deployed, how a release is watched and what is told to whom are handed in, see `act`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.deploy.act import do_step
from pipeline.deploy.history import Entry, Kind, add_entry, load_release, read_history, save_release
from pipeline.deploy.journal import Event, Line, is_held, is_open, read_journal, write_line
from pipeline.deploy.outcome import Held, Outcome, Result, Told
from pipeline.deploy.records import read_record, write_record
from pipeline.deploy.resume import decide_resolution
from pipeline.deploy.steps import BEFORE_CHANGES, Step, StepId, plan_digest, plan_steps
from pipeline.deploy.target import Deployment, StrategyRefused
from pipeline.deploy.undo import Undo
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.delivery import Environment
    from pipeline.deploy.act import Helpers
    from pipeline.deploy.lease import Lease, Lock
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target

CURRENT: Final = "current.json"
UNDO_LIMIT_S: Final = 600.0


class JournalBroken(PipelineError):
    """The records of an open deployment do not fit together: nobody can say what it has done."""

    def __init__(self, deployment: str, what: str) -> None:
        super().__init__(f"cannot resume deployment `{deployment}`: {what}")
        self.hint = "look at what runs, then `pipeline env lock break` with `--forget` to begin anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks for."""

    release: Release
    kind: Kind = "deploy"
    actor: str = ""
    run: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The record that names the open deployment; "" is none."""

    deployment: str


@dataclass(kw_only=True)
class Work:
    """A deployment that is carried out; its history entry grows with it."""

    deployment: Deployment
    steps: tuple[Step, ...]
    entry: Entry


@dataclass(kw_only=True)
class Deployer:
    """Brings releases to one environment. `result` is how the last one ended, for who was interrupted."""

    environment: Environment
    target: Target
    lock: Lock
    helpers: Helpers
    result: Result | None = field(default=None, init=False)

    async def plan(self, release: Release) -> tuple[Deployment, tuple[Step, ...]]:
        """Say what a deployment would do now; changes nothing.

        Raises:
            StrategyRefused: The target cannot deploy in the way the environment asks for.
        """
        settings = self.environment.deploy
        why = self.target.find_refusal(settings.strategy)
        if why:
            raise StrategyRefused(self.target.kind, settings.strategy, why)
        live = await self.target.live()
        old = await load_release(self.target.state, live.release) if live.release else None
        replicas = max((one.settings.replicas for one in release.services.values()), default=1)
        deployment = Deployment(
            id=_new_id(self.helpers.clock()), environment=self.environment, new=release, old=old, fence=0
        )
        steps = plan_steps(
            settings,
            instances=max(replicas, len(self.environment.hosts)),
            is_first=old is None,
            migrates=await self.helpers.pending(deployment),
        )
        return replace(deployment, parts=max(step.parts for step in steps)), steps

    async def deploy(self, request: Request) -> Result:
        """Bring a release to the environment; what runs afterwards is one release, or the result says so.

        Raises:
            RefusedByPolicy: Lock, freeze, approval or policy forbid it; nothing was changed.
            LockLost: The environment belongs to somebody else by now; the next deployer resolves it.
            PipelineError: It failed before anything was changed.
        """
        deployment, steps = await self.plan(request.release)
        await self.target.check(deployment)
        await self.helpers.authorise(deployment, steps)
        lease = await self.lock.take(self.environment.deploy.lock_wait_s, self._tell_wait(deployment))
        async with self.lock.kept(lease):
            await self._resolve(lease)
            # Somebody may have deployed while we waited: what runs now is what is gone back to.
            again, steps = await self.plan(request.release)
            deployment = replace(again, id=deployment.id, fence=lease.fence)
            work = Work(deployment=deployment, steps=steps, entry=self._entry_of(deployment, steps, request))
            live = await self.target.live()
            if live.release == request.release.id and live.running == {request.release.id}:
                return await self._end(work, Outcome.ALREADY, "")
            await self._open(work)
            first = 1 + max(n for n, step in enumerate(steps) if step.id in (StepId.LOCK, StepId.RECORD))
            return await self._go(work, first)

    async def resolve(self, *, forward: bool = False) -> Result | None:
        """End a deployment whose deployer died, or that waits for somebody's word; None when there is none.

        Args:
            forward: Let one that waits go on, rather than undo it.
        """
        lease = await self.lock.take(self.environment.deploy.lock_wait_s)
        async with self.lock.kept(lease):
            return await self._resolve(lease, forward=forward)

    def _entry_of(self, deployment: Deployment, steps: Sequence[Step], request: Request) -> Entry:
        new = deployment.new
        return Entry(
            deployment=deployment.id,
            environment=self.environment.name,
            kind=request.kind,
            old=deployment.old.id if deployment.old else "",
            new=new.id,
            images={name: one.image_digest for name, one in new.services.items()},
            commit=new.commit,
            version=new.version,
            actor=request.actor,
            run=request.run,
            plan=plan_digest(self.environment.name, new.id, steps),
            fence=deployment.fence,
            started=self.helpers.clock(),
            reason=request.reason,
        )

    async def _open(self, work: Work) -> None:
        """Write down what is going to be done. What names the journal comes before it: none is ever lost."""
        state = self.target.state
        await save_release(state, work.deployment.new)
        await add_entry(state, work.entry)
        await self._write_current(work.deployment.id)
        plain = [
            {"id": str(one.id), "part": one.part, "parts": one.parts, "share": one.share}
            for one in work.steps
        ]
        await self._line(work.deployment.id, "open", detail={"steps": plain})
        self.helpers.tell(Told(deployment=work.deployment.id, what="open", text=work.deployment.new.id))

    async def _go(self, work: Work, first: int) -> Result:
        """Do the steps from that one on; undo them when one fails, unless the lock is lost."""
        reached = first - 1
        try:
            with anyio.fail_after(self.environment.deploy.deadline_s):
                for reached in range(first, len(work.steps)):
                    await self._do(work, reached)
        except Held as held:
            return await self._hold(work, reached, str(held))
        except BaseException as error:
            if self.lock.lost:
                raise  # it is not ours to undo: whoever holds the lock now resolves it
            reason = self._reason_of(error)
            with anyio.CancelScope(shield=True), anyio.move_on_after(UNDO_LIMIT_S):
                await self._line(work.deployment.id, "failed", step=reached, detail={"reason": reason})
                self.result = await self._undo(work, reached, reason)
            if self.result is None or not isinstance(error, PipelineError | OSError):
                raise
            return self.result
        return await self._end(work, Outcome.SUCCEEDED, "")

    async def _do(self, work: Work, place: int) -> None:
        """Do one step, between its two lines."""
        tell, step, name = self.helpers.tell, work.steps[place], work.deployment.id
        self.lock.step = step.name
        await self._line(name, "intent", step=place)
        tell(Told(deployment=name, what="begin", step=step.name))
        began = anyio.current_time()
        try:
            numbers = await do_step(self.target, self.helpers, work.deployment, step)
        except BaseException as error:
            tell(Told(deployment=name, what="failed", step=step.name, text=self._reason_of(error)))
            raise
        seconds = round(anyio.current_time() - began, 3)
        await self._line(name, "done", step=place, detail={"seconds": seconds, **numbers})
        backup = str(numbers.get("backup", work.entry.backup))
        work.entry = replace(work.entry, seconds={**work.entry.seconds, step.name: seconds}, backup=backup)
        tell(Told(deployment=name, what="done", step=step.name, seconds=seconds, numbers=numbers))

    async def _hold(self, work: Work, reached: int, why: str) -> Result:
        """Leave things as they are until somebody says how to go on."""
        await self._line(work.deployment.id, "held", step=reached, detail={"reason": why})
        return await self._end(work, Outcome.WAITING, why)

    async def _undo(self, work: Work, reached: int, why: str) -> Result:
        """Undo all steps up to `reached`, traffic first, and say what runs then."""
        if reached < 0 or work.steps[reached].id in BEFORE_CHANGES:
            return await self._end(work, Outcome.FAILED, why)
        if self.environment.deploy.on_failure == "pause":
            return await self._hold(work, reached, why)
        undo = Undo(
            target=self.target,
            deployment=work.deployment,
            line=lambda event, place, detail: self._line(
                work.deployment.id, event, step=place, detail=detail
            ),
            tell=self.helpers.tell,
            keep=self.helpers.keep,
        )
        problems = await undo.all_of(work.steps, reached)
        if problems:
            return await self._end(work, Outcome.ROLLBACK_FAILED, why, problems)
        outcome = Outcome.ROLLED_BACK if work.deployment.old is not None else Outcome.FAILED
        return await self._end(work, outcome, why)

    async def _resolve(self, lease: Lease, *, forward: bool = False) -> Result | None:
        """Bring an open deployment to its end, before anything else may begin."""
        state = self.target.state
        data, _ = await state.read(CURRENT)
        current = read_record(data, Current, CURRENT).deployment if data else ""
        lines = await read_journal(state, current) if current else ()
        if not is_open(lines):
            if current:
                await self._write_current("")
            return None
        work = await self._work_of(current, lines, lease)
        if forward and is_held(lines):
            return await self._go(work, lines[-1].step + 1)
        resolution = decide_resolution(lines, work.steps)
        if resolution.what == "forward":
            return await self._go(work, resolution.step)
        if resolution.what == "close":
            return await self._end(work, Outcome.FAILED, resolution.reason)
        return await self._undo(work, resolution.step, resolution.reason)

    async def _work_of(self, current: str, lines: Sequence[Line], lease: Lease) -> Work:
        """Read again what an open deployment was about.

        Raises:
            JournalBroken: Its records do not say.
        """
        state = self.target.state
        entry = {one.deployment: one for one in await read_history(state)}.get(current)
        new = await load_release(state, entry.new) if entry else None
        old = await load_release(state, entry.old) if entry and entry.old else None
        if entry is None or new is None or "steps" not in lines[0].detail:
            raise JournalBroken(current, "its release, its history or its plan is not recorded")
        steps = tuple(Step(**{**one, "id": StepId(one["id"])}) for one in lines[0].detail["steps"])
        deployment = Deployment(
            id=current,
            environment=self.environment,
            new=new,
            old=old,
            fence=lease.fence,
            parts=max(step.parts for step in steps),
        )
        return Work(deployment=deployment, steps=steps, entry=entry)

    async def _end(self, work: Work, outcome: Outcome, reason: str, problems: Sequence[str] = ()) -> Result:
        """Write down how it ended. One that waits stays open."""
        name = work.deployment.id
        work.entry = replace(work.entry, ended=self.helpers.clock(), outcome=outcome, reason=reason)
        await add_entry(self.target.state, work.entry)
        if outcome not in (Outcome.WAITING, Outcome.ALREADY):
            await self._line(name, "close", detail={"outcome": str(outcome), "reason": reason})
            await self._write_current("")
        live = await self.target.live()
        self.result = Result(
            deployment=name, outcome=outcome, release=live.release, reason=reason, problems=tuple(problems)
        )
        text = f"{outcome}: {reason}" if reason else str(outcome)
        self.helpers.tell(Told(deployment=name, what="close", text=text))
        await self.helpers.ended(work.entry)
        return self.result

    async def _line(
        self, deployment: str, event: Event, *, step: int = -1, detail: Mapping[str, Any] | None = None
    ) -> None:
        line = Line(event=event, step=step, at=self.helpers.clock(), detail=detail or {})
        await write_line(self.target.state, deployment, line)

    async def _write_current(self, deployment: str) -> None:
        _, version = await self.target.state.read(CURRENT)
        await self.target.state.write(CURRENT, write_record(Current(deployment=deployment)), version=version)

    def _tell_wait(self, deployment: Deployment) -> Callable[[Lease], None]:
        def tell(lease: Lease) -> None:
            who = lease.holder.actor if lease.holder else "nobody"
            text = f"waiting for {who}, at step `{lease.step}`"
            self.helpers.tell(Told(deployment=deployment.id, what="wait", step="lock", text=text))

        return tell

    def _reason_of(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"the deadline of {self.environment.deploy.deadline_s:g} s is over"
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return "it was interrupted"
        is_ours = isinstance(error, PipelineError | OSError)
        return str(error) if is_ours else f"{type(error).__name__}: {error}"


def _new_id(now: float) -> str:
    return time.strftime("d-%Y%m%d-%H%M%S-", time.gmtime(now)) + os.urandom(3).hex()
