"""`pipeline explain`: why a stage would run, down to the changed file; or where each setting is from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import commit_option, directory_option, image_fallback_option, json_option
from pipeline.cli.output import painted, table, write, write_json
from pipeline.cli.project import find_root, open_project, relative_place
from pipeline.config import load_config, settings_of, suggest
from pipeline.errors import UsageError
from pipeline.report.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.cli.planning import Prepared
    from pipeline.graph.events import PlannedStage

MOST_CHANGES = 20


class NoSuchStage(UsageError):
    """The graph has no stage of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names = list(known)
        more = suggest(name, names) or f"; known: {', '.join(names) or 'none'}"
        super().__init__(f"cannot explain `{name}`: no such stage{more}")


@click.command()
@click.argument("stage", required=False)
@click.option("--config", "of_config", is_flag=True, help="Show every setting and where it comes from.")
@click.option("--env", "environment", metavar="NAME", default="", envvar="PIPELINE_ENV", help="As for `run`.")
@commit_option
@image_fallback_option
@json_option
@directory_option
def command(
    stage: str | None,
    of_config: bool,
    environment: str,
    commit: str | None,
    image_fallback: str | None,
    as_json: bool,
    directory: str | None,
) -> None:
    """Say why STAGE would run or not, or where each setting comes from."""
    if of_config == (stage is not None):
        raise click.UsageError("name a stage, or give --config")
    if stage is None:
        _explain_config(directory, as_json)
        return
    from pipeline.cli.planning import Choice, prepare

    project = open_project(directory, {"images.fallback": image_fallback}, commit=commit)
    if stage not in project.graph.stages:
        raise NoSuchStage(stage, project.graph.order)
    told = explain(stage, prepare(project, Choice(environment=environment)))
    if as_json:
        write_json(told)
    else:
        for line in _lines(told):
            write(line)


def explain(name: str, prepared: Prepared) -> dict[str, Any]:
    """All that is known of one stage, as JSON."""
    from pipeline.graph.lookup import forecast

    lookup = prepared.lookup()
    rows = {row.name: row for row in forecast(lookup, prepared.expected_s)}
    row = rows[name]
    one = prepared.project.graph.stages[name]
    asked = row.action != "skip" and lookup.can_look(name)
    changes = lookup.look(name).changes if asked else ()
    return {
        "stage": name,
        "doc": one.doc,
        "where": relative_place(one, prepared.project.root),
        "action": row.action,
        "why": row.why,
        "changes": [{**dataclasses.asdict(change), "text": str(change)} for change in changes],
        "because": _causes(name, rows),
        "needs": list(row.needs),
        "after": list(row.after),
        "inputs": None if one.inputs is None else list(one.inputs),
        "input_files": len(prepared.files.matching(one.inputs)),
        "expected_s": row.expected_s,
        "effect": one.effect,
    }


def _causes(name: str, rows: Mapping[str, PlannedStage]) -> dict[str, str]:
    """The stages further up that make this one run by a reason of their own, and the reasons."""
    causes: dict[str, str] = {}
    waiting, seen = [name], {name}
    while waiting:
        here = rows[waiting.pop()]
        above = [need for need in here.needs if need in rows and rows[need].action == "run"]
        if not above and here.name != name:
            causes[here.name] = here.why
        waiting += [need for need in above if need not in seen]
        seen.update(above)
    return dict(sorted(causes.items()))


def _lines(told: dict[str, Any]) -> list[str]:
    verb = {"run": "would run", "cached": "is cached", "skip": "would be skipped"}[told["action"]]
    changes = [change["text"] for change in told["changes"]]
    # One change is the reason already; several are a list, of which the reason is the beginning.
    why = f"{len(changes)} changes" if len(changes) > 1 else told["why"]
    lines = [f"{painted(told['stage'], 'bold')} {painted(verb, told['action'])}: {why}"]
    if len(changes) > 1:
        lines += [f"  {change}" for change in changes[:MOST_CHANGES]]
    if len(changes) > MOST_CHANGES:
        lines.append(f"  … and {len(changes) - MOST_CHANGES} more")
    lines += [f"  {name}: {reason}" for name, reason in told["because"].items()]
    count = told["input_files"]
    files = f"{count} file{'' if count == 1 else 's'}"
    globs = "every tracked file" if told["inputs"] is None else ", ".join(told["inputs"]) or "none"
    rows = [
        ["does", told["doc"]],
        ["defined in", told["where"]],
        ["needs", ", ".join(told["needs"])],
        ["after", ", ".join(told["after"])],
        ["inputs", f"{globs} ({files})"],
        ["usually takes", duration(told["expected_s"])],
    ]
    return [*lines, "", table([row for row in rows if row[1]])]


def _explain_config(directory: str | None, as_json: bool) -> None:
    """Write every setting, its value and its origin."""
    settings = list(settings_of(load_config(find_root(directory))))
    if as_json:
        write_json([{"path": path, "value": value, "origin": origin} for path, value, origin in settings])
        return
    rows = [[path, _value(value), painted(origin, "dim")] for path, value, origin in settings]
    write(table(rows, header=["SETTING", "VALUE", "FROM"]))


def _value(value: object) -> str:
    import json

    return "-" if value in (None, [], {}) else json.dumps(value, ensure_ascii=False)
