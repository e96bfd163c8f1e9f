"""`pipeline report`: the views of a run, written again from what it recorded."""

from __future__ import annotations

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import say, write, write_json
from pipeline.cli.past import open_run
from pipeline.cli.project import find_root


@click.command()
@click.argument("run", default="last")
@click.argument("environment", metavar="[ENV]", default="")
@click.option(
    "--days", type=click.IntRange(1), default=90, show_default=True, help="How far `dora` looks back."
)
@json_option
@directory_option
def command(run: str, environment: str, days: int, as_json: bool, directory: str | None) -> None:
    """Write summary.md and report.html of RUN (`last`) again, and name them.

    Works for a run that was killed, with what it had told until then. `report dora ENV` shows the four keys
    of delivery instead, from the deployments of the environment ENV.
    """
    if run == "dora":
        from pipeline.cli.four_keys import show_four_keys

        show_four_keys(directory, environment, days=days, as_json=as_json)
        return
    if environment:
        raise click.UsageError("ENV belongs to `report dora`")
    from pipeline.report.views import record_as_table, write_views

    past = open_run(find_root(directory), run)
    written = write_views(past.folder, past.record)
    if as_json:
        write_json(record_as_table(past.record))
    else:
        for path in written:
            write(str(path))
    if past.record.outcome is None:
        say(f"run `{past.record.run_id}` has no end: it was killed, or goes on")
