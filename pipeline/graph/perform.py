"""Bring one stage to its end: from the cache, or by running it, with its attempts; then keep what it made."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from pipeline.errors import PipelineError
from pipeline.graph.annotations import return_type
from pipeline.graph.attempt import Ended, attempt, log_text, plain_description
from pipeline.graph.cache import Entry, EntryDamaged
from pipeline.graph.context import Context, NeedGone, Skip, is_flaky, stand_ins_of, warnings_of
from pipeline.graph.decide import Standing
from pipeline.graph.events import StageFinished, StageRetried, StageStarted
from pipeline.graph.history import load_result, load_run
from pipeline.graph.inputs import project_files
from pipeline.graph.lookup import Found, Lookup, with_observed
from pipeline.graph.outcome import Failure, Outcome
from pipeline.graph.record import FolderBroken
from pipeline.graph.results import NotStorable, ResultUnreadable, from_plain, to_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.graph.context import Artifact
    from pipeline.graph.keys import KeyParts
    from pipeline.graph.ledger import Ledger
    from pipeline.graph.plan import Plan
    from pipeline.graph.services import RunServices
    from pipeline.graph.settings import RunSettings
    from pipeline.graph.stage import AnyStage


class RenewRefused(PipelineError):
    """A result that is gone cannot be made again."""

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"cannot make the result of `{stage}` again: {why}")
        self.stage = stage


class SecretInResult(PipelineError):
    """A stage's result shows a secret: it would be written to disk."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"cannot keep the result of `{stage}`: it shows the value of a secret")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A result as JSON, not read yet: most cached results are never asked for."""

    data: Any


class Performer:
    """Does the work of a run's stages; whether and when is the scheduler's business."""

    def __init__(
        self,
        *,
        plan: Plan,
        settings: RunSettings,
        lookup: Lookup,
        ledger: Ledger,
        services: RunServices,
        describe: Callable[[BaseException], Failure],
        stopped: Callable[[str], StageFinished],
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.folder = settings.folder
        self.lookup = lookup
        self.ledger = ledger
        self.services = services
        self.describe = describe
        self.stopped = stopped
        self.results: dict[str, Any] = {}  # values, and `_Stored` ones not read yet
        self.made: dict[str, int] = {}  # how often a stage's result was made
        self.locks: dict[str, anyio.Lock] = {}
        self.has_stored = False

    async def conclude(self, name: str) -> StageFinished:
        """Take a stage from the cache, or run it; what goes wrong beside its function is its error too.

        Raises:
            FolderBroken: The run folder cannot be written.
        """
        try:
            return await self.take_or_run(name)
        except FolderBroken:
            raise
        except Exception as error:  # noqa: BLE001 - the other stages go on
            ended = Ended(outcome=Outcome.ERROR, failure=plain_description(error), error=error)
            return self.failed(name, self.logged(name, ended))

    async def take_or_run(self, name: str) -> StageFinished:
        """Take a stage from the cache, or run it."""
        found = self.lookup.look(name, self.absent(name))
        self.ledger.live[name].why = found.why
        if found.entry is not None:
            event = await self.restore(name, found.entry, found.why)
            if event is not None:
                return event
            found = self.lookup.forget(name, "its stored files were damaged")
        elif (event := self.reused(name)) is not None:
            return event
        return await self.perform(name, found)

    async def restore(self, name: str, entry: Entry, why: str) -> StageFinished | None:
        """Bring back result and kept files of a cached stage; None when they are damaged."""
        cache = self.settings.cache
        if cache is None:
            return None
        try:
            if entry.kept:
                into = self.folder.files_folder(name)
                paths = await anyio.to_thread.run_sync(cache.restore, entry, into)
                for artifact in entry.kept:
                    self.services.know(name, artifact, paths[artifact.name])
        except EntryDamaged as error:
            self.services.log(name, str(error))
            return None
        self.results[name] = _Stored(entry.result)
        event = self.ledger.ending(
            name,
            Outcome.SUCCESS,
            why,
            cached=True,
            flaky=is_flaky(entry.parts.observed),
            key=entry.parts.key,
            kept=tuple(artifact.name for artifact in entry.kept),
            warnings=warnings_of(entry.parts.observed),
            stand_ins=stand_ins_of(entry.parts.observed),
        )
        self.folder.result(event, entry.result, entry.kept)
        return event

    def reused(self, name: str) -> StageFinished | None:
        """An effect that is only needed and was done, there too, in the run that is continued."""
        row, run = self.plan.rows[name], self.settings.reuse
        if not row.stage.effect or row.chosen or run is None:
            return None
        before, whole = load_result(run, name), load_run(run)
        if before is None or before["outcome"] != Outcome.SUCCESS:
            return None
        if whole is None or whole.get("environment") != self.settings.environment:
            return None
        self.results[name] = _Stored(before.get("result"))
        event = self.ledger.ending(name, Outcome.SUCCESS, f"done in run {run.name}", cached=True)
        self.folder.result(event, before.get("result"), ())
        return event

    async def perform(self, name: str, found: Found) -> StageFinished:
        """Run a stage, with its attempts, and keep what it made."""
        stage, live = self.plan.rows[name].stage, self.ledger.live[name]
        live.why = found.why
        renewed = False
        while True:
            live.attempts += 1
            self.ledger.emit(StageStarted(at=time.time(), stage=name, attempt=live.attempts, why=found.why))
            context = self.context(name, found)
            self.services.kept.pop(name, None)  # of an attempt that failed
            ended, taken = await self.attempt(name, context)
            if isinstance(ended.error, NeedGone) and not renewed:
                renewed = True
                live.attempts -= 1
                await self.renew(ended.error, name, taken)
                continue
            if not self.worth_another(stage, ended, live.attempts):
                break
            await self.pause(name, ended, live.attempts)
        if ended.outcome is Outcome.SUCCESS:
            return await self.succeeded(name, found, context, ended.value)
        return self.failed(name, ended)

    async def attempt(self, name: str, context: Context) -> tuple[Ended, dict[str, int]]:
        """One attempt; also which making of each need it was given."""
        taken = {need: self.made.get(need, 0) for need in self.plan.rows[name].links.all}
        try:
            needs = self.arguments(name)
        except NeedGone as error:
            return Ended(outcome=Outcome.ERROR, failure=plain_description(error), error=error), taken
        ended = await attempt(
            self.plan.rows[name].stage,
            context,
            needs,
            describe=self.describe,
            doing=lambda: self.ledger.doing_in(name),
        )
        return self.logged(name, ended), taken

    def logged(self, name: str, ended: Ended) -> Ended:
        """Let people see the stage's own last lines; an error's traceback goes to its log alone."""
        failure = ended.failure
        if failure is not None and not failure.tail:
            ended = replace(ended, failure=replace(failure, tail=tuple(self.ledger.live[name].tail)))
        if ended.error is not None and ended.outcome is Outcome.ERROR:
            self.services.log(name, log_text(ended.error))
        return ended

    def context(self, name: str, found: Found) -> Context:
        """A context for one attempt."""
        stage, settings = self.plan.rows[name].stage, self.settings
        facts = {"environment": settings.environment, "commit": settings.commit, "dirty": settings.dirty}
        return Context(
            root=settings.root,
            run_id=self.folder.run_id,
            stage=name,
            services=self.services,
            options=self.lookup.options(name),
            inputs=stage.inputs,
            files=tuple(self.lookup.files.matching(stage.inputs)),
            secrets=stage.secrets,
            facts=facts,
            absent=self.absent(name),
            settings=settings.config,
            attempt=self.ledger.live[name].attempts,
            key="" if found.parts is None else found.parts.base,
            span_id=os.urandom(8).hex(),
        )

    def absent(self, name: str) -> dict[str, str]:
        """The needs a stage goes without because they ended badly, and how they ended."""
        row = self.plan.rows[name]
        bad = [need for need in row.links.optional if self.ledger.done.get(need) is Standing.BAD]
        return {need: self.ledger.finished[need].how for need in bad}

    def arguments(self, name: str) -> dict[str, Any]:
        """The results of a stage's needs; stored ones are read now.

        Raises:
            NeedGone: A stored result does not fit its type any more.
        """
        links = self.plan.rows[name].links
        values = {}
        for need in (*links.needs, *links.optional):
            if self.ledger.done.get(need) is not Standing.GOOD:
                continue  # an optional one that is not there: the default serves
            value = self.results[need]
            if isinstance(value, _Stored):
                try:
                    kind = return_type(self.plan.rows[need].stage.function)
                    value = self.results[need] = from_plain(value.data, kind)
                except ResultUnreadable as error:
                    raise NeedGone(need, str(error)) from error
            values[need] = value
        return values

    def worth_another(self, stage: AnyStage, ended: Ended, attempts: int) -> bool:
        """Whether the stage's retry rule wants another attempt."""
        if stage.retry is None or ended.error is None or ended.failure is None:
            return False
        if isinstance(ended.error, (NeedGone, Skip)) or attempts >= stage.retry.attempts:
            return False
        return stage.retry.matches(ended.error, ended.failure)

    async def pause(self, name: str, ended: Ended, attempts: int) -> None:
        """Tell of the failed attempt, and wait before the next one."""
        retry = self.plan.rows[name].stage.retry
        if retry is None or ended.failure is None:
            return
        wait_s = retry.wait_after(attempts)
        now = time.time()
        self.ledger.emit(
            StageRetried(at=now, stage=name, attempt=attempts, failure=ended.failure, wait_s=wait_s)
        )
        await anyio.sleep(wait_s)

    async def renew(self, gone: NeedGone, asker: str, taken: Mapping[str, int]) -> None:
        """Make a needed stage's result again, past its cache; once for all that miss the same one.

        Raises:
            PipelineError: It is no need of the asker, it is an effect, or it could not be made.
        """
        need = gone.stage_name
        links = self.plan.rows[asker].links
        if need not in (*links.needs, *links.optional):
            raise RenewRefused(need, f"`{asker}` does not need it")
        if self.plan.rows[need].stage.effect:
            raise RenewRefused(need, "it is an effect, which is not repeated")
        async with self.locks.setdefault(need, anyio.Lock()):
            if self.made.get(need, 0) != taken.get(need, 0):
                return
            found = self.lookup.forget(need, f"`{asker}` found its result gone: {gone}")
            self.ledger.begin(need, found.why)
            try:
                event = await self.perform(need, found)
            except anyio.get_cancelled_exc_class():
                self.ledger.settle(self.stopped(need))
                raise
            self.ledger.settle(event)
            if event.outcome is not Outcome.SUCCESS:
                raise RenewRefused(need, event.failure.message if event.failure else event.why)

    async def succeeded(self, name: str, found: Found, context: Context, value: Any) -> StageFinished:
        """Note a good result, write it down, and store it if it may be stored."""
        self.results[name] = value
        self.made[name] = self.made.get(name, 0) + 1
        live = self.ledger.live[name]
        context.tell_absent()
        kept = tuple(self.services.kept.get(name, {}).values())
        parts = None if found.parts is None else with_observed(found.parts, context.observed)
        if parts is not None:
            self.lookup.keys[name] = parts.key
        plain, storable = self.written_down(name, value)
        if parts is not None and storable:
            await self.store(name, parts, plain, kept)
        event = self.ledger.ending(
            name,
            Outcome.SUCCESS,
            live.why,
            flaky=live.attempts > 1 or is_flaky(context.observed),
            key="" if parts is None else parts.key,
            kept=tuple(artifact.name for artifact in kept),
            warnings=warnings_of(context.observed),
            stand_ins=stand_ins_of(context.observed),
        )
        self.folder.result(event, plain, kept)
        return event

    def written_down(self, name: str, value: Any) -> tuple[Any, bool]:
        """A result as JSON, and whether it may be stored.

        Raises:
            SecretInResult: It shows a secret.
        """
        try:
            plain = to_plain(value, return_type(self.plan.rows[name].stage.function))
        except NotStorable as error:
            self.services.log(name, f"not cached: {error}")
            return None, False
        if plain is not None and self.ledger.scrubber.holds(json.dumps(plain, ensure_ascii=False)):
            raise SecretInResult(name)
        return plain, True

    async def store(self, name: str, parts: KeyParts, plain: Any, kept: tuple[Artifact, ...]) -> None:
        """Store a good result, unless what it was made of changed meanwhile."""
        cache, settings = self.settings.cache, self.settings
        if cache is None or self.lookup.distrust(name) is not None:
            return
        live = self.ledger.live[name]
        entry = Entry(
            parts=parts,
            result=plain,
            kept=kept,
            duration_s=time.monotonic() - live.began,
            run_id=self.folder.run_id,
            at=time.time(),
        )
        paths = {artifact.name: self.services.path(artifact) for artifact in kept}

        def act() -> str | None:
            if parts.inputs and settings.recheck_inputs:
                now = project_files(settings.root, settings.memory)
                if now.matching(self.plan.rows[name].stage.inputs) != parts.inputs:
                    return f"inputs of `{name}` changed while it ran"
            cache.put(entry, paths)
            return None

        try:
            doubt = await anyio.to_thread.run_sync(act)
        except (OSError, PipelineError) as error:
            self.services.log(name, f"not cached: {error}")
            return
        if doubt is not None:
            self.lookup.untrusted[name] = doubt
            self.services.log(name, f"not cached: {doubt}")
        self.has_stored = True

    def failed(self, name: str, ended: Ended) -> StageFinished:
        """Note a stage that did not succeed."""
        stage, live = self.plan.rows[name].stage, self.ledger.live[name]
        if ended.outcome is Outcome.SKIP:
            return self.ledger.ending(name, Outcome.SKIP, ended.reason)
        failure = ended.failure or Failure(message="no reason is known")
        kept = tuple(self.services.kept.get(name, {}).values())
        event = self.ledger.ending(
            name,
            ended.outcome,
            live.why,
            failure=failure,
            soft_failed=stage.soft_fail,
            kept=tuple(artifact.name for artifact in kept),
        )
        self.folder.result(event, None, kept)
        return event
