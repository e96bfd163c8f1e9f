"""`pipeline run`: the plan is carried out, told while it goes, and its evidence left in a run folder."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    commit_option,
    directory_option,
    duration_value,
    image_fallback_option,
    json_option,
    selection_options,
)
from pipeline.cli.output import painted, say, write, write_json
from pipeline.cli.planning import Choice, facts_of, prepare, secret_of
from pipeline.cli.project import find_shadow, keep_out_of_git, open_project, tables_of, values_of
from pipeline.config import parse_engine
from pipeline.config.lock import load_lock
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pipeline.cli.planning import Prepared
    from pipeline.graph.events import Event
    from pipeline.graph.record import RunFolder
    from pipeline.graph.settings import RunResult, RunSettings
    from pipeline.report.board import Board
    from pipeline.report.record import RunRecord


class NoStages(UsageError):
    """The project has no stage to run."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"cannot run `{root}`: it has no stages")
        self.hint = "write some in ci/stages.py; `pipeline init` starts one"


@click.command()
@selection_options
@commit_option
@click.option("-j", "--jobs", type=int, metavar="N", help="Let stages of so much weight work at once.")
@click.option(
    "--keep-going/--fail-fast", default=None, help="After a failure, run what can still run, or stop."
)
@click.option(
    "--timeout", callback=duration_value, metavar="TIME", help="End the whole run after TIME, such as 30m."
)
@click.option(
    "--locked", is_flag=True, default=None, help="Use only images that pipeline.lock pins, as it pins them."
)
@click.option("--no-cache", is_flag=True, help="Take no stored results; new ones are stored.")
@click.option("--engine", metavar="KIND", help="embedded, dagger, or dagger=ADDRESS.")
@image_fallback_option
@click.option("--offline", is_flag=True, default=None, help="Use no network but loopback.")
@click.option("-v", "--verbose", is_flag=True, help="Show container commands and all output.")
@click.option("-q", "--quiet", is_flag=True, help="Show only warnings and the end.")
@json_option
@directory_option
def command(directory: str | None, **options: Any) -> int:
    """Run the pipeline, or the chosen stages of it.

    Progress goes to standard error, the result to standard output, evidence to .pipeline/runs.
    """
    project = open_project(directory, _flags(options), commit=options["commit"])
    if not project.graph.order:
        raise NoStages(project.root)
    if shadow := find_shadow(project.root):
        say(f"note: `python -m pipeline` would run this project's own `{shadow}`; `pipeline` runs this")
    if project.config.images.locked:
        from pipeline.cli.lock_command import check_locked

        check_locked(project)
    names = ("only", "from_", "until", "skip", "tags", "failed", "since", "environment")
    prepared = prepare(project, Choice(**{name: options[name] for name in names}))
    return carry_out(
        prepared,
        read_cache=not options["no_cache"],
        verbosity=1 if options["verbose"] else -1 if options["quiet"] else 0,
        as_json=options["as_json"],
    )


def _flags(options: dict[str, Any]) -> dict[str, object]:
    """The options that are settings too, by their path."""
    engine = parse_engine(options["engine"]) if options["engine"] else {}
    return {
        "run.jobs": options["jobs"],
        "run.keep_going": options["keep_going"],
        "run.timeout": options["timeout"],
        "images.fallback": options["image_fallback"],
        "images.locked": options["locked"],
        "network.offline": options["offline"],
        **engine,
    }


def carry_out(prepared: Prepared, *, read_cache: bool, verbosity: int, as_json: bool) -> int:
    """Run the plan, show it, write its views, and return the exit code.

    Raises:
        FolderBroken: The run folder cannot be written.
    """
    import asyncio

    from pipeline.cli.sessions import describe, make_opener
    from pipeline.graph.record import RunFolder, prune_runs
    from pipeline.graph.run import run
    from pipeline.report.record import RunRecord
    from pipeline.report.terminal import final_report
    from pipeline.report.views import record_as_table

    project = prepared.project
    keep_out_of_git(project.state)
    folder = RunFolder.create(project.state / "runs", time.time())
    record = RunRecord()
    result: RunResult | None = None
    with _board(record, verbosity) as board:
        show = _shower(record, board, verbosity)
        try:
            result = asyncio.run(
                run(
                    prepared.plan,
                    settings_of_run(prepared, folder, read_cache=read_cache),
                    observers=[record.add, show],
                    opener=make_opener(project.config, project.root),
                    describe=describe,
                )
            )
        finally:
            _write_views(folder, record)
    prune_runs(project.state / "runs", keep=project.config.run.runs_kept, but=[folder.run_id])
    for problem in result.problems:
        say(f"note: {problem}")
    if as_json:
        write_json(record_as_table(record))
    else:
        write(final_report(record, _short(folder.path), painted))
    return result.exit_code


def _write_views(folder: RunFolder, record: RunRecord) -> None:
    """Write the run's summary and report; where they cannot be written the run's end still counts."""
    from pipeline.report.views import write_views

    if not record.stages:
        return
    try:
        write_views(folder.path, record)
    except OSError as error:
        say(f"note: cannot write the report of the run: {(error.strerror or str(error)).lower()}")


def settings_of_run(prepared: Prepared, folder: RunFolder, *, read_cache: bool) -> RunSettings:
    """What the scheduler is told."""
    from pipeline.graph.settings import RunSettings

    config = prepared.project.config
    return RunSettings(
        root=prepared.project.root,
        folder=folder,
        slots=config.run.jobs or 0,
        keep_going=config.run.keep_going,
        timeout_s=config.run.timeout_s,
        quiet_s=config.run.quiet_after_s,
        environment=prepared.choice.environment,
        commit=prepared.commit,
        dirty=prepared.dirty,
        command=("pipeline", *sys.argv[1:]),
        config=tables_of(config),
        options=prepared.options,
        facts=facts_of(config),
        secret=secret_of,
        image_digest=load_lock(prepared.project.root).names.get,
        value_now=values_of(prepared.project.root),
        files=prepared.files,
        memory=prepared.project.state / "files.json",
        cache=prepared.cache,
        cache_read=read_cache,
        reuse=prepared.reuse,
        history=prepared.history,
        expected_s=prepared.expected_s,
    )


def _board(record: RunRecord, verbosity: int) -> AbstractContextManager[Board | None]:
    """The live board where standard error is a terminal that can be redrawn; else nothing."""
    is_live = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
    if not is_live or verbosity < 0:
        return nullcontext(None)
    from pipeline.report.board import Board, board_console

    return Board(record, board_console())


def _shower(record: RunRecord, board: Board | None, verbosity: int) -> Callable[[Event], None]:
    """What says events on standard error, above the board if there is one."""
    from pipeline.report.terminal import Lines

    def paint(text: str, style: str) -> str:
        return painted(text, style, stream=sys.stderr)

    told = say if board is None else board.say
    return Lines(record, told, paint=paint, verbosity=verbosity, has_board=board is not None)


def _short(path: Path) -> str:
    """The path from the current directory where that is shorter."""
    try:
        return str(path.relative_to(os.getcwd()))
    except ValueError:
        return str(path)
