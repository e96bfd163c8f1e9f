"""`pipeline rollback`: go back to a release the environment has had, by a deployment like any other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import Wish, fulfil, open_delivery, settle, wait_s, wish_options
from pipeline.cli.options import directory_option, json_option

if TYPE_CHECKING:
    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target
    from pipeline.stages.delivery import Delivery


@click.command()
@click.argument("environment", metavar="ENV")
@click.argument("release", metavar="[RELEASE]", default="")
@wish_options
@json_option
@directory_option
def command(
    environment: str, release: str, plan: bool, as_json: bool, directory: str | None, **options: Any
) -> int:
    """Go back, in the environment ENV, to RELEASE, or to the last good one.

    RELEASE is an id, a version, or the beginning of a commit, as `pipeline history ENV` shows them. Images,
    settings and secrets are those it had. Whether its images can still be had is looked at before anything is
    done. Without RELEASE a deployment that waits for somebody's word is undone.
    """
    delivery = open_delivery(directory, quiet=as_json)
    if not release and not plan and asyncio.run(_waits(delivery, environment)):
        return settle(delivery, environment, forward=False, as_json=as_json)

    async def release_of(place: Environment, target: Target) -> Release:
        from pipeline.stages.delivery import release_to_go_back_to

        return await release_to_go_back_to(place, target, release)

    wish = Wish(
        environment=environment,
        release_of=release_of,
        kind="rollback",
        wait_s=wait_s(options["wait"]),
        break_glass=options["break_glass"],
        reason=options["reason"],
    )
    return fulfil(delivery, wish, plan=plan, as_json=as_json)


async def _waits(delivery: Delivery, name: str) -> bool:
    from pipeline.stages.environment_status import find_open

    async with delivery.opened(delivery.environment(name)) as target:
        found = await find_open(target.state)
    return found is not None and found.waits
