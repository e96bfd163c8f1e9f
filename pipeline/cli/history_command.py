"""`pipeline history`: which releases an environment has had, how each came there and how that ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import open_delivery
from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import painted, say, table, write, write_json
from pipeline.report.words import duration, moment

if TYPE_CHECKING:
    from pipeline.deploy.history import Entry
    from pipeline.stages.delivery import Delivery


@click.command()
@click.argument("environment", metavar="ENV")
@click.option(
    "-n", "most", type=click.IntRange(1), default=20, show_default=True, help="Show at most so many."
)
@json_option
@directory_option
def command(environment: str, most: int, as_json: bool, directory: str | None) -> None:
    """List the deployments of the environment ENV, the newest first."""
    delivery = open_delivery(directory, quiet=True)
    entries = asyncio.run(_read(delivery, environment))[::-1][:most]
    if as_json:
        write_json([as_table(one) for one in entries])
    elif not entries:
        say(f"no deployments yet: `pipeline deploy {environment}` makes the first")
    else:
        header = ("WHEN", "WHAT", "RELEASE", "VERSION", "OUTCOME", "TIME", "BY")
        write(table([_row(one) for one in entries], header=header))


async def _read(delivery: Delivery, name: str) -> tuple[Entry, ...]:
    from pipeline.deploy.history import read_history

    async with delivery.opened(delivery.environment(name)) as target:
        return await read_history(target.state)


def as_table(one: Entry) -> dict[str, Any]:
    """A deployment as JSON; times are seconds since 1970, `outcome` is "" while it goes on."""
    return {
        "deployment": one.deployment,
        "environment": one.environment,
        "kind": one.kind,
        "old": one.old,
        "release": one.new,
        "version": one.version,
        "commit": one.commit,
        "images": dict(one.images),
        "actor": one.actor,
        "run": one.run,
        "plan": one.plan,
        "fence": one.fence,
        "started": one.started,
        "ended": one.ended or None,
        "outcome": str(one.outcome) if one.outcome is not None else "",
        "reason": one.reason,
        "backup": one.backup,
        "seconds": dict(one.seconds),
    }


def _row(one: Entry) -> list[str]:
    outcome = str(one.outcome) if one.outcome is not None else "not over"
    styles = {"succeeded": "passed", "already there": "passed", "waiting": "skipped", "not over": "running"}
    return [
        moment(one.started)[:16],
        one.kind,
        one.new,
        one.version or "-",
        painted(outcome, styles.get(outcome, "failed")),
        duration(one.ended - one.started) if one.ended else "-",
        one.actor.partition("@")[0] or "-",
    ]
