"""Events folded into a record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.graph.events import StageFinished
from pipeline.graph.outcome import Outcome
from pipeline.graph.record import RunFolder
from pipeline.report.record import StageRecord, fold, last_line, load_record
from pipeline.text import clean
from tests.unit.report.events import FAILURE, events

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_is_folded_into_one_record() -> None:
    """Every stage has its verdict, the run its totals."""
    record = fold(events())

    assert {name: one.verdict for name, one in record.stages.items()} == {
        "build": "passed",
        "lint": "passed",
        "unit": "failed",
        "push": "skipped",
    }
    assert record.stages["lint"].flags == ("flaky, 2 attempts",)
    assert (record.stages["build"].steps, record.stages["build"].last_line) == (1, "two")
    assert record.counts() == {"failed": 1, "skipped": 1, "passed": 2}
    assert (record.verdict, record.exit_code, record.duration_s) == ("failed", 1, 6.0)


def test_a_failure_that_does_not_say_how_to_see_it_again_is_given_a_command() -> None:
    record = fold(events())

    again = "pipeline run --only unit --env test"
    assert record.stages["unit"].failure == replace(FAILURE, reproduce=again)


def test_the_record_of_a_killed_run_has_what_was_told(tmp_path: Path) -> None:
    """A last line that was cut is left out; stages without an end have no outcome."""
    folder = RunFolder.create(tmp_path, 1000.0)
    for event in events()[:6]:
        folder.write(event)
    folder.close()
    with open(folder.path / "events.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"kind": "StageFi')

    record = load_record(folder.path)

    assert record.verdict == "unfinished"
    assert record.counts() == {"running": 1, "waiting": 2, "passed": 1}


def test_a_soft_failure_does_not_make_the_run_bad_and_is_still_shown() -> None:
    ended = StageFinished(
        at=1.0,
        stage="lint",
        outcome=Outcome.FAILURE,
        why="",
        duration_s=1.0,
        attempts=1,
        soft_failed=True,
        failure=FAILURE,
    )

    record = fold([ended])

    assert not record.stages["lint"].is_bad
    assert [one.name for one in record.bad_stages] == ["lint"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("\x1b[1;31mred\x1b[0m", "red", id="colour"),
        pytest.param("a\x1b]0;title\x07b", "ab", id="title"),
        pytest.param("a\x1b[2Jb\x00\x08", "ab", id="clear"),
        pytest.param("a\r\nb\tc\n", "a\nb\tc\n", id="line ends"),
    ],
)
def test_output_cannot_steer_the_terminal(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_the_last_line_of_a_progress_bar_is_its_last_state() -> None:
    assert last_line("10%\r50%\r99%\r") == "99%"


def test_a_waiting_stage_has_no_time() -> None:
    assert StageRecord(name="a").took_s is None
