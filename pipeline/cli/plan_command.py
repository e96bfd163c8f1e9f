"""`pipeline plan`: what a run would do to each stage, and why; nothing is started."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import (
    commit_option,
    directory_option,
    image_fallback_option,
    json_option,
    selection_options,
)
from pipeline.cli.output import painted, say, table, write, write_json
from pipeline.cli.planning import Choice, prepare
from pipeline.cli.project import open_project
from pipeline.graph.context import stand_ins_of
from pipeline.graph.lookup import forecast
from pipeline.report.words import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.cli.planning import Prepared
    from pipeline.graph.events import PlannedStage


@click.command()
@selection_options
@commit_option
@click.option("--no-cache", is_flag=True, help="Plan as if no stage had been run before.")
@image_fallback_option
@json_option
@directory_option
def command(
    no_cache: bool,
    image_fallback: str | None,
    commit: str | None,
    as_json: bool,
    directory: str | None,
    **choice: Any,
) -> None:
    """Show what a run would do, and why, without doing it."""
    project = open_project(directory, {"images.fallback": image_fallback}, commit=commit)
    prepared = prepare(project, Choice(**choice))
    rows = forecast(prepared.lookup(read=not no_cache), prepared.expected_s)
    if as_json:
        write_json([as_table(row, prepared) for row in rows])
    elif not rows:
        say("no stages: write some in ci/stages.py (`pipeline init` starts one)")
    else:
        write(table([_row(row) for row in rows], header=["STAGE", "ACTION", "USUALLY", "WHY"]))
        for line in effects(rows, prepared):
            write(line)
        for line in stand_ins(rows, prepared):
            write(line)
        write(total(rows))


def as_table(row: PlannedStage, prepared: Prepared) -> dict[str, Any]:
    """One row as JSON; `acts_on` is the environment an effect would change."""
    acts = row.effect and row.action == "run"
    return {**dataclasses.asdict(row), "acts_on": prepared.choice.environment if acts else None}


def _row(row: PlannedStage) -> list[str]:
    usually = duration(row.expected_s) if row.action == "run" else ""
    return [row.name, painted(row.action, row.action), usually, row.why]


def effects(rows: Sequence[PlannedStage], prepared: Prepared) -> list[str]:
    """What would be changed outside: one line an effect."""
    stages = prepared.project.graph.stages
    return [
        f"would act on {prepared.choice.environment}: {row.name} ({stages[row.name].doc or 'no description'})"
        for row in rows
        if row.effect and row.action == "run"
    ]


def stand_ins(rows: Sequence[PlannedStage], prepared: Prepared) -> list[str]:
    """The images that were not the registry's when the stages were last made: one line an image."""
    if prepared.project.config.images.fallback != "recipe":
        return []
    found: set[str] = set()
    for row in rows:
        parts = prepared.cache.last(row.name)
        found |= set(stand_ins_of(parts.observed)) if parts is not None else set()
    return [f"stand-in, unless a registry answers: {line}" for line in sorted(found)]


def total(rows: Sequence[PlannedStage]) -> str:
    """How many stages run, and how long that usually takes along the longest way through them."""
    counts = {action: sum(row.action == action for row in rows) for action in ("run", "cached", "skip")}
    text = f"{counts['run']} to run, {counts['cached']} cached, {counts['skip']} skipped"
    finish: dict[str, float] = {}
    for row in rows:
        began = max((finish.get(other, 0.0) for other in (*row.needs, *row.after)), default=0.0)
        finish[row.name] = began + ((row.expected_s or 0.0) if row.action == "run" else 0.0)
    unknown = sum(row.action == "run" and row.expected_s is None for row in rows)
    longest = max(finish.values(), default=0.0)
    if not longest:
        return text
    return f"{text}; at least {duration(longest)}" + (f" and {unknown} of unknown length" if unknown else "")
