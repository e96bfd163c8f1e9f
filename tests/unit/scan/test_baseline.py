"""The file of the baseline: stable, reviewable, and never read as something it is not."""

from __future__ import annotations

import json

import pytest

from pipeline.scan.baseline import Baseline, BaselineUnreadable, dump_baseline, known_of, parse_baseline
from pipeline.scan.finding import InFile
from tests.unit.scan.making import finding


def test_the_file_has_one_line_a_finding_and_is_the_same_for_the_same_findings() -> None:
    found = [
        finding(id="2" * 32, place=InFile(path="b.py", line=2)),
        finding(id="1" * 32, place=InFile(path="a.py", line=1)),
    ]

    text = dump_baseline(Baseline(known=known_of(found, "before we looked")))

    assert text == dump_baseline(Baseline(known=known_of(found[::-1], "before we looked")))
    assert [json.loads(line.strip().rstrip(","))["where"] for line in text.splitlines()[1:-1]] == [
        "a.py:1",
        "b.py:2",
    ]
    assert dump_baseline(parse_baseline(text)) == text
    assert parse_baseline(dump_baseline(Baseline())) == Baseline()


def test_places_of_one_secret_are_counted() -> None:
    """A third place of a known secret is a new finding."""
    places = [finding(kind="secret", place=InFile(path=path, line=1)) for path in ("a", "b", "c")]
    baseline = Baseline(known=known_of(places[:2], "before we looked"))

    marks, stale = baseline.split(places)

    assert [one.count for one in baseline.known] == [2]
    assert (marks, stale) == ([True, True, False], [])


def test_a_renamed_file_stays_known_in_exchange_for_the_old_one() -> None:
    """Only so many as are gone: a copy is a new problem."""
    old = finding(id="1" * 32, moved_id="m" * 32)
    moved = finding(id="2" * 32, moved_id="m" * 32, place=InFile(path="b.py", line=1))
    baseline = Baseline(known=known_of([old], "before we looked"))

    assert baseline.split([moved]) == ([True], [])
    assert baseline.split([old, moved]) == ([True, False], [])
    assert baseline.split([moved, moved])[0] == [True, False]
    assert baseline.split([]) == ([], list(baseline.known))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("{", "it is not JSON", id="no-json"),
        pytest.param("[]", "expected `schema` 1 and a list `known`", id="no-table"),
        pytest.param('{"schema": 2, "known": []}', "expected `schema` 1", id="another-schema"),
        pytest.param('{"schema": 1, "known": [3]}', "entry 1 has not exactly the keys id", id="no-entry"),
        pytest.param('{"schema": 1, "known": [{"id": "1"}]}', "entry 1 has not exactly the keys", id="half"),
    ],
)
def test_what_is_no_baseline_is_refused(text: str, problem: str) -> None:
    """It would otherwise let everything block, or nothing."""
    with pytest.raises(
        BaselineUnreadable, match=r"cannot read the baseline `pipeline\.baseline\.json`"
    ) as caught:
        parse_baseline(text)

    assert problem in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("count", 0), ("count", "1"), ("id", 3)])
def test_a_value_of_the_wrong_kind_is_refused(key: str, value: object) -> None:
    data = json.loads(dump_baseline(Baseline(known=known_of([finding()], "before we looked"))))
    data["known"][0][key] = value

    with pytest.raises(BaselineUnreadable, match=f"entry 1: `{key}` has no usable value"):
        parse_baseline(json.dumps(data))
