"""`pipeline env`: environments, what is set for each and by which file, how they differ, and their locks.

The lock of an environment is here, for `pipeline lock` pins images: an argument of it is an image's name, and
`show` could be one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import open_delivery
from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import table, write, write_json
from pipeline.errors import EXIT_FAILED, EXIT_OK, UsageError
from pipeline.report.words import moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.deploy.lease import Lease
    from pipeline.stages.delivery import Delivery


class StillAlive(UsageError):
    """Whoever holds the lock is at work on this machine."""

    def __init__(self, environment: str, actor: str, process: int) -> None:
        super().__init__(f"cannot break the lock of `{environment}`: {actor} is at work (process {process})")
        self.hint = "end that process, or add `--force`: it can change nothing any more"


@click.group()
def command() -> None:
    """Look at environments: settings, differences, drift, locks."""


@command.command("list")
@json_option
@directory_option
def list_(as_json: bool, directory: str | None) -> None:
    """List the environments there are."""
    from pipeline.config.environments import environment_names

    delivery = open_delivery(directory, quiet=True)
    found = [delivery.environment(name) for name in environment_names(delivery.root, delivery.config)]
    if as_json:
        write_json(
            [
                {
                    "name": one.name,
                    "target": one.target,
                    "strategy": one.deploy.strategy,
                    "promote_from": one.promote_from,
                    "address": one.address,
                    "services": list(one.deploy.services),
                }
                for one in found
            ]
        )
        return
    rows = [
        (one.name, one.target, one.deploy.strategy, one.promote_from or "-", one.address or "-")
        for one in found
    ]
    write(table(rows, header=("ENVIRONMENT", "TARGET", "STRATEGY", "TAKES FROM", "ADDRESS")))


@command.command()
@click.argument("environment", metavar="ENV")
@click.option("--origin", is_flag=True, help="Say of each setting where it comes from.")
@json_option
@directory_option
def show(environment: str, origin: bool, as_json: bool, directory: str | None) -> None:
    """Show every setting of the environment ENV."""
    found = _settings(open_delivery(directory, quiet=True), environment)
    if as_json:
        write_json({path: {"value": value, "origin": source} for path, (value, source) in found.items()})
        return
    rows = [(path, *([source] if origin else []), _text(value)) for path, (value, source) in found.items()]
    write(table(rows))


@command.command()
@click.argument("first", metavar="ENV")
@click.argument("second", metavar="ENV")
@json_option
@directory_option
def diff(first: str, second: str, as_json: bool, directory: str | None) -> None:
    """Show the settings in which two environments differ."""
    delivery = open_delivery(directory, quiet=True)
    one, other = (_settings(delivery, name) for name in (first, second))
    nothing: tuple[Any, str] = (None, "")
    differing = {
        path: (one.get(path, nothing)[0], other.get(path, nothing)[0])
        for path in sorted({*one, *other} - {"name"})
        if one.get(path, nothing)[0] != other.get(path, nothing)[0]
    }
    if as_json:
        write_json({path: {first: before, second: after} for path, (before, after) in differing.items()})
    elif not differing:
        write(f"{first} and {second} differ in nothing")
    else:
        rows = [(path, _text(before), _text(after)) for path, (before, after) in differing.items()]
        write(table(rows, header=("SETTING", first, second)))


@command.command()
@click.argument("environment", metavar="ENV")
@json_option
@directory_option
def drift(environment: str, as_json: bool, directory: str | None) -> int:
    """Say how what runs in ENV, and its settings, differ from what was deployed last.

    The exit code is 1 when they do, or when it cannot be looked at.
    """
    from pipeline.stages.environment_status import look_at

    delivery = open_delivery(directory, quiet=True)
    found = asyncio.run(look_at(delivery, delivery.environment(environment)))
    if as_json:
        write_json({"environment": environment, "drift": list(found.drift), "problem": found.problem})
    else:
        for line in [found.problem] if found.problem else found.drift or ["nothing differs"]:
            write(line)
    return EXIT_FAILED if found.drift or found.problem else EXIT_OK


@command.group()
def lock() -> None:
    """Look at the lock of an environment, or break it."""


@lock.command("show")
@click.argument("environment", metavar="ENV")
@json_option
@directory_option
def lock_show(environment: str, as_json: bool, directory: str | None) -> None:
    """Say who is at work in ENV, since when and at which step."""
    lease = asyncio.run(_lease(open_delivery(directory, quiet=True), environment))
    if as_json:
        write_json(lease_table(lease))
    else:
        write(_lease_line(lease))


@lock.command("break")
@click.argument("environment", metavar="ENV")
@click.option("--force", is_flag=True, help="Also when its holder is seen to be at work on this machine.")
@click.option(
    "--forget", is_flag=True, help="Forget the open deployment too, when its records do not fit together."
)
@json_option
@directory_option
def lock_break(environment: str, force: bool, forget: bool, as_json: bool, directory: str | None) -> None:
    """Take the lock of ENV from whoever holds it, and leave it free.

    A holder that is still alive can change nothing any more. What it had begun is resolved by the next
    deployment.
    """
    delivery = open_delivery(directory, quiet=True)
    lease = asyncio.run(_break(delivery, environment, force=force, forget=forget))
    if as_json:
        write_json({"broken": lease_table(lease), "forgotten": forget})
    elif lease.holder is None:
        write(f"{environment}: nobody held the lock")
    else:
        write(f"{environment}: the lock of {lease.holder.actor} is broken")


def _settings(delivery: Delivery, name: str) -> dict[str, tuple[Any, str]]:
    """Every setting by its path, as the files spell it, with the value and where that came from."""
    from pipeline.config.environments import plain_settings

    environment = delivery.environment(name)
    found: dict[str, tuple[Any, str]] = {}
    for path, value, source in plain_settings(environment):
        for inner, one in _leaves(path, value):
            found[inner] = (one, environment.origins.get(inner, "default" if inner != path else source))
    return found


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The settings in a table, such as those of services; an empty table is a value."""
    from pipeline.config.values import key_of

    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for name, one in value.items():
        yield from _leaves(f"{path}.{key_of(name)}", one)


def _text(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, default=list)


async def _lease(delivery: Delivery, name: str) -> Lease:
    environment = delivery.environment(name)
    async with delivery.opened(environment) as target:
        return await delivery.lock_of(environment, target).look()


async def _break(delivery: Delivery, name: str, *, force: bool, forget: bool) -> Lease:
    from pipeline.deploy.execute import CURRENT, Current
    from pipeline.deploy.records import write_record

    environment = delivery.environment(name)
    async with delivery.opened(environment) as target:
        lock = delivery.lock_of(environment, target)
        holder = (await lock.look()).holder
        if holder is not None and holder.is_here() and not holder.is_gone() and not force:
            raise StillAlive(name, holder.actor, holder.process)
        lease = await lock.break_it()
        if forget:
            _, version = await target.state.read(CURRENT)
            await target.state.write(CURRENT, write_record(Current(deployment="")), version=version)
        return lease


def lease_table(lease: Lease) -> Mapping[str, Any]:
    """A lock as JSON; times are seconds since 1970, `holder` is None when it is free."""
    holder = lease.holder
    return {
        "environment": lease.environment,
        "fence": lease.fence,
        "holder": None
        if holder is None
        else {
            "actor": holder.actor,
            "run": holder.run,
            "host": holder.host,
            "process": holder.process,
            "is_gone": holder.is_gone(),
            "step": lease.step,
            "since": lease.taken,
            "expires": lease.expires,
        },
    }


def _lease_line(lease: Lease) -> str:
    holder = lease.holder
    if holder is None:
        return f"{lease.environment}: nobody holds the lock"
    gone = "; its process is gone" if holder.is_gone() else ""
    return (
        f"{lease.environment}: {holder.actor} holds the lock on {holder.host} since {moment(lease.taken)} "
        f"(run {holder.run}, step `{lease.step}`), until {moment(lease.expires)} unless renewed{gone}"
    )
