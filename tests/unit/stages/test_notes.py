"""What proves that tests passed: notes and reports that agree."""

from __future__ import annotations

import pytest

from pipeline.stages.notes import Notes, TestsLost, check_report, check_shards, named, parse_notes


def shard(found: str, chosen: str, failed: str = "") -> Notes:
    """Notes of tests with names of one letter."""
    outcomes = {test: "failed" if test in failed else "passed" for test in chosen}
    return Notes(found=frozenset(found), chosen=frozenset(chosen), outcomes=outcomes, seconds={})


def test_lines_that_are_no_notes_are_passed_over() -> None:
    """Also a last one that was cut short."""
    text = '{"found": ["a", "b"], "chosen": ["a"]}\n[]\nnoise\n{"begun": "a"}\n{"ended": "a", "outco'

    assert parse_notes([text]) == Notes(
        found=frozenset("ab"), chosen=frozenset("a"), outcomes={}, seconds={}, running=("a",)
    )


def test_shards_that_are_a_partition_are_proven() -> None:
    check_shards([shard("abc", "ab"), shard("abc", "c"), shard("abc", "")])


@pytest.mark.parametrize(
    ("shards", "said"),
    [
        pytest.param([("abc", "a"), ("abc", "b")], "1 test was collected and in no shard: c", id="lost"),
        pytest.param([("ab", "ab"), ("ab", "b")], "1 test was in several shards: b", id="doubled"),
        pytest.param(
            [("ab", "a"), ("ac", "c")], "shard 2 collected other tests than shard 1: b, c", id="different"
        ),
    ],
)
def test_shards_that_lose_or_double_tests_are_an_error(shards: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(TestsLost) as raised:
        check_shards([shard(found, chosen) for found, chosen in shards])

    assert str(raised.value) == f"cannot say whether the tests passed: {said}"


def test_a_report_that_tells_of_all_and_the_truth_is_proven() -> None:
    """It may know more: subtests, and the checks of other plugins."""
    check_report(shard("abc", "ab", failed="b"), ["a", "b", "x"], frozenset("b"))


@pytest.mark.parametrize(
    ("reported", "bad", "said"),
    [
        pytest.param("a", "", "1 test was collected and not in the report: b", id="incomplete"),
        pytest.param("ab", "", "the report calls good what failed: b", id="embellished"),
    ],
)
def test_a_report_that_leaves_out_or_lies_is_an_error(reported: str, bad: str, said: str) -> None:
    with pytest.raises(TestsLost) as raised:
        check_report(shard("ab", "ab", failed="b"), list(reported), frozenset(bad))

    assert str(raised.value) == f"cannot say whether the tests passed: {said}"


def test_of_many_tests_a_few_are_named() -> None:
    assert named(frozenset("abcdefgh")) == "a, b, c, d, e and 3 more"
