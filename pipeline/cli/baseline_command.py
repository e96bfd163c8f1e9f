"""`pipeline baseline`: the file of findings that were there before, so that only new ones count."""

from __future__ import annotations

import dataclasses
from typing import Final

import click

from pipeline.cli.findings_command import run_option
from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import table, write, write_json
from pipeline.cli.project import find_root

SHORTEST_REASON: Final = 20


@click.group()
def command() -> None:
    """Keep the file of findings that were there before."""


@command.command()
@json_option
@directory_option
def show(as_json: bool, directory: str | None) -> None:
    """Show what the baseline knows."""
    from pipeline.stages.scanning import load_baseline

    known = load_baseline(find_root(directory)).known
    if as_json:
        write_json([dataclasses.asdict(one) for one in known])
    elif known:
        rows = [(one.id[:12], one.kind, one.where, one.rule, one.reason) for one in known]
        write(table(rows, header=("finding", "kind", "where", "rule", "reason")))
    else:
        write("the baseline knows nothing")


@command.command()
@click.option("--add", is_flag=True, help="Also add what blocks or warns now; needs a reason.")
@click.option("--reason", default="", help="Why these findings may stay; 20 characters at least.")
@run_option
@directory_option
def update(add: bool, reason: str, run: str, directory: str | None) -> None:
    """Remove from the baseline what a run no longer found; with --add, add what it found."""
    from pipeline.cli.findings import judged_of, load_documents
    from pipeline.scan.baseline import FILE, Baseline, dump_baseline, known_of
    from pipeline.stages.scanning import load_baseline

    if add and len(reason.strip()) < SHORTEST_REASON:
        raise click.BadParameter(f"expected at least {SHORTEST_REASON} characters", param_hint="--reason")
    root = find_root(directory)
    _, documents = load_documents(root, run)
    before = load_baseline(root)
    looked = {kind for document in documents if not document.verdict.unchecked for kind in document.kinds}
    judged = judged_of(documents)
    marks, stale = before.split(one.finding for one in judged)
    gone = {one.id for one in stale if one.kind in looked}
    kept = [one for one in before.known if one.id not in gone]
    counting = [
        one.finding
        for one, is_known in zip(judged, marks, strict=True)
        if not is_known and one.action in ("block", "warn")
    ]
    new = known_of(counting, reason)
    after = Baseline(known=(*kept, *(new if add else ())))
    (root / FILE).write_text(dump_baseline(after), encoding="utf-8")
    added = len(new) if add else 0
    write(f"{FILE}: {added} added, {len(gone)} removed, {len(after.known)} known")
