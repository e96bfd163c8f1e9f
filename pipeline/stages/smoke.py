"""`smoke`: whether what runs in the first environment does what it should; it looks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.deploy.smoke import Smoked, SmokeFailed, public_service
from pipeline.deploy.smoke import smoke as make_checks
from pipeline.deploy.target import Deployment
from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import stage
from pipeline.stages.delivery import address_of, live_release
from pipeline.stages.deploying import chain_to, delivery_of
from pipeline.stages.results import Checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target


# An effect, though it changes nothing: it needs an environment, and yesterday's answer says nothing of today.
@stage(effect=True, inputs=["pyproject.toml", "ci/**"], timeout_s=1800, after=["staging_deploy"])
async def smoke(ctx: Context) -> Checked:
    """Make the smoke checks of what runs in the first environment."""
    delivery = delivery_of(ctx)
    environment = delivery.environment(chain_to(ctx.root, delivery.config, ctx.environment)[0])
    async with delivery.opened(environment) as target:
        return await check_live(ctx, environment, target)


async def check_live(ctx: Context, environment: Environment, target: Target) -> Checked:
    """Make the checks of a release where people reach it, and keep what they said.

    Raises:
        CheckFailed: Nothing runs there, or a check did not pass.
        NothingToSmoke: There is no check to make.
    """
    release = await live_release(target)
    if release is None:
        raise CheckFailed(f"cannot check `{environment.name}`: no release has all its traffic")
    deployment = Deployment(id="", environment=environment, new=release, old=release, fence=0)
    try:
        done = await make_checks(deployment, await urls_of(environment, target, deployment, release))
    except SmokeFailed as failed:
        _keep(ctx, failed.done)
        bad = [f"{one.name}: {one.problem}" for one in failed.done if one.problem]
        raise CheckFailed(Failure(message=str(failed), tail=tuple(bad))) from failed
    _keep(ctx, done)
    return Checked(environment=environment.name, release=release.id, checks=tuple(one.name for one in done))


async def urls_of(
    environment: Environment, target: Target, deployment: Deployment, release: Release
) -> Mapping[str, str]:
    """Return where services answer: the public one where people reach it, if that is said."""
    urls = dict(await target.preview(deployment))
    public = public_service(release)
    if public and (address := address_of(environment, target)):
        urls[public] = address
    return urls


def _keep(ctx: Context, done: Sequence[Smoked]) -> None:
    import json
    from dataclasses import asdict

    ctx.keep("smoke.json", json.dumps([asdict(one) for one in done], indent=2))
    for one in done:
        ctx.log(f"{one.name}: {one.problem or 'passed'} ({one.seconds:.1f} s)\n")
