"""`health_check`: what runs, under watch once more; a release that breaks a critical limit is left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config.values import Seconds
from pipeline.deploy.steps import Step, StepId
from pipeline.deploy.target import Deployment
from pipeline.deploy.watch import Watch
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import stage
from pipeline.stages.delivery import (
    Asked,
    Delivery,
    NothingToGoBackTo,
    live_release,
    release_to_go_back_to,
    visits_of,
)
from pipeline.stages.deploying import delivery_of, deploy_release
from pipeline.stages.results import Checked

if TYPE_CHECKING:
    from pipeline.config.delivery import Environment
    from pipeline.deploy.outcome import Verdict
    from pipeline.deploy.target import Target


@stage(
    effect=True,
    inputs=["pyproject.toml", "ci/**"],
    timeout_s=7200,
    exclusive="delivery",
    after=["production_deploy"],
)
async def health_check(ctx: Context) -> Checked:
    """Watch what runs for the time its thresholds look back on; go back when a critical one is broken."""
    delivery = delivery_of(ctx)
    environment = delivery.environment(ctx.environment)
    async with delivery.opened(environment) as target:
        return await watch_live(ctx, delivery, environment, target)


async def watch_live(ctx: Context, delivery: Delivery, environment: Environment, target: Target) -> Checked:
    """Watch the release that has all traffic; a breach is answered by a rollback, a warning is told.

    Raises:
        CheckFailed: It broke a critical threshold, or nothing runs there; says what runs now.
    """
    release = await live_release(target)
    if release is None:
        raise CheckFailed(f"cannot watch `{environment.name}`: no release has all its traffic")
    window = environment.deploy.thresholds.window_s
    watched = replace(environment, deploy=replace(environment.deploy, bake_s=Seconds(window)))
    lease = await delivery.lock_of(environment, target).look()
    deployment = Deployment(id="", environment=watched, new=release, old=None, fence=lease.fence)
    ctx.log(f"watching `{release.id}` for {window:g} s\n")
    judge = delivery.judge or Watch(visit=visits_of(environment, target))
    verdict = await judge.watch(target, deployment, Step(id=StepId.BAKE, share=100.0))
    ctx.log(f"{verdict.decision}: {verdict.reason}\n")
    if verdict.decision == "breach":
        await go_back(delivery, environment, target, verdict)
    if verdict.decision != "pass":
        ctx.warn(f"`{environment.name}`: {verdict.reason}")
    return Checked(
        environment=environment.name,
        release=release.id,
        checks=("probes", "usage", "requests"),
        reason=verdict.reason,
    )


async def go_back(delivery: Delivery, environment: Environment, target: Target, verdict: Verdict) -> None:
    """Go back to the last good release, and fail with what was seen.

    Raises:
        CheckFailed: Always.
    """
    try:
        release = await release_to_go_back_to(environment, target)
    except NothingToGoBackTo as error:
        raise CheckFailed(Failure(message=f"{verdict.reason}; {error}")) from error
    asked = Asked(environment=environment, target=target, kind="rollback")
    back = await deploy_release(delivery, asked, release)
    raise CheckFailed(
        Failure(
            message=f"{verdict.reason}; `{environment.name}` has gone back to `{back.release}`",
            exit_code=4,
            hint=f"`pipeline history {environment.name}`",
        )
    )
