"""JUnit XML of several dialects."""

from __future__ import annotations

import pytest

from pipeline.junit import BadTest, JUnitUnreadable, TestResults, add_results, parse_junit


def test_counts_come_from_the_cases() -> None:
    """Wrong attributes of a suite do not matter; a root of one suite is fine."""
    data = (
        b'<testsuite tests="99"><testcase name="a" time="1,000.5"/><testcase name="b"><skipped/></testcase>'
        b'<testcase name="c" classname="m" file="t.py" line="3"><error message="broken"/></testcase>'
        b'<testcase name="d" time="x"><failure>first\nsecond</failure><skipped/></testcase></testsuite>'
    )

    assert parse_junit(data) == TestResults(
        tests=4,
        failures=1,
        errors=1,
        skipped=1,
        duration_s=1000.5,
        bad=(
            BadTest(name="c", suite="m", file="t.py", line=3, is_error=True, message="broken", text=""),
            BadTest(
                name="d", suite="", file="", line=None, is_error=False, message="first", text="first\nsecond"
            ),
        ),
    )


def test_results_add_up() -> None:
    one = parse_junit(b'<testsuite><testcase name="a" time="1"/></testsuite>')

    assert add_results([one, one]) == TestResults(tests=2, failures=0, errors=0, skipped=0, duration_s=2.0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "no element found: line 1, column 0", id="empty"),
        pytest.param(b"<html/>", "its root is `html`, not `testsuites`", id="other"),
        pytest.param(
            b'<!DOCTYPE x [<!ENTITY e "boom">]><testsuite>&e;</testsuite>',
            "it holds XML entities",
            id="entities",
        ),
    ],
)
def test_what_is_no_junit_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(JUnitUnreadable) as raised:
        parse_junit(data, "j.xml")

    assert str(raised.value) == f"cannot read the test results `j.xml`: {said}"
