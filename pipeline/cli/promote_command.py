"""`pipeline promote`: bring what one environment has proved to another, by the same digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import Wish, fulfil, open_delivery, wait_s, wish_options
from pipeline.cli.options import directory_option, json_option
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target


class NotPromotedFrom(UsageError):
    """The environment takes releases from another one."""

    def __init__(self, source: str, to: str, named: str) -> None:
        super().__init__(f"cannot promote from `{source}` to `{to}`: it takes what `{named}` has proved")
        self.hint = f"`pipeline promote {named} {to}`"


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("environment", metavar="TO")
@click.option("--release", metavar="RELEASE", default="", help="In place of the one that runs in FROM.")
@click.option("--allow-older", is_flag=True, help="Also in place of something newer.")
@wish_options
@json_option
@directory_option
def command(
    source: str,
    environment: str,
    release: str,
    allow_older: bool,
    plan: bool,
    as_json: bool,
    directory: str | None,
    **options: Any,
) -> int:
    """Bring what runs in the environment FROM to the environment TO.

    The images are the same, by digest; settings and secrets are those of TO. Nothing is built.
    """
    delivery = open_delivery(directory, quiet=as_json)

    async def release_of(place: Environment, target: Target) -> Release:
        if place.promote_from not in (None, source):
            raise NotPromotedFrom(source, place.name, place.promote_from or "")
        parts = await delivery.proved_parts(source, release)
        return await delivery.plan_release(place, target, parts)

    wish = Wish(
        environment=environment,
        release_of=release_of,
        kind="promote",
        wait_s=wait_s(options["wait"]),
        allow_older=allow_older,
        break_glass=options["break_glass"],
        reason=options["reason"],
    )
    return fulfil(delivery, wish, plan=plan, as_json=as_json)
