"""`pipeline findings`: what the scanners of a run found, why it counts, and how to live with it."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.cli.options import directory_option, json_option
from pipeline.cli.output import say, table, write, write_json
from pipeline.cli.project import find_root

if TYPE_CHECKING:
    from pipeline.scan.policy import Judged

ACTIONS: Final = ("block", "warn", "note", "waived", "known")
GITLAB: Final = {
    "gitlab-sast": "sast",
    "gitlab-secrets": "secret_detection",
    "gitlab-dependencies": "dependency_scanning",
    "gitlab-dast": "dast",
}
FORMATS: Final = ("sarif", *GITLAB, "gitlab-quality", "vex")
run_option = click.option("--run", default="last", metavar="RUN", show_default=True, help="Of which run.")


@click.group()
def command() -> None:
    """Look at what the scanners of a run found, and waive what the team lives with."""


@command.command(name="list")
@run_option
@click.option("--stage", help="Only of this stage.")
@click.option("--action", type=click.Choice(ACTIONS), multiple=True, help="Only what does this.")
@click.option("--all", "everything", is_flag=True, help="Also what neither blocks nor warns.")
@json_option
@directory_option
def list_(
    run: str,
    stage: str | None,
    action: tuple[str, ...],
    everything: bool,
    as_json: bool,
    directory: str | None,
) -> None:
    """List the findings of a run, the worst first."""
    from pipeline.cli.findings import NoSuchScan, judged_of, load_documents

    name, documents = load_documents(find_root(directory), run)
    there = [one.stage for one in documents]
    if stage is not None and stage not in there:
        raise NoSuchScan(stage, name, there)
    documents = [one for one in documents if stage in (None, one.stage)]
    wanted = action or (ACTIONS if everything else ("block", "warn"))
    found = [one for one in judged_of(documents) if one.action in wanted]
    if as_json:
        write_json([_plain(one) for one in found])
        return
    if found:
        write(table([_row(one) for one in found], header=("action", "severity", "finding", "where", "what")))
    for document in documents:
        for gone in document.verdict.unchecked:
            write(f"not checked: {document.stage}: {gone.scanner} is {gone.state}: {gone.why}")
    left = sum(len(document.verdict.judged) for document in documents) - len(found)
    if not found:
        write("nothing was found" if not left else "nothing of that was found")
    if left:
        write(f"{left} more: --all lists them")


def _row(one: Judged) -> tuple[str, ...]:
    from pipeline.text import clean

    found = one.finding
    title = clean(found.title if len(found.title) <= 80 else f"{found.title[:79]}…").replace("\n", " ")
    what = f"{title} [{found.rule.id}]"
    return (one.action, found.severity.level, found.id[:12], clean(found.where), what)


def _plain(one: Judged) -> dict[str, Any]:
    plain = dataclasses.asdict(one)
    if plain["waiver"] is not None:
        plain["waiver"] |= {key: str(plain["waiver"][key]) for key in ("expires", "created")}
    return plain


@command.command()
@click.argument("finding")
@run_option
@json_option
@directory_option
def explain(finding: str, run: str, as_json: bool, directory: str | None) -> None:
    """Say everything about one finding: what saw it, which rule decided, how to mend or waive it."""
    from pipeline.cli.findings import find_judged, load_documents
    from pipeline.text import clean

    name, documents = load_documents(find_root(directory), run)
    found = find_judged(documents, finding, name)
    if as_json:
        write_json([_plain(one) for one in found])
        return
    for one in found:
        write(clean("\n".join(_told(one))))


def _told(judged: Judged) -> list[str]:
    one = judged.finding
    pairs = [
        ("finding", one.id),
        ("what", f"{one.title} [{one.rule.id}]"),
        ("where", one.where),
        ("message", one.message if one.message != one.title else ""),
        ("severity", f"{one.severity.level} ({one.severity.basis})"),
        ("confidence", one.confidence),
        ("weakness", ", ".join(f"CWE-{number}" for number in one.cwe)),
        ("also named", ", ".join(one.aliases)),
        ("seen by", ", ".join(f"{each.tool} {each.version} {each.rule}" for each in one.witnesses)),
        ("data", ", ".join(f"{each.name} as of {each.as_of or 'unknown'}" for each in one.data)),
        ("evidence", "; ".join(one.evidence)),
        ("action", f"{judged.action}: {judged.why}"),
        ("mend", one.fix),
        ("read", one.rule.url),
        ("waive", f"pipeline findings waive {one.id[:12]} --reason ... --owner ..."),
    ]
    return [f"{name:<11} {text}" for name, text in pairs if text]


@command.command()
@click.argument("finding")
@click.option("--reason", required=True, help="Why the team lives with it; 20 characters at least.")
@click.option("--owner", required=True, help="Who answers for it.")
@click.option("--days", type=click.IntRange(1, 180), default=90, show_default=True, help="How long.")
@run_option
@directory_option
def waive(finding: str, reason: str, owner: str, days: int, run: str, directory: str | None) -> None:
    """Add a waiver of one finding to pipeline.waivers.toml."""
    from pipeline.cli.findings import find_judged, load_documents, today
    from pipeline.scan.waivers import FILE, LONGEST_DAYS_CRITICAL, parse_waivers
    from pipeline.text import clean

    root = find_root(directory)
    name, documents = load_documents(root, run)
    one = find_judged(documents, finding, name)[0].finding
    if one.severity.level == "critical" and days > LONGEST_DAYS_CRITICAL:
        raise click.BadParameter(
            f"what is critical is waived for {LONGEST_DAYS_CRITICAL} days at most", param_hint="--days"
        )
    path = root / FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    until = today() + datetime.timedelta(days)
    after = before + _entry(one.id, f"{one.title} in {one.where}", reason, owner, until, one.kind)
    parse_waivers(after)
    path.write_text(after, encoding="utf-8")
    write(clean(f"{FILE}: waived {one.where}: {one.title} [{one.rule.id}] until {until}"))


def _entry(finding: str, what: str, reason: str, owner: str, until: datetime.date, kind: str) -> str:
    """The lines of an entry; texts as TOML writes them, which JSON's strings are."""
    import json

    from pipeline.cli.findings import today
    from pipeline.text import clean

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

    comment = clean(what).replace("\n", " ")
    pairs = {"finding": finding, "kind": kind, "reason": reason, "owner": owner}
    texts = "".join(f"{key} = {quoted(text)}\n" for key, text in pairs.items())
    return f"\n# {comment}\n[[waiver]]\n{texts}created = {today()}\nexpires = {until}\n"


@command.command()
@click.argument("before")
@click.argument("after", default="last")
@json_option
@directory_option
def diff(before: str, after: str, as_json: bool, directory: str | None) -> None:
    """Compare the findings of two runs: what is new, what is gone."""
    from pipeline.cli.findings import judged_of, load_documents
    from pipeline.scan.baseline import Baseline, known_of
    from pipeline.text import clean

    root = find_root(directory)
    old = [one.finding for one in judged_of(load_documents(root, before)[1])]
    new = [one.finding for one in judged_of(load_documents(root, after)[1])]
    marks, gone = Baseline(known=known_of(old, "")).split(new)
    added = [one for one, is_known in zip(new, marks, strict=True) if not is_known]
    if as_json:
        write_json(
            {
                "new": [dataclasses.asdict(one) for one in added],
                "gone": [dataclasses.asdict(one) for one in gone],
                "same": sum(marks),
            }
        )
        return
    for one in added:
        write(clean(f"new   {one.severity.level:<8} {one.where}: {one.title} [{one.rule.id}]"))
    for entry in gone:
        write(clean(f"gone  {'':<8} {entry.where} [{entry.rule}]"))
    write(f"{len(added)} new, {len(gone)} gone, {sum(marks)} the same")


@command.command(name="export")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What reads it.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@run_option
@directory_option
def export_(form: str, output: Path | None, run: str, directory: str | None) -> None:
    """Write the findings of a run for another program."""
    from pipeline.cli.findings import ExportFailed, load_documents

    root = find_root(directory)
    name, documents = load_documents(root, run)
    text = _exported(form, name, documents)
    if output is None:
        write(text.rstrip("\n"))
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportFailed(output, error) from error


def _exported(form: str, run: str, documents: list[Any]) -> str:
    import json

    from pipeline import __version__
    from pipeline.cli.findings import judged_of
    from pipeline.scan.gitlab import quality_report, security_report
    from pipeline.scan.sarif import MOST_RUNS, sarif
    from pipeline.scan.vex import vex

    judged = judged_of(documents)
    # What is waived or known is not reported again where the format has no word for that.
    counting = [one.finding for one in judged if one.action not in ("waived", "known")]
    if form == "sarif":
        texts = [sarif(one.verdict, one.scans, stage=one.stage, version=__version__) for one in documents]
        logs = [json.loads(text) for text in texts]
        parts = sorted((part for log in logs for part in log["runs"]), key=lambda part: not part["results"])
        if left := [part for part in parts[MOST_RUNS:] if part["results"]]:
            say(f"warning: readers take {MOST_RUNS} runs: the findings of {len(left)} tools are left out")
        logs[0]["runs"] = parts[:MOST_RUNS]
        return json.dumps(logs[0], ensure_ascii=False, indent=1) + "\n"
    if form == "vex":
        return vex(judged)
    if form == "gitlab-quality":
        return quality_report([one for one in counting if one.kind == "quality"])
    began = datetime.datetime.strptime(f"{run[:15]}+0000", "%Y%m%d-%H%M%S%z")  # run ids are moments in UTC
    at = began.replace(tzinfo=None).isoformat()
    return security_report(GITLAB[form], counting, version=__version__, at=at)
