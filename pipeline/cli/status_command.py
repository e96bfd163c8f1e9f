"""`pipeline status`: what runs in each environment, whether it is well, and who is at work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import open_delivery
from pipeline.cli.delivery_words import short_image, title
from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import painted, say, table, write, write_json
from pipeline.errors import EXIT_FAILED, EXIT_OK
from pipeline.report.words import moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.stages.delivery import Delivery
    from pipeline.stages.environment_status import Standing


@click.command()
@click.argument("environments", nargs=-1, metavar="[ENV]...")
@json_option
@directory_option
def command(environments: Sequence[str], as_json: bool, directory: str | None) -> int:
    """Show what runs in ENV, or in every environment that is declared.

    The exit code is 1 when an instance is not healthy, or an environment cannot be looked at.
    """
    delivery = open_delivery(directory, quiet=True)
    names = environments or used_environments(delivery)
    found = asyncio.run(_look(delivery, names))
    if as_json:
        write_json([as_table(one) for one in found])
    elif not found:
        say("no environment is declared, and nothing was deployed: `pipeline deploy local` is the first")
    elif environments and len(found) == 1:
        _show(found[0])
    else:
        header = ("ENVIRONMENT", "RELEASE", "VERSION", "SINCE", "HEALTH", "")
        write(table([_row(one) for one in found], header=header))
    is_bad = any(one.problem or one.healthy is False for one in found)
    return EXIT_FAILED if is_bad else EXIT_OK


def used_environments(delivery: Delivery) -> list[str]:
    """Return the names of all environments that are declared, or that something was deployed to."""
    from pipeline.config.environments import WITHOUT_SETTINGS, environment_names
    from pipeline.stages.targets import ENVIRONMENTS

    names = environment_names(delivery.root, delivery.config)
    declared = {*delivery.config.environments, *(set(names) - set(WITHOUT_SETTINGS))}
    return [name for name in names if name in declared or (delivery.state / ENVIRONMENTS / name).is_dir()]


async def _look(delivery: Delivery, names: Sequence[str]) -> list[Standing]:
    from pipeline.stages.environment_status import look_at

    return [await look_at(delivery, delivery.environment(name)) for name in names]


def as_table(one: Standing) -> dict[str, Any]:
    """An environment as JSON; times are seconds since 1970."""
    release, entry, lease = one.release, one.entry, one.lease
    holder = lease.holder if lease is not None else None
    return {
        "environment": one.environment.name,
        "target": one.environment.target,
        "address": one.address,
        "release": release.id if release is not None else "",
        "version": release.version if release is not None else "",
        "commit": release.commit if release is not None else "",
        "images": {name: each.image for name, each in release.services.items()}
        if release is not None
        else {},
        "since": entry.ended if entry is not None else None,
        "deployment": entry.deployment if entry is not None else "",
        "shares": dict(one.shares),
        "running": list(one.running),
        "healthy": one.healthy,
        "instances": [
            {"service": each.service, "instance": each.instance, "healthy": each.passed, "said": each.said}
            for each in one.probes
        ],
        "lock": None
        if lease is None or holder is None
        else {
            "actor": holder.actor,
            "host": holder.host,
            "run": holder.run,
            "step": lease.step,
            "since": lease.taken,
            "expires": lease.expires,
            "fence": lease.fence,
        },
        "open": None
        if one.open is None
        else {
            "deployment": one.open.deployment,
            "step": one.open.step,
            "waits": one.open.waits,
            "reason": one.open.reason,
        },
        "drift": list(one.drift),
        "problem": one.problem,
    }


def _health(one: Standing) -> str:
    if one.problem:
        return painted("unknown", "skipped")
    words = {True: painted("healthy", "passed"), False: painted("unhealthy", "failed"), None: "-"}
    return words[one.healthy]


def _row(one: Standing) -> list[str]:
    release, entry = one.release, one.entry
    return [
        one.environment.name,
        release.id if release is not None else "-",
        (release.version if release is not None else "") or "-",
        moment(entry.ended) if entry is not None else "-",
        _health(one),
        _remark(one),
    ]


def _remark(one: Standing) -> str:
    """What has to be seen, in two words."""
    if one.open is not None and one.open.waits:
        return "waits"
    if one.lease is not None:
        return "at work"
    if one.open is not None:
        return "cut off"
    return "drift" if one.drift else ""


def _show(one: Standing) -> None:
    write(f"{one.environment.name} ({one.environment.target}): {_health(one)}")
    if one.problem:
        write(f"  {one.problem}")
        return
    write(table([(f"  {name}", text) for name, text in (*_what_runs(one), *_what_goes_on(one))]))
    if one.open is not None and one.open.reason:
        write(f"  {one.open.reason}")


def _what_runs(one: Standing) -> Iterator[tuple[str, str]]:
    yield "release", title(one.release) if one.release is not None else "none"
    if one.entry is not None:
        yield "since", f"{moment(one.entry.ended)}, by {one.entry.actor}"
    if one.address:
        yield "address", one.address
    if len(one.shares) > 1:
        yield from (("traffic", f"{share:g} % to {name}") for name, share in sorted(one.shares.items()))
    for name, each in one.release.services.items() if one.release is not None else ():
        yield name, short_image(each.image)
    for probe in one.probes:
        if not probe.passed:
            yield f"{probe.service}/{probe.instance}", f"unhealthy: {probe.said}"


def _what_goes_on(one: Standing) -> Iterator[tuple[str, str]]:
    if one.lease is not None and one.lease.holder is not None:
        holder = one.lease.holder
        yield "lock", f"{holder.actor} on {holder.host}, at step `{one.lease.step}`"
    if one.open is not None:
        how = "waits for somebody's word" if one.open.waits else "has not ended"
        yield "open", f"{one.open.deployment} {how}, at step `{one.open.step}`"
    yield from (("drift", what) for what in one.drift)
