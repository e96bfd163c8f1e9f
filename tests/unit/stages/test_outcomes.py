"""What shards and retries come to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.graph.context import CheckFailed
from pipeline.junit import Attempt, Kind, TestCase, TestResults
from pipeline.stages.containers import StageBroken
from pipeline.stages.notes import NODE, Notes, TestsLost
from pipeline.stages.outcomes import Ran, add_up, error_of, without_ids
from pipeline.stages.past_tests import PastRun, PastTests
from pipeline.stages.told import KILLED_HINT, RunnerKilled

NOTHING = PastTests()
ARGV = ("python", "-m", "pytest")


def case(name: str, kind: Kind = "passed", **more: Any) -> TestCase:
    """A case as pytest reports it."""
    message = "no" if kind in ("failure", "error") else ""
    return TestCase(name=name, kind=kind, message=message, properties={NODE: json.dumps(name)}, **more)


def ran(*cases: TestCase, code: int | None = None, **more: Any) -> Ran:
    """A container whose runner came to its end."""
    names = [one.name for one in cases]
    outcomes = {one.name: "failed" if one.is_bad else "passed" for one in cases}
    noted = {"found": frozenset(names), "chosen": frozenset(names), "is_whole": True, **more}
    bad = any(one.is_bad for one in cases)
    return Ran(
        code=int(bad) if code is None else code,
        results=TestResults(cases=cases),
        notes=Notes(outcomes=outcomes, seconds=dict.fromkeys(names, 1.0), **noted),
    )


def outcome(*several: Ran, again: tuple[Ran, ...] = (), past: PastTests = NOTHING) -> PipelineError | None:
    """The error that these come to, proven as a stage would."""
    error = error_of(ARGV, several, add_up(several, again, past, "k"))
    assert error is None or isinstance(error, PipelineError)
    return error


def test_shards_that_are_all_good_are_good() -> None:
    """Also when one had nothing to run."""
    idle = ran(code=5)

    assert outcome(ran(case("a")), ran(case("b", "skipped")), idle) is None


def test_a_test_that_passes_when_tried_again_is_flaky_and_never_clean() -> None:
    """What it said before stands beside it, as Surefire has it."""
    first = ran(case("a", "failure", text="E no"), case("b"))
    second, third = ran(case("a", "error", text="again")), ran(case("a"))

    results = add_up([first], [second, third], NOTHING, "k")

    assert error_of(ARGV, [first], results) is None
    assert without_ids(results).cases == (
        TestCase(
            name="a",
            properties={"flaky": "passed at attempt 3"},
            attempts=(
                Attempt(is_error=False, message="no", text="E no"),
                Attempt(is_error=True, message="no", text="again"),
            ),
        ),
        TestCase(name="b"),
    )
    assert [one.name for one in results.flaky] == ["a"]


def test_a_test_that_stays_bad_is_told_once() -> None:
    first, second = ran(case("a", "failure"), case("b")), ran(case("a", "failure"))

    error = outcome(first, again=(second,))

    assert isinstance(error, CheckFailed)
    assert error.failure.message == "1 of 2 tests failed; first: a: no"


@pytest.mark.parametrize(
    ("kind", "before", "why"),
    [
        pytest.param(
            "passed", PastRun(run_id="7", key="k", tests=1, bad=("a",)), "failed in run 7", id="mended"
        ),
        pytest.param("failure", PastRun(run_id="7", key="k", tests=1), "passed in run 7", id="broken"),
        pytest.param("passed", PastRun(run_id="7", key="x", tests=1, bad=("a",)), "", id="other inputs"),
        pytest.param("passed", PastRun(run_id="7", key="k", tests=1), "", id="as ever"),
    ],
)
def test_two_outcomes_on_the_same_inputs_are_flaky_without_any_retry(
    kind: Kind, before: PastRun, why: str
) -> None:
    results = add_up([ran(case("a", kind))], [], PastTests(runs=(before,)), "k")

    expected = {"flaky": f"{why} on the same inputs"} if why else {}
    assert dict(without_ids(results).cases[0].properties) == expected


def test_a_bad_test_that_was_good_on_the_same_inputs_is_told_as_flaky() -> None:
    """It fails all the same: nobody tried it again."""
    before = PastRun(run_id="7", key="k", tests=1)

    error = outcome(ran(case("a", "failure")), past=PastTests(runs=(before,)))

    assert isinstance(error, CheckFailed)
    assert error.failure.tail == ("FAILED a, flaky: passed in run 7 on the same inputs",)


def test_a_test_that_a_plugin_of_the_project_tried_again_is_flaky() -> None:
    results = add_up([ran(case("a"), again=frozenset("a"))], [], NOTHING, "k")

    assert len(results.flaky) == 1


def test_lines_of_pytest_count_from_one_and_empty_sections_go() -> None:
    wrote = "--- Captured Log ---\n\n--- Captured Out ---\nsaid\n--- Captured Err ---"

    results = add_up([ran(case("a", line=0, output=wrote))], [], NOTHING, "k")

    assert (results.cases[0].line, results.cases[0].output) == (1, "--- Captured Out ---\nsaid\n")


def crashed(code: int, *, running: tuple[str, ...] = ("b",), results: TestResults | None = None) -> Ran:
    """A container whose runner ended before its time."""
    noted = Notes(
        found=frozenset("abc"), chosen=frozenset("abc"), outcomes={"a": "passed"}, seconds={}, running=running
    )
    return Ran(code=code, results=results, notes=noted, tail=("last words",))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(139, "was killed by SIGSEGV (a segmentation fault)", id="segmentation fault"),
        pytest.param(1, "ended with exit code 1", id="gave up"),
        pytest.param(0, "ended with exit code 0", id="left"),
    ],
)
def test_an_interpreter_that_ends_in_a_test_is_that_tests_failure(code: int, said: str) -> None:
    """A report that somebody wrote meanwhile is not believed; what was noted makes one."""
    forged = TestResults(cases=(case("a"), case("b"), case("c")))
    one = crashed(code, results=forged)

    results = add_up([one], [], NOTHING, "k")
    error = error_of(ARGV, [one], results)

    assert isinstance(error, CheckFailed)
    assert error.failure.message == f"the test runner {said} while b ran"
    assert error.failure.tail[0] == "last words"
    assert [(one.name, one.kind) for one in results.cases] == [("a", "passed"), ("b", "error")]


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        pytest.param(137, "SIGKILL (often for want of memory)", KILLED_HINT, id="killed"),
        pytest.param(143, "SIGTERM", None, id="ended"),
    ],
)
def test_a_runner_that_somebody_killed_has_not_checked_its_tests(
    code: int, said: str, hint: str | None
) -> None:
    """That is an error, which names the test it was at; a test that had failed before is a failure."""
    one = crashed(code)
    assert one.notes is not None
    had_failed = replace(one, notes=replace(one.notes, outcomes={"a": "failed"}))

    error = error_of(ARGV, [one], TestResults(cases=()))
    worse = error_of(ARGV, [had_failed], add_up([had_failed], [], NOTHING, "k"))

    assert isinstance(error, RunnerKilled)
    assert (str(error), error.hint) == (f"the test runner was killed by {said} while b ran", hint)
    assert isinstance(worse, CheckFailed)
    assert worse.failure.message == str(error)


@pytest.mark.parametrize(
    ("one", "kind", "said"),
    [
        pytest.param(Ran(code=4), StageBroken, "ended with exit code 4 and left no report", id="usage"),
        pytest.param(Ran(code=0), StageBroken, "ended with exit code 0 and left no report", id="silent"),
        pytest.param(
            Ran(code=0, problem="its report cannot be read: oops"),
            StageBroken,
            "and its report cannot be read: oops",
            id="damaged",
        ),
        pytest.param(
            crashed(0, running=(), results=TestResults(cases=(case("a"),))),
            TestsLost,
            "exit code 0, but not at its end",
            id="left between tests",
        ),
        pytest.param(ran(code=5), CheckFailed, "no tests were collected", id="nothing collected"),
        pytest.param(ran(case("a"), code=1), CheckFailed, "ended with exit code 1", id="forged"),
        pytest.param(
            Ran(code=0, results=TestResults(cases=(case("a", "failure"),))),
            CheckFailed,
            "1 of 1 tests failed",
            id="another runner hides it",
        ),
    ],
)
def test_what_proves_nothing_is_never_good(one: Ran, kind: type[Exception], said: str) -> None:
    error = outcome(one)

    assert isinstance(error, kind)
    assert said in str(error)


def test_nothing_is_repeated_where_more_is_broken_than_single_tests() -> None:
    """Neither after a crash, nor when a file could not be imported, nor when the report hides a failure."""
    file = TestCase(name="tests.test_x", kind="error", message="collection failure")
    liar = ran(case("a"), code=1)
    hiding = Ran(
        code=1,
        results=TestResults(cases=(case("a", "failure"), case("b"))),
        notes=ran(case("a", "failure"), case("b", "failure")).notes,
    )

    found = [one.can_be_repeated() for one in (crashed(139), ran(file), liar, hiding)]

    assert found == [False] * 4
    assert ran(case("a", "failure")).can_be_repeated()
