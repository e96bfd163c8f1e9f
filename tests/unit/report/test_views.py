"""The views of a record: terminal, Markdown, HTML."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.graph.events import RunStarted, StageFinished, StageOutput, StageQuiet
from pipeline.graph.outcome import Outcome
from pipeline.graph.record import RunFolder
from pipeline.junit import parse_junit
from pipeline.report.board import Board
from pipeline.report.evidence import Evidence, find_evidence
from pipeline.report.page import make_page, time_line
from pipeline.report.record import RunRecord, fold
from pipeline.report.summary import MOST_BYTES, make_summary
from pipeline.report.terminal import Lines, final_report, plain
from pipeline.report.views import write_views
from pipeline.report.words import command_line
from tests.unit.report.events import events

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.events import Event

JUNIT = (
    b'<testsuites><testsuite name="pytest"><testcase classname="tests.test_a" name="test_x" time="0.5">'
    b'<failure message="assert 1 == 2">the text &lt;b&gt;</failure></testcase>'
    b'<testcase classname="tests.test_a" name="test_y" time="1.0"/></testsuite></testsuites>'
)


def said(told: list[Event], verbosity: int) -> list[str]:
    record = RunRecord()
    out: list[str] = []
    show = Lines(record, out.append, paint=plain, verbosity=verbosity)
    for event in told:
        record.add(event)
        show(event)
    return out


def test_one_line_for_each_finished_stage() -> None:
    """Retries are said when they happen."""
    assert said(events(), 0) == [
        "passed    build    2.0s",
        "retry     lint   attempt 1 failed: no answer; again in 1.0s",
        "passed    lint     4.0s  flaky, 2 attempts",
        "failed    unit     4.0s  2 of 3 tests failed",
        "skipped   push           `unit` failed",
    ]


def unselected() -> list[Event]:
    """A run of `build` alone, the other stages not selected; it begins and says one long line."""
    whole = events()
    started, begun = whole[0], whole[1]
    assert isinstance(started, RunStarted)
    others = [replace(row, action="skip", why="not selected") for row in started.stages[1:]]
    ended = [
        StageFinished(
            at=1000.0, stage=row.name, outcome=Outcome.SKIP, why=row.why, duration_s=0.0, attempts=0
        )
        for row in others
    ]
    line = StageOutput(at=1001.0, stage="build", stream="stdout", text=f"{'words ' * 40}\n")
    quiet = StageQuiet(at=1002.0, stage="build", quiet_s=60.0)
    return [replace(started, stages=(started.stages[0], *others)), *ended, begun, line, quiet]


def test_stages_that_nobody_selected_are_only_counted() -> None:
    """In their own words, after all others; with -v they are told."""
    told = [*unselected(), events()[5]]

    assert said(told, 0) == ["quiet     build  no output for 1m00s", "passed    build    2.0s"]
    assert "skipped   push           not selected" in said(told, 1)
    assert final_report(fold(told), None) == "unfinished: 1 passed, 3 not selected"
    assert "| push |" not in make_summary(fold(told), Evidence())


def test_a_narrow_board_cuts_what_a_stage_said_and_nothing_else() -> None:
    """Name and time stay; what nobody selected is not counted."""
    console = Console(file=io.StringIO(), width=44, height=20, force_terminal=False)
    board = Board(fold(unselected()), console, clock=lambda: 1003.0)

    console.print(board.draw())

    text = console.file.getvalue()  # type: ignore[attr-defined]  # the file is a StringIO
    rows = [line.rstrip()[2:] for line in text.splitlines()]
    assert rows == ["build 3.0s no output for 1m00s words word…", "of 1 done · 1 running · 0 waiting · 3.0s"]


def test_quiet_says_only_warnings() -> None:
    assert said(events(), -1) == ["retry     lint   attempt 1 failed: no answer; again in 1.0s"]


def test_verbose_says_output_and_commands() -> None:
    assert said(events()[:6], 1) == [
        "          build  one",
        "          build  two",
        "          build  ",
        "          build  $ make (1.0s)",
        "passed    build    2.0s",
    ]


def test_the_final_report_has_what_people_need() -> None:
    """The failing command's own last lines, without escapes; totals; where the evidence is."""
    assert final_report(fold(events()), ".pipeline/runs/x") == (
        "failed unit\n"
        "  2 of 3 tests failed\n"
        "  $ pytest -k 'a or b'  (exit code 1)\n"
        "  | E   assert <b>1</b> == 2\n"
        "  | ```\n"
        "  | 2 failed\n"
        "  reproduce: pipeline run --only unit --env test\n"
        "  hint: look at *this*\n"
        "\n"
        "failed: 1 failed, 1 skipped, 2 passed in 6.0s\n"
        "evidence: .pipeline/runs/x"
    )


def test_the_board_shows_the_stages_at_work() -> None:
    """Finished and waiting ones are only counted."""
    console = Console(file=io.StringIO(), width=60, height=20, force_terminal=False)
    board = Board(fold(events()[:4]), console, clock=lambda: 1003.0)

    console.print(board.draw())

    text = console.file.getvalue()  # type: ignore[attr-defined]  # the file is a StringIO
    rows = [line.rstrip()[2:] for line in text.splitlines()]
    assert rows == ["build 3.0s two", "lint  3.0s", "of 4 done · 2 running · 2 waiting · 3.0s"]


def test_the_summary_neutralises_what_others_wrote() -> None:
    """A fence longer than any in the output; no markup in messages."""
    text = make_summary(fold(events()), Evidence())

    assert text.startswith("## ❌ shop: failed\n\n1 failed, 1 skipped, 2 passed in 6.0s · ")
    assert "| unit | ❌ failed | 4.0s | 2 of 3 tests failed |" in text
    assert (
        "````text\n$ pytest -k 'a or b'  # exit code 1\nE   assert <b>1</b> == 2\n```\n2 failed\n````" in text
    )
    assert "Hint: look at \\*this\\*" in text
    assert "Again: `pipeline run --only unit --env test`" in text


def test_a_summary_that_is_too_long_is_cut_and_says_so() -> None:
    told = events()
    record = fold(told)
    evidence = Evidence(problems=tuple("x" * 1000 for _ in range(1000)))

    text = make_summary(record, evidence)

    assert len(text.encode()) < MOST_BYTES + 200
    assert text.endswith("The whole run is in its run folder.*\n")


def test_the_page_is_self_contained_and_escaped() -> None:
    """No script, no address of others, and output is text."""
    page = make_page(fold(events()), Evidence())

    assert "&lt;b&gt;1&lt;/b&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_bars_lie_where_stages_ran() -> None:
    record = fold(events())

    bars = time_line(list(record.stages.values()), record)

    assert {name: (bar.left, bar.width) for name, bar in bars.items()} == {
        "build": (0.0, 33.33),
        "lint": (0.0, 66.67),
        "unit": (33.33, 66.67),
    }


def test_views_are_written_with_the_evidence_found(tmp_path: Path) -> None:
    """Test results are added up, kept files are linked; a damaged file is named."""
    folder = RunFolder.create(tmp_path, 1000.0)
    folder.keep("unit", "junit.xml", JUNIT)
    record = fold(events())

    written = write_views(folder.path, record)

    assert [path.name for path in written] == ["summary.md", "report.html", "junit.xml"]
    assert parse_junit(written[2].read_bytes()) == parse_junit(JUNIT)
    assert "| unit | 1 | 1 | 0 | 0 | 1.5s |" in written[0].read_text("utf-8")
    assert 'href="stages/unit/files/junit.xml"' in written[1].read_text("utf-8")
    (folder.path / "stages/unit/files/junit.xml").write_bytes(b"<oops")
    assert find_evidence(folder.path, record).problems == (
        "cannot read the test results `stages/unit/files/junit.xml`: unclosed token: line 1, column 0",
    )


def test_a_command_with_a_script_shows_its_first_words() -> None:
    """Everything else stands as one would type it."""
    script = 'set -e\nexport A=1\napt-get install -- "$@"\n'

    assert command_line(["sh", "-c", script, "apt", "git"]) == "sh -c 'set -e …' apt git"
    assert command_line(["pytest", "-k", "a or b"]) == "pytest -k 'a or b'"
