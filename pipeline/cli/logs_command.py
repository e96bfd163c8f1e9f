"""`pipeline logs`: what a stage said in a run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import directory_option
from pipeline.cli.output import say
from pipeline.cli.past import read_run_file, state_of
from pipeline.cli.project import find_root, runs_folder
from pipeline.config import suggest
from pipeline.errors import UsageError
from pipeline.graph.history import find_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_S = 0.2
PIECE_BYTES = 1 << 16


class StageNotInRun(UsageError):
    """The run has no stage of that name."""

    def __init__(self, run_id: str, stage: str, known: list[str]) -> None:
        more = suggest(stage, known) or f"; it has {', '.join(known) or 'none'}"
        super().__init__(f"cannot show `{stage}` of run `{run_id}`: no such stage{more}")


@click.command()
@click.argument("run")
@click.argument("stage")
@click.option("-f", "--follow", is_flag=True, help="Go on until the stage has ended.")
@directory_option
def command(run: str, stage: str, follow: bool, directory: str | None) -> None:
    """Show what STAGE said in RUN: an id, a part of one, or `last`."""
    folder = find_run(runs_folder(find_root(directory)), run)
    log = folder / "stages" / stage / "log.txt"
    if not log.is_file():
        _check_stage(folder, stage)
        if not follow:
            say(f"`{stage}` said nothing in run `{folder.name}`")
            return
    for piece in pieces(log, folder, stage, follow=follow):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _check_stage(folder: Path, stage: str) -> None:
    from pipeline.report.record import load_record

    known = list(load_record(folder).stages)
    if stage not in known:
        raise StageNotInRun(folder.name, stage, known)


def pieces(log: Path, folder: Path, stage: str, *, follow: bool) -> Iterator[bytes]:
    """The log piece by piece; with `follow` until the stage or the run has ended."""
    position = 0
    while True:
        # Asked before reading: what is written between the two is then still read.
        over = not follow or _is_over(folder, stage)
        if log.is_file():
            with open(log, "rb") as stream:
                stream.seek(position)
                while piece := stream.read(PIECE_BYTES):
                    position += len(piece)
                    yield piece
        if over:
            return
        time.sleep(POLL_S)


def _is_over(folder: Path, stage: str) -> bool:
    return (folder / "stages" / stage / "result.json").is_file() or state_of(
        read_run_file(folder)
    ) != "running"
