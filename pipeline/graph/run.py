"""Run a plan: start what `decide` says, keep the limits, tell events, and give every stage its outcome."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from pipeline.errors import EXIT_DEADLINE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from pipeline.graph.attempt import plain_description
from pipeline.graph.decide import Standing, Wait, decide
from pipeline.graph.events import RunFinished, RunStarted, StageFinished
from pipeline.graph.history import line_of
from pipeline.graph.inputs import ProjectFiles, project_files
from pipeline.graph.ledger import Ledger
from pipeline.graph.lookup import Lookup, forecast
from pipeline.graph.outcome import Failure, Outcome
from pipeline.graph.perform import Performer
from pipeline.graph.plan import EffectRefused
from pipeline.graph.record import FolderBroken
from pipeline.graph.services import EngineHost, RunServices
from pipeline.graph.settings import RunResult, RunSettings, usable_cpus
from pipeline.graph.signals import MARGIN_S, Interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import TaskGroup

    from pipeline.graph.context import EngineOpener
    from pipeline.graph.events import Event
    from pipeline.graph.plan import Plan

__all__ = ["RunResult", "RunSettings", "run"]


async def run(
    plan: Plan,
    settings: RunSettings,
    *,
    observers: Sequence[Callable[[Event], None]] = (),
    opener: EngineOpener | None = None,
    describe: Callable[[BaseException], Failure] = plain_description,
) -> RunResult:
    """Run the plan's stages and give each its outcome; the run folder has the evidence, whatever happens.

    Stages start as `decide` says. A stage's limit counts for each attempt. When the whole run's limit is
    over, or at the first SIGINT, SIGTERM or SIGHUP, running stages are cancelled and may clean up for
    `grace_s`; a second signal, or stages that do not stop, end the process (with `handle_signals`, in the
    main thread). An observer that raises is dropped and named in `problems`.

    Exit code: 0 good; 130 interrupted; 124 the run's limit was over, or stages timed out and none failed
    otherwise; else 1.

    Args:
        observers: Called with each event, in order, after the run folder has it.
        opener: Lends the Dagger client; entered when the first stage asks, left when all stages are done.
        describe: Turns what a stage raised into what people need; with an exit code it counts as failure.

    Raises:
        EffectRefused: The plan holds effects and there is no environment. Nothing was run.
        GitFailed: The project's files cannot be listed. Nothing was run.
        FolderBroken: The run folder cannot be written any more; running stages were cancelled.
    """
    if plan.effects() and not settings.environment:
        raise EffectRefused(plan.effects())
    files = settings.files
    if files is None:
        files = await anyio.to_thread.run_sync(project_files, settings.root, settings.memory)
    return await _Run(plan, settings, files, observers, describe).go(opener)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """Why the whole run is being stopped."""

    outcome: Outcome
    exit_code: int
    message: str


class _Run:
    """One run. State changes happen between awaits, in synchronous methods."""

    def __init__(
        self,
        plan: Plan,
        settings: RunSettings,
        files: ProjectFiles,
        observers: Sequence[Callable[[Event], None]],
        describe: Callable[[BaseException], Failure],
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.describe = describe
        self.began = time.monotonic()
        self.began_at = time.time()
        self.slots = settings.slots or usable_cpus()
        self.ledger = Ledger(settings.folder, observers, self.break_off)
        self.lookup = Lookup(plan, files, settings.world(), settings.cache, read=settings.cache_read)
        self.waiting = _waits(plan, settings.expected_s)
        self.running: dict[str, Wait] = {}
        self.stop: _Stop | None = None
        self.scope = anyio.CancelScope()
        self.tasks: TaskGroup
        self.performer: Performer

    async def go(self, opener: EngineOpener | None) -> RunResult:
        """Run to the end."""
        loop = asyncio.get_running_loop()

        def on_signal(name: str) -> None:
            loop.call_soon_threadsafe(self.interrupt, name)

        grace_s = self.settings.grace_s
        interrupts = Interrupts(stop=on_signal, last_words=self.last_words, grace_s=grace_s)
        with interrupts if self.settings.handle_signals else nullcontext():
            if self.settings.timeout_s is not None:
                # For a stage that blocks the event loop, so that `watch` cannot see the time.
                reason = f"the run's limit was over, and stages did not stop within {grace_s:g} s"
                interrupts.limit(self.settings.timeout_s + grace_s + MARGIN_S, reason, EXIT_DEADLINE)
            self.start()
            try:
                await self.stages(opener)
            except anyio.get_cancelled_exc_class():
                # Our caller gave up on the run; the evidence says so.
                text = "the run was cancelled"
                self.stop = _Stop(outcome=Outcome.CANCELLATION, exit_code=EXIT_INTERRUPTED, message=text)
                self.advance()
                self.finish()
                raise
            return await self.end()

    async def stages(self, opener: EngineOpener | None) -> None:
        """Run the stages, with an engine for those that ask."""
        settings, ledger = self.settings, self.ledger
        async with anyio.create_task_group() as helpers:
            engine = EngineHost(opener, ledger.emit, helpers)
            services = RunServices(
                folder=settings.folder,
                cache=settings.cache,
                emit=ledger.emit,
                secret=settings.secret,
                scrubber=ledger.scrubber,
                engine=engine,
            )
            self.performer = Performer(
                plan=self.plan,
                settings=settings,
                lookup=self.lookup,
                ledger=ledger,
                services=services,
                describe=self.describe,
                stopped=self.stopped,
            )
            helpers.start_soon(self.watch)
            with self.scope:
                async with anyio.create_task_group() as self.tasks:
                    self.advance()
            self.advance()  # those that had not started when the run was stopped
            await engine.close(settings.grace_s)
            helpers.cancel_scope.cancel()
        if engine.problem is not None:
            ledger.problems.append(engine.problem)

    def start(self) -> None:
        """Tell the plan."""
        settings = self.settings
        self.ledger.emit(
            RunStarted(
                at=self.began_at,
                run_id=self.settings.folder.run_id,
                command=settings.command,
                project=settings.root.name,
                commit=settings.commit,
                dirty=settings.dirty,
                environment=settings.environment,
                stages=forecast(self.lookup, settings.expected_s),
            )
        )
        for name, row in self.plan.rows.items():
            if row.skipped:
                self.ledger.emit(self.ledger.ending(name, Outcome.SKIP, row.why))

    def finish(self) -> RunFinished:
        """Tell the end."""
        outcome, code, message = self.verdict()
        event = RunFinished(
            at=time.time(), outcome=outcome, exit_code=code, duration_s=self.took_s(), message=message
        )
        self.ledger.emit(event)
        return event

    async def end(self) -> RunResult:
        """Tell the end, and write what only the end knows."""
        ledger, settings = self.ledger, self.settings
        event = self.finish()
        if ledger.broken is not None:
            raise ledger.broken
        try:
            if settings.history is not None:
                settings.history.add(line_of(settings.folder.run_id, event, ledger.finished))
            if self.performer.has_stored and settings.cache is not None:
                await anyio.to_thread.run_sync(settings.cache.shrink)
        except OSError as error:
            ledger.problems.append(f"cannot write history or stage cache: {error}")
        return RunResult(
            run_id=settings.folder.run_id,
            outcome=event.outcome,
            exit_code=event.exit_code,
            duration_s=event.duration_s,
            stages=ledger.finished,
            message=event.message,
            problems=tuple(ledger.problems),
        )

    def took_s(self) -> float:
        """How long the run has taken so far, whatever somebody did to the clock."""
        return time.monotonic() - self.began

    def verdict(self) -> tuple[Outcome, int, str]:
        """The run's outcome, exit code and message."""
        if self.stop is not None:
            return self.stop.outcome, self.stop.exit_code, self.stop.message
        bad = {
            event.outcome
            for name, event in self.ledger.finished.items()
            if self.ledger.done.get(name) is Standing.BAD and event.outcome is not Outcome.SKIP
        }
        for outcome in (Outcome.FAILURE, Outcome.ERROR, Outcome.CANCELLATION, Outcome.TIMEOUT):
            if outcome in bad:
                return outcome, EXIT_DEADLINE if outcome is Outcome.TIMEOUT else EXIT_FAILED, ""
        return Outcome.SUCCESS, EXIT_OK, "" if self.plan.active else "nothing to run"

    def interrupt(self, name: str) -> None:
        """Stop the run on account of a signal."""
        text = f"interrupted by {name} while {self.ledger.doing()}"
        self.halt(_Stop(outcome=Outcome.CANCELLATION, exit_code=EXIT_INTERRUPTED, message=text))

    def break_off(self, error: FolderBroken) -> None:
        """Stop the run because its evidence cannot be written."""
        self.halt(_Stop(outcome=Outcome.ERROR, exit_code=EXIT_FAILED, message=str(error)))

    def halt(self, stop: _Stop) -> None:
        """Cancel the stages; the first reason counts."""
        if self.stop is None:
            self.stop = stop
            self.scope.cancel()

    async def watch(self) -> None:
        """Warn about quiet stages, and stop the run when its limit is over."""
        settings = self.settings
        pause = max(0.01, min(5.0, settings.quiet_s / 4))
        while True:
            left = math.inf if settings.timeout_s is None else settings.timeout_s - self.took_s()
            if left <= 0:
                text = f"the run's limit of {settings.timeout_s:g} s was over while {self.ledger.doing()}"
                self.halt(_Stop(outcome=Outcome.TIMEOUT, exit_code=EXIT_DEADLINE, message=text))
                return
            await anyio.sleep(min(pause, left))
            self.ledger.warn_quiet(settings.quiet_s)

    def last_words(self, reason: str, code: int) -> str:
        """Write the end into the run folder just before the process is ended by force; return its message.

        Called from any thread.
        """
        if code == EXIT_DEADLINE:
            reason = f"{reason}; {self.ledger.doing()}"
        outcome = Outcome.TIMEOUT if code == EXIT_DEADLINE else Outcome.CANCELLATION
        for name in list(self.ledger.live):
            self.settings.folder.write(self.ledger.ending(name, outcome, reason))
        self.settings.folder.write(
            RunFinished(
                at=time.time(), outcome=outcome, exit_code=code, duration_s=self.took_s(), message=reason
            )
        )
        return reason

    def advance(self) -> None:
        """Do what `decide` says until it says no more."""
        while self.waiting:
            if self.stop is not None:
                for name in list(self.waiting):
                    self.skip(name, f"not started: {self.stop.message}", Standing.BAD)
                return
            decision = decide(
                self.waiting,
                self.ledger.done,
                self.running,
                slots=self.slots,
                keep_going=self.settings.keep_going,
            )
            for name in decision.start:
                self.running[name] = self.waiting.pop(name)
                self.tasks.start_soon(self.work, name)
            for name, culprit in decision.skip.items():
                self.skip_for(name, culprit)
            if not decision.skip:
                if not self.running:
                    # `decide` starts something on an idle machine; else the run must not pass for a good one.
                    raise RuntimeError(f"no stage can start: {', '.join(self.waiting)}")
                return

    def skip_for(self, name: str, culprit: str) -> None:
        """Skip a stage on account of another one."""
        wait, ended = self.waiting[name], self.ledger.finished[culprit]
        waits = culprit in wait.needs or culprit in wait.after
        how = f"`{culprit}` {ended.how}"
        why = how if waits else f"the run stops at the first failure: {how}"
        self.skip(name, why, self.ledger.done[culprit])

    def skip(self, name: str, why: str, standing: Standing) -> None:
        """Note that a stage is skipped."""
        del self.waiting[name]
        self.ledger.done[name] = standing
        self.ledger.emit(self.ledger.ending(name, Outcome.SKIP, why))

    async def work(self, name: str) -> None:
        """Bring one stage to its end; the task of a started stage."""
        self.ledger.begin(name, "")
        try:
            event = await self.performer.conclude(name)
        except anyio.get_cancelled_exc_class():
            self.settle(self.stopped(name))
            raise
        except FolderBroken as error:
            self.ledger.broken = error
            self.break_off(error)
            event = self.ledger.ending(name, Outcome.ERROR, str(error))
        self.settle(event)
        self.advance()

    def settle(self, event: StageFinished) -> None:
        """Give back the stage's slots, and tell its end."""
        del self.running[event.stage]
        self.ledger.settle(event)

    def stopped(self, name: str) -> StageFinished:
        """The end of a stage that was cancelled with the run."""
        stop = self.stop
        outcome = Outcome.TIMEOUT if stop and stop.outcome is Outcome.TIMEOUT else Outcome.CANCELLATION
        message = (
            f"cancelled: {stop.message if stop else 'the run was cancelled'}; {self.ledger.doing_in(name)}"
        )
        failure = Failure(message=message, tail=tuple(self.ledger.live[name].tail))
        return self.ledger.ending(name, outcome, self.ledger.live[name].why, failure=failure)


def _waits(plan: Plan, expected_s: Mapping[str, float]) -> dict[str, Wait]:
    """What each stage waits for, those at the head of the longest way to the end first."""
    active = plan.active
    length: dict[str, float] = {}
    users: dict[str, list[str]] = {name: [] for name in active}
    for name in active:
        for other in plan.rows[name].links.all:
            users[other].append(name)
    for name in reversed(active):
        # Without history a stage counts as one second: then the longest chain of stages goes first.
        own = expected_s.get(name, 1.0)
        length[name] = own + max((length[user] for user in users[name]), default=0.0)
    ordered = sorted(active, key=lambda name: -length[name])
    return {name: _wait(plan, name) for name in ordered}


def _wait(plan: Plan, name: str) -> Wait:
    row = plan.rows[name]
    despite = frozenset(row.links.optional).intersection(row.stage.despite)
    after = {*row.links.optional, *row.links.after} - despite
    if row.stage.effect:
        # A stage between them may have gone on without the bad one: no effect follows from that.
        after |= plan.graph.ancestors([name]).intersection(plan.active) - {name}
    return Wait(
        needs=frozenset(row.links.needs),
        after=frozenset(after),
        despite=despite,
        weight=row.stage.weight,
        exclusive=row.stage.exclusive,
    )
