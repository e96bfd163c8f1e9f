"""What is remembered of tests between runs."""

from __future__ import annotations

import pytest

from pipeline.stages.past_tests import (
    RUNS_KEPT,
    PastRun,
    PastTests,
    flakiest,
    parse_past,
    write_past,
)

FIRST = PastRun(run_id="1", key="k", tests=2, bad=("a",))
SECOND = PastRun(run_id="2", key="k", tests=2, flaky=("a",))
OTHER = PastRun(run_id="3", key="other", tests=2, bad=("a", "b"), flaky=("a", "b"))
PAST = PastTests(seconds={"a": 0.5, "b": 1.0}, runs=(FIRST, SECOND, OTHER))


def test_what_is_written_is_read_again() -> None:
    assert parse_past(write_past(PAST)) == PAST


@pytest.mark.parametrize(
    "data",
    [None, b"", b"\xff", b"[]", b'{"schema": 2}', b'{"schema": 1, "seconds": {"a": "x"}, "runs": []}'],
    ids=["none", "empty", "no text", "list", "newer", "damaged"],
)
def test_a_note_that_cannot_be_read_tells_nothing(data: bytes | None) -> None:
    """It is lost, and nothing fails."""
    assert parse_past(data) == PastTests()


def test_only_runs_on_equal_inputs_are_compared() -> None:
    """Without a key nothing is known to be equal."""
    assert PAST.were_bad("k") == {"a": "1"}
    assert PAST.were_good("k", ["a", "b"]) == {"a": "2", "b": "2"}
    assert PAST.were_good("other", ["a"]) == {}
    assert PAST.were_bad("") == {}


def test_the_last_runs_are_kept_and_the_tests_of_the_last_one() -> None:
    past = PAST
    for _ in range(RUNS_KEPT + 5):
        past = past.with_run(SECOND, {"b": 2.0})

    assert past == PastTests(seconds={"b": 2.0}, runs=(SECOND,) * RUNS_KEPT)


def test_the_flakiest_tests_come_first() -> None:
    assert flakiest(PAST) == [("a", 2), ("b", 1)]
