"""`pipeline report dora`: the four keys of delivery of one environment, with what each was made of."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.cli.deliveries import open_delivery
from pipeline.cli.output import table, write, write_json
from pipeline.report.words import duration
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pipeline.deploy.history import Entry
    from pipeline.ops.dora import Keys
    from pipeline.stages.delivery import Delivery


def show_four_keys(directory: str | None, environment: str, *, days: int, as_json: bool) -> None:
    """Write the keys of the last `days`."""
    from pipeline.ops.dora import changes_of, four_keys

    if not environment:
        raise click.UsageError("`report dora` needs an environment")
    delivery = open_delivery(directory, quiet=True)
    history = asyncio.run(_read(delivery, environment))
    committed = commit_times(delivery.root, {one.commit for one in history if one.commit})
    keys = four_keys(changes_of(history, committed), until=time.time(), days=days)
    if as_json:
        write_json({"environment": environment, **asdict(keys), "levels": levels_of(keys)})
    else:
        write(table(rows_of(keys), header=("KEY", "VALUE", "LEVEL", "MADE OF")))


async def _read(delivery: Delivery, name: str) -> tuple[Entry, ...]:
    from pipeline.deploy.history import read_history

    async with delivery.opened(delivery.environment(name)) as target:
        return await read_history(target.state)


def commit_times(root: Path, commits: Iterable[str]) -> dict[str, float]:
    """Return when commits were made, in seconds since 1970; those that git does not have are left out."""
    asked = "".join(f"{one}^{{commit}}\n" for one in sorted(commits))
    if not asked:
        return {}
    try:
        argv = ["git", "log", "--no-walk=unsorted", "--ignore-missing", "--stdin", "--format=%H %ct"]
        done = subprocess.run(
            argv, cwd=root, input=asked.encode(), capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.split() for line in done.stdout.decode().splitlines())
    return {commit: float(at) for commit, at in pairs}


def levels_of(keys: Keys) -> dict[str, str]:
    """Return the level of each key, by its name in JSON."""
    from pipeline.ops.dora import failure_level, frequency_level, lead_level, restore_level

    return {
        "days_a_week": frequency_level(keys),
        "lead_time_s": lead_level(keys),
        "failure_rate": failure_level(keys),
        "restore_s": restore_level(keys),
    }


def rows_of(keys: Keys) -> list[list[str]]:
    """Return the keys as rows: name, value, level, what it was made of."""
    levels = levels_of(keys)
    week = "-" if keys.days_a_week is None else f"{keys.days_a_week:g} days a week"
    rate = "-" if keys.failure_rate is None else f"{keys.failure_rate:.0%}"
    lead = "-" if keys.lead_time_s is None else duration(keys.lead_time_s)
    restore = "-" if keys.restore_s is None else duration(keys.restore_s)
    lived = some(keys.deployments, "deployment")
    return [
        ["deployment frequency", week, levels["days_a_week"], f"{lived} in {keys.days} days"],
        ["lead time", lead, levels["lead_time_s"], f"{some(keys.with_commit, 'commit')} of known age"],
        ["change failure rate", rate, levels["failure_rate"], f"{some(keys.failed, 'failed change')}"],
        ["time to restore", restore, levels["restore_s"], f"{some(keys.restored, 'failure')} that ended"],
    ]
