"""`pipeline runs`: past runs, the newest first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import painted, say, table, write, write_json
from pipeline.cli.past import read_run_file, state_of
from pipeline.cli.project import find_root, runs_folder
from pipeline.graph.history import list_runs
from pipeline.graph.outcome import Outcome
from pipeline.report.record import VERDICTS
from pipeline.report.words import counted, duration, moment

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option(
    "-n", "most", type=click.IntRange(1), default=20, show_default=True, help="Show at most so many."
)
@json_option
@directory_option
def command(most: int, as_json: bool, directory: str | None) -> None:
    """List past runs, the newest first."""
    folders = list_runs(runs_folder(find_root(directory)))[::-1][:most]
    runs = [as_table(folder) for folder in folders]
    if as_json:
        write_json(runs)
    elif not runs:
        say("no runs yet: `pipeline run` makes the first")
    else:
        write(table([_row(run) for run in runs], header=["RUN", "WHEN", "OUTCOME", "TIME", "STAGES"]))


def as_table(folder: Path) -> dict[str, Any]:
    """One run as JSON; `state` is an outcome, `running`, or `killed`."""
    data = read_run_file(folder)
    stages = data.get("stages", {})
    return {
        "run_id": folder.name,
        "state": state_of(data),
        "started_at": data.get("started_at"),
        "duration_s": data.get("duration_s"),
        "exit_code": data.get("exit_code"),
        "commit": data.get("commit", ""),
        "dirty": data.get("dirty", False),
        "environment": data.get("environment", ""),
        "command": data.get("command", []),
        "stages": {name: stage.get("outcome", "") for name, stage in stages.items()},
    }


def _row(run: dict[str, Any]) -> list[str]:
    state = run["state"]
    verdict = VERDICTS[Outcome(state)] if state in set(Outcome) else state
    counts = Counter(VERDICTS[Outcome(one)] for one in run["stages"].values() if one in set(Outcome))
    when = moment(run["started_at"]) if run["started_at"] else "-"
    return [
        run["run_id"],
        when,
        painted(verdict, verdict),
        duration(run["duration_s"]) or "-",
        counted(dict(sorted(counts.items()))) or "-",
    ]
