"""`summary.md`: a run on one page of Markdown, for a run folder, a job summary or a comment."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.junit import FLAKY
from pipeline.report.findings import ACTIONS
from pipeline.report.terminal import tail_lines
from pipeline.report.words import command_line, counted, duration, moment
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.junit import TestCase, TestResults
    from pipeline.report.evidence import Evidence
    from pipeline.report.findings import Found
    from pipeline.report.record import RunRecord, StageRecord

# A job summary on GitHub may have 1 MiB; over that its upload fails.
MOST_BYTES: Final = 900 * 1024
MOST_TESTS_TOLD: Final = 20
MARKS: Final = {
    "passed": "✅",
    "cached": "✅",
    "failed": "❌",
    "error": "❌",
    "timeout": "❌",
    "skipped": "⚪",
    "cancelled": "⚪",
}


def make_summary(record: RunRecord, evidence: Evidence) -> str:
    """Write the summary; cut at 900 KiB, saying so."""
    parts = [
        _head(record),
        _stage_table(record),
        *(_failure(stage) for stage in record.bad_stages),
        _tests(evidence),
        _findings(evidence),
        _notes("Warnings", record.warnings),
        _notes("Stand-ins for images", record.stand_ins),
        *(f"> {_text(problem)}" for problem in evidence.problems),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    data = text.encode()
    if len(data) <= MOST_BYTES:
        return text
    cut = data[:MOST_BYTES].decode("utf-8", "ignore").rpartition("\n")[0]
    return f"{cut}\n\n*Cut here: the summary has {len(data)} bytes. The whole run is in its run folder.*\n"


def _head(record: RunRecord) -> str:
    commit = (
        f" · commit `{record.commit[:12]}`{' with changes' if record.dirty else ''}" if record.commit else ""
    )
    environment = f" · environment `{record.environment}`" if record.environment else ""
    took = f" in {duration(record.duration_s)}" if record.finished_at is not None else ""
    lines = [
        f"## {MARKS.get(record.verdict, '⏳')} {_text(record.project) or 'pipeline'}: {record.verdict}",
        "",
        f"{counted(record.counts()) or 'no stages'}{took} · {moment(record.started_at)}{commit}{environment}",
    ]
    if record.message:
        lines += ["", f"> {_text(record.message)}"]
    return "\n".join(lines)


def _stage_table(record: RunRecord) -> str:
    rows = ["| stage | outcome | time | why |", "|---|---|---:|---|"]
    for stage in filter(lambda one: one.is_selected, record.stages.values()):
        mark = MARKS.get(stage.verdict, "⏳")
        verdict = ", ".join((stage.verdict, *stage.flags))
        why = stage.failure.message if stage.failure else stage.why
        took = duration(stage.took_s)
        rows.append(f"| {stage.name} | {mark} {verdict} | {took} | {_cell(why)} |")
    return "\n".join(rows)


def _notes(title: str, lines: Sequence[str]) -> str:
    """What must be seen beside the outcomes: warnings, images that were not the registry's."""
    rows = [f"- {_text(line)}" for line in lines]
    return "\n".join([f"### {title}", "", *rows]) if rows else ""


def _failure(stage: StageRecord) -> str:
    failure = stage.failure
    if failure is None:
        return f"### {stage.name}: {stage.verdict}\n\n{_text(stage.why)}"
    lines = [f"### {stage.name}: {stage.verdict}", "", _text(failure.message)]
    block = []
    if failure.command:
        exit_ = "" if failure.exit_code is None else f"  # exit code {failure.exit_code}"
        block.append(f"$ {clean(command_line(failure.command))}{exit_}")
    block += tail_lines(failure)
    if block:
        lines += ["", _fenced(block)]
    if failure.reproduce:
        lines += ["", f"Again: {_code(failure.reproduce)}"]
    if failure.hint:
        lines += ["", f"Hint: {_text(failure.hint)}"]
    return "\n".join(lines)


def _tests(evidence: Evidence) -> str:
    if not evidence.tests:
        return ""
    rows = [
        "### Tests",
        "",
        "| stage | passed | failed | broken | skipped | time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, one in evidence.tests.items():
        took = duration(one.duration_s)
        rows.append(f"| {name} | {one.passed} | {one.failures} | {one.errors} | {one.skipped} | {took} |")
    for name, one in evidence.tests.items():
        rows += _named_tests(f"Bad tests of {name}", one.bad) + _flaky_tests(name, one)
    return "\n".join(rows)


def _findings(evidence: Evidence) -> str:
    if not evidence.findings:
        return ""
    rows = [
        "### Findings",
        "",
        f"| stage | verdict | {' | '.join(ACTIONS)} | not checked |",
        f"|---|---|{'---:|' * len(ACTIONS)}---:|",
    ]
    for name, one in evidence.findings.items():
        counts = " | ".join(str(one.counts[action]) for action in ACTIONS)
        rows.append(f"| {name} | {one.result} | {counts} | {len(one.unchecked)} |")
    for name, one in evidence.findings.items():
        rows += _named_findings(f"Blocking in {name}", one.blocking, one.counts["block"])
        rows += ["", f"Not checked in {name}:", ""] if one.unchecked else []
        rows += [f"- {_text(line)}" for line in one.unchecked]
    return "\n".join(rows)


def _named_findings(title: str, found: Sequence[Found], count: int) -> list[str]:
    if not found:
        return []
    lines = ["", f"{title}:", ""]
    for one in found:
        mend = f" Mend: {_text(one.mend)}" if one.mend else ""
        lines.append(
            f"- {one.severity} {_code(one.where)} {_text(one.what)} ({_code(one.rule)}, {one.id}).{mend}"
        )
    if count > len(found):
        lines.append(f"- … and {count - len(found)} more")
    return lines


def _flaky_tests(name: str, results: TestResults) -> list[str]:
    cases = [replace(case, message=case.properties.get(FLAKY, "")) for case in results.flaky]
    return _named_tests(f"Flaky tests of {name}", cases)


def _named_tests(title: str, cases: Sequence[TestCase]) -> list[str]:
    if not cases:
        return []
    lines = ["", f"{title}:", ""]
    for case in cases[:MOST_TESTS_TOLD]:
        name = f"{case.suite}.{case.name}" if case.suite else case.name
        first = next(iter(case.message.splitlines()), "")
        lines.append(f"- {_code(name)} {_text(first)}".rstrip())
    if len(cases) > MOST_TESTS_TOLD:
        lines.append(f"- … and {len(cases) - MOST_TESTS_TOLD} more")
    return lines


def _text(text: str) -> str:
    """Text of others as Markdown text: nothing in it is markup, a link or a mention."""
    one_line = " ".join(clean(text).split())
    return re.sub(r"([\\`*_{}\[\]<>#|~@])", r"\\\1", one_line)


def _cell(text: str) -> str:
    """Text for a cell of a table, cut to what a table bears."""
    one_line = " ".join(clean(text).split())
    return _text(one_line if len(one_line) <= 160 else one_line[:159] + "…")


def _code(text: str) -> str:
    """Text as a code span, whatever backticks it holds."""
    one_line = " ".join(clean(text).split())
    fence = "`" * (max((len(run) for run in re.findall("`+", one_line)), default=0) + 1)
    pad = " " if one_line.startswith("`") or one_line.endswith("`") else ""
    return f"{fence}{pad}{one_line}{pad}{fence}"


def _fenced(lines: Sequence[str]) -> str:
    """A code block whose fence is longer than any in it."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}text", *lines, fence])
