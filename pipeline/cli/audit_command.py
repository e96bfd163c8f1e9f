"""`pipeline audit`: who did what to an environment, and whether that record is as it was written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.deliveries import open_delivery
from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import say, table, write, write_json
from pipeline.errors import EXIT_FAILED, EXIT_OK, UsageError

if TYPE_CHECKING:
    from pipeline.ops.verify import Found, Report
    from pipeline.stages.delivery import Delivery


class NothingAudited(UsageError):
    """An environment's audit log is empty."""

    def __init__(self, environment: str) -> None:
        super().__init__(f"cannot make a checkpoint: nothing was ever done to `{environment}`")


@click.group()
def command() -> None:
    """Look at the audit log of an environment, and verify it."""


@command.command("show")
@click.argument("environment", metavar="ENV")
@click.option(
    "-n", "most", type=click.IntRange(1), default=20, show_default=True, help="Show at most so many."
)
@json_option
@directory_option
def show(environment: str, most: int, as_json: bool, directory: str | None) -> None:
    """List what was done to the environment ENV, the newest first."""
    found = asyncio.run(_find(open_delivery(directory, quiet=True), environment))
    entries = entries_of(found)[::-1][:most]
    if as_json:
        write_json(entries)
    elif not entries:
        say(f"nothing was ever done to `{environment}`")
    else:
        rows = [
            [one["at"][:19], one["actor"], one["action"], one["subject"] or "-", one["decision"] or "-"]
            for one in entries
        ]
        write(table(rows, header=("WHEN", "BY", "WHAT", "RELEASE", "DECISION")))


@command.command("verify")
@click.argument("environment", metavar="ENV")
@click.option(
    "--checkpoints",
    metavar="WHERE",
    help='A folder, or "notes:REMOTE", in place of `checkpoints` in [tool.pipeline.audit].',
)
@click.option(
    "--signers",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Keys whose checkpoints count, in place of ci/policies/allowed_signers.",
)
@json_option
@directory_option
def verify_log(
    environment: str,
    checkpoints: str | None,
    signers: Path | None,
    as_json: bool,
    directory: str | None,
) -> int:
    """Verify that the audit log of the environment ENV is as it was written, and is all there.

    Ends with 1 where something was changed, dropped, put in, swapped or cut off. Only checkpoints that were
    kept elsewhere can tell that all of it is there.
    """
    from pipeline.config.delivery_policy import SIGNERS
    from pipeline.ops.verify import verify
    from pipeline.stages.auditing import place_of

    delivery = open_delivery(directory, quiet=True)
    found = asyncio.run(_find(delivery, environment))
    place = place_of(delivery.root, checkpoints or delivery.config.audit.checkpoints, "")
    own = delivery.root / SIGNERS
    report = verify(
        found,
        place.all(environment) if place is not None else (),
        signers or (own if own.is_file() else None),
    )
    if as_json:
        write_json(as_table(report))
    else:
        write(f"{environment}: {report.verdict}")
        for problem in report.problems:
            write(f"  {problem.what}")
    return EXIT_FAILED if report.problems else EXIT_OK


@command.command("checkpoint")
@click.argument("environment", metavar="ENV")
@directory_option
def checkpoint(environment: str, directory: str | None) -> None:
    """Write how far the audit log of the environment ENV has come, to where checkpoints go."""
    from pipeline.stages.auditing import key_of, place_of

    delivery = open_delivery(directory, quiet=True)
    settings = delivery.config.audit

    async def make() -> None:
        from pipeline.ops.audit import AuditLog
        from pipeline.ops.checkpoints import make_checkpoint

        async with delivery.opened(delivery.environment(environment)) as target:
            log = AuditLog(records=target.state)
            signed = await make_checkpoint(log, environment, key_of(delivery.root, settings))
        if signed is None:
            raise NothingAudited(environment)
        place = place_of(delivery.root, settings.checkpoints, "")
        if place is not None:
            place.put(signed)
        write(signed.line().decode())

    asyncio.run(make())


async def _find(delivery: Delivery, environment: str) -> Found:
    from pipeline.ops.verify import find_log

    async with delivery.opened(delivery.environment(environment)) as target:
        return await find_log(target.state, environment)


def entries_of(found: Found) -> list[dict[str, Any]]:
    """Return the entries of a log as it is, in order; whether they are to be trusted, `verify` says."""
    from pipeline.ops.audit import parse_head

    lines = [line for name in sorted(found.segments) for line in found.segments[name].splitlines()]
    head = parse_head(found.head)
    if head is not None:
        lines.append(head.line.encode())  # its writer may have been killed before it came to the log
    entries: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            entries.setdefault(int(entry["seq"]), entry)
        except (ValueError, KeyError, TypeError):
            continue  # no entry: `verify` tells of the one that then is missing
    return [entries[seq] for seq in sorted(entries)]


def as_table(report: Report) -> dict[str, Any]:
    """A report as JSON; `known_until` is the last entry that a checkpoint elsewhere knows of, 0 for none."""
    return {
        "verdict": report.verdict,
        "first": report.first,
        "last": report.last,
        "known_until": report.known_until,
        "signed_until": report.signed_until,
        "problems": [{"seq": one.seq, "what": one.what} for one in report.problems],
    }
