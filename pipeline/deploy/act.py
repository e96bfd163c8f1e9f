"""Does single steps of a deployment at its target, and says what each has shown."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.deploy.health import wait_until_ready
from pipeline.deploy.history import kept_releases, read_history
from pipeline.deploy.outcome import Breach, Held, Told, Verdict
from pipeline.deploy.steps import Step, StepId
from pipeline.deploy.target import TargetFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pipeline.deploy.history import Entry
    from pipeline.deploy.target import Deployment, Target


class Judge(Protocol):
    """Watches a release that takes traffic."""

    async def watch(self, target: Target, deployment: Deployment, step: Step) -> Verdict:
        """Watch for as long as the environment says, or until it is decided."""


def _keep_nothing(_files: Mapping[str, bytes]) -> None:
    """Keep no evidence."""


def _tell_nobody(_told: Told) -> None:
    """Tell nobody."""


async def _note_nothing(_entry: Entry) -> None:
    """Note nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Helpers:
    """What a deployment needs from others.

    `authorise` raises `RefusedByPolicy`; `smoke` gets URLs by service, and raises a `PipelineError` when the
    release does not do what it should; `pending` says whether migrations are to be done; `backup` returns
    what names the backup; `keep` stores evidence by file name; `ended` hears how it ended,
    or that it waits, once that is written down, and raises nothing.
    """

    judge: Judge
    authorise: Callable[[Deployment, Sequence[Step]], Awaitable[None]]
    smoke: Callable[[Deployment, Mapping[str, str]], Awaitable[None]]
    pending: Callable[[Deployment], Awaitable[bool]]
    backup: Callable[[Deployment], Awaitable[str]]
    keep: Callable[[Mapping[str, bytes]], None] = _keep_nothing
    tell: Callable[[Told], None] = _tell_nobody
    ended: Callable[[Entry], Awaitable[None]] = _note_nothing
    clock: Callable[[], float] = time.time


async def do_step(target: Target, helpers: Helpers, deployment: Deployment, step: Step) -> Mapping[str, Any]:
    """Do one step and return what it has shown, by name.

    Raises:
        Breach: The release is not good enough.
        Held: Somebody has to say whether it is.
        PipelineError: The step failed.
    """
    match step.id:
        case StepId.FETCH:
            await target.fetch(deployment)
        case StepId.BACKUP:
            return {"backup": await helpers.backup(deployment)}
        case StepId.EXPAND:
            return {"said": await _migrate(target, deployment)}
        case StepId.KEEP:
            return {"pruned": list(await _prune(target, helpers, deployment))}
        case StepId.BAKE:
            return await _bake(target, helpers, deployment, step)
        case _:
            return await _move(target, helpers, deployment, step)
    return {}


async def _move(target: Target, helpers: Helpers, deployment: Deployment, step: Step) -> Mapping[str, Any]:
    """Do a step between the first that changes what runs and the last."""
    match step.id:
        case StepId.START:
            await target.start(deployment, step.part)
        case StepId.READY:
            return {"instances": len(await wait_until_ready(target, deployment, deployment.new))}
        case StepId.PREVIEW:
            await helpers.smoke(deployment, await target.preview(deployment))
        case StepId.SHIFT:
            await target.shift(deployment, 100.0 if step.share is None else step.share)
        case StepId.DRAIN:
            drained = await target.drain(deployment, step.part)
            return {"cut_off": drained.cut_off, "killed": drained.killed}
        case _:
            pass  # looked at before the lock was taken, or done by writing that it is
    return {}


def migrating_service(deployment: Deployment) -> str:
    """Return the service in whose container migrations run.

    Raises:
        TargetFailed: None is named, and several or none run what was built.
    """
    named = deployment.environment.deploy.migrations.service or ""
    built = [name for name, one in deployment.new.services.items() if one.settings.image.startswith("built")]
    if not named and len(built) != 1:
        what = "cannot migrate: it is not said in which service's container"
        raise TargetFailed(what, hint="set `deploy.migrations.service`")
    return named or built[0]


async def _migrate(target: Target, deployment: Deployment) -> str:
    settings = deployment.environment.deploy.migrations
    if settings.expand is None:
        raise TargetFailed("cannot migrate: it is not said how", hint="set `deploy.migrations.expand`")
    service = migrating_service(deployment)
    return await target.run(deployment, service, settings.expand, settings.timeout_s)


async def _bake(target: Target, helpers: Helpers, deployment: Deployment, step: Step) -> Mapping[str, Any]:
    verdict = await helpers.judge.watch(target, deployment, step)
    choice = deployment.environment.deploy.canary.on_inconclusive
    decision: str = verdict.decision
    if decision == "inconclusive":
        decision = {"rollback": "breach", "pause": "hold", "promote": "pass"}[choice]
        helpers.tell(Told(deployment=deployment.id, what="warn", step=step.name, text=verdict.reason))
    if decision == "hold":
        raise Held(deployment.environment.name, verdict)
    if decision == "breach":
        raise Breach(verdict)
    return {"verdict": verdict.decision, "reason": verdict.reason, **verdict.numbers}


async def _prune(target: Target, helpers: Helpers, deployment: Deployment) -> tuple[str, ...]:
    history = await read_history(target.state)
    keep = kept_releases(history, deployment.environment.deploy.keep, helpers.clock())
    own = {one.id for one in (deployment.new, deployment.old) if one is not None}
    return await target.prune(deployment, keep | own)
