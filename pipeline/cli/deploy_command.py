"""`pipeline deploy`: bring what was pushed to an environment, in steps that are undone when one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import (
    NothingPushed,
    Wish,
    fulfil,
    last_pushed,
    open_delivery,
    settle,
    wait_s,
    wish_options,
)
from pipeline.cli.options import directory_option, json_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target
    from pipeline.stages.releases import Parts


def _images(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Read NAME=REFERENCE."""
    found: dict[str, str] = {}
    for value in values:
        name, separator, reference = value.partition("=")
        if not separator or not name or not reference or name in found:
            wanted = 'expected each image once, as "app=registry.example.com/app@sha256:..."'
            raise click.BadParameter(f'{wanted}, got "{value}"')
        found[name] = reference
    return found


@click.command()
@click.argument("environment", metavar="ENV")
@click.option(
    "--image",
    "images",
    metavar="NAME=REFERENCE",
    multiple=True,
    callback=_images,
    help="A built image by its digest, in place of those the last run pushed; may be repeated.",
)
@click.option("--version", metavar="VERSION", default="", help="What the release is called, with --image.")
@click.option("--continue", "goes_on", is_flag=True, help="Let the deployment that waits there go on.")
@click.option("--allow-older", is_flag=True, help="Also in place of something newer.")
@wish_options
@json_option
@directory_option
def command(
    environment: str,
    images: Mapping[str, str],
    version: str,
    goes_on: bool,
    allow_older: bool,
    plan: bool,
    as_json: bool,
    directory: str | None,
    **options: Any,
) -> int:
    """Bring what was pushed to the environment ENV.

    A deployment goes by steps, each of which is undone when a later one fails: in the end the new release
    runs, or the old one. Evidence is kept in .pipeline/deployments. The exit code says how it ended.
    """
    if goes_on and (images or plan):
        raise click.UsageError("--continue goes on with what waits: leave out --image and --plan")
    delivery = open_delivery(directory, quiet=as_json)
    delivery.environment(environment)  # the clearest words where there is none
    if goes_on:
        return settle(delivery, environment, forward=True, as_json=as_json)
    parts = find_parts(delivery.root, delivery.state, environment, images, version)

    async def release_of(place: Environment, target: Target) -> Release:
        return await delivery.plan_release(place, target, parts)

    wish = Wish(
        environment=environment,
        release_of=release_of,
        wait_s=wait_s(options["wait"]),
        allow_older=allow_older,
        break_glass=options["break_glass"],
        reason=options["reason"],
    )
    return fulfil(delivery, wish, plan=plan, as_json=as_json)


def find_parts(root: Path, state: Path, environment: str, images: Mapping[str, str], version: str) -> Parts:
    """Return what a release is made of: the images named, else those the last run has pushed.

    Raises:
        NothingPushed: There are neither.
    """
    from dataclasses import replace

    from pipeline.config.lock import load_lock
    from pipeline.stages.authorise import look_at_checkout
    from pipeline.stages.releases import Parts, keyed

    if images:
        commit = look_at_checkout(root).commit
        found: Parts | None = Parts(images=keyed(images), commit=commit, version=version)
    else:
        found = last_pushed(state)
    if found is None:
        raise NothingPushed(environment)
    return replace(found, pins=load_lock(root).names)
