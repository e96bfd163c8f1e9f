"""`pipeline list`: the stages of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import coloured, say, table, write, write_json
from pipeline.cli.project import Project, open_project, relative_place

if TYPE_CHECKING:
    from pipeline.graph.stage import AnyStage


@click.command()
@json_option
@directory_option
def command(as_json: bool, directory: str | None) -> None:
    """List the stages of this project."""
    project = open_project(directory)
    stages = [project.graph.stages[name] for name in project.graph.order]
    if as_json:
        write_json([as_table(one, project) for one in stages])
    elif not stages:
        say("no stages: write some in ci/stages.py (`pipeline init` starts one)")
    else:
        rows = [_row(one, project) for one in stages]
        write(table(rows, header=["STAGE", "NEEDS", "WHAT IT DOES"]))


def as_table(one: AnyStage, project: Project) -> dict[str, Any]:
    """The stage as JSON."""
    links = project.graph.links[one.name]
    return {
        "name": one.name,
        "doc": one.doc,
        "needs": list(links.needs),
        "optional": list(links.optional),
        "after": list(links.after),
        "inputs": None if one.inputs is None else list(one.inputs),
        "effect": one.effect,
        "enabled": one.name not in project.disabled,
        "timeout_s": one.timeout_s,
        "attempts": one.retry.attempts if one.retry else 1,
        "weight": one.weight,
        "exclusive": one.exclusive,
        "soft_fail": one.soft_fail,
        "tags": list(one.tags),
        "where": relative_place(one, project.root),
    }


def _row(one: AnyStage, project: Project) -> list[str]:
    """Name, what it waits for, what it does and what is special about it."""
    links = project.graph.links[one.name]
    waits = [*links.needs, *(f"{name}?" for name in links.optional), *(f"({name})" for name in links.after)]
    marks = [
        *(["effect"] if one.effect else []),
        *(["soft fail"] if one.soft_fail else []),
        *(["disabled"] if one.name in project.disabled else []),
        *one.tags,
    ]
    doc = one.doc + (f" [{', '.join(marks)}]" if marks else "")
    return [coloured(one.name, None, bold=True), ", ".join(waits) or "-", doc.strip()]
