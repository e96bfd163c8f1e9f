"""JUnit XML of several dialects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.junit import (
    LONGEST_TEXT,
    Attempt,
    JUnitUnreadable,
    TestCase,
    TestResults,
    add_results,
    parse_junit,
    write_junit,
)


def test_counts_come_from_the_cases() -> None:
    """Wrong attributes of a suite do not matter; a root of one suite is fine."""
    data = (
        b'<testsuite tests="99"><testcase name="a" time="1,000.5"/><testcase name="b"><skipped/></testcase>'
        b'<testcase name="c" classname="m" file="t.py" line="3"><error message="broken"/></testcase>'
        b'<testcase name="d" time="x"><failure>first\nsecond</failure><skipped/></testcase></testsuite>'
    )

    results = parse_junit(data)

    assert (results.tests, results.failures, results.errors, results.skipped) == (4, 1, 1, 1)
    assert (results.passed, results.duration_s) == (1, 1000.5)
    assert results.bad == (
        TestCase(name="c", suite="m", file="t.py", line=3, kind="error", message="broken"),
        TestCase(name="d", kind="failure", message="first", text="first\nsecond"),
    )


def test_results_add_up() -> None:
    one = parse_junit(b'<testsuite><testcase name="a" time="1"/></testsuite>')

    assert add_results([one, one]) == TestResults(cases=(TestCase(name="a", duration_s=1.0),) * 2)


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


def test_what_is_written_is_read_again_as_it_was() -> None:
    """Every part of a case survives, whatever characters names and output hold; suites keep their order."""
    flaky = TestCase(
        name='a["<&>"]',
        suite="tests.test_a.Things",
        file="tests/test_a.py",
        line=7,
        duration_s=0.125,
        properties={"flaky": "failed once", "ticket": "A & B"},
        output="wrote <this>\n]]>",
        attempts=(Attempt(is_error=False, message="assert 1 == 2", text="E  assert 1 == 2\n"),),
    )
    bad = TestCase(
        name="b",
        kind="error",
        message="boom",
        text="Traceback\n  boom",
        attempts=(Attempt(is_error=True, message="boom", text="again"),),
    )
    unit = TestResults(cases=(flaky, bad), properties={"host": "x"})
    e2e = TestResults(cases=(TestCase(name="c", kind="skipped", message="not today"),))

    data = write_junit({"unit": unit, "e2e": e2e})

    attempt = Attempt(is_error=False, message="assert 1 == 2", text="E  assert 1 == 2")
    assert parse_junit(data) == TestResults(
        cases=(replace(flaky, attempts=(attempt,)), bad, *e2e.cases), properties={"host": "x"}
    )
    assert b"<flakyFailure" in data
    assert b"<rerunError" in data
    assert data.count(b"<testsuite ") == 2


def test_flaky_is_what_was_good_and_bad_on_the_same_inputs() -> None:
    """Surefire's `flakyFailure` counts, whoever wrote it; a test that stays bad is not flaky."""
    data = (
        b'<testsuite><testcase name="a"><flakyFailure message="m"><stackTrace>x</stackTrace></flakyFailure>'
        b'</testcase><testcase name="b"><failure/><rerunFailure/></testcase></testsuite>'
    )

    results = parse_junit(data)

    assert [case.name for case in results.flaky] == ["a"]
    assert results.cases[0].attempts == (Attempt(is_error=False, message="m", text="x"),)


@pytest.mark.parametrize("name", ["\x00\x1b[31m", "\ud800", "\ufffe", "tab\tline\nend"])
def test_characters_that_xml_cannot_hold_are_written_out(name: str) -> None:
    """The file can be read, and the name is there in some form."""
    data = write_junit({"unit": TestResults(cases=(TestCase(name=name, kind="failure", text=name),))})

    (case,) = parse_junit(data).cases

    assert case.name
    assert case.text


def test_long_texts_keep_their_end() -> None:
    """A test that wrote very much costs little, and its last words are there."""
    data = b"<testsuite><testcase name='a'><failure>%b last</failure></testcase></testsuite>" % (
        b"x" * 9_000_000
    )

    (case,) = parse_junit(data).cases

    assert len(case.text) < LONGEST_TEXT + 100
    assert case.text.startswith("[8934469 characters left out]\n")
    assert case.text.endswith("x last")
