"""What became of a stage's tests over all its shards and retries, and which of them are flaky. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.junit import FLAKY, Attempt, TestCase, TestResults
from pipeline.stages.notes import NODE, Notes, TestsLost, check_report
from pipeline.stages.told import NO_TESTS, ending, failure, last_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.stages.past_tests import PastTests

NODE_PARTS: Final = "::"
EMPTY_SECTION: Final = re.compile(r"^-+ Captured \w+ -+\n*(?=-+ Captured \w+ -+$|\Z)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one container with tests left."""

    code: int  # 128 and a signal's number where one ended it
    results: TestResults | None = None  # None: no report that can be read, for this `problem`
    problem: str = ""
    notes: Notes | None = None  # None: the runner is not pytest, or died with its container
    tail: tuple[str, ...] = ()  # its last words; only where it is not complete
    report: bytes | None = None  # as another runner than pytest wrote it
    coverage: bytes | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the runner came to its end: all are good, some are bad, or there was nothing to run."""
        is_whole = self.notes is None or self.notes.is_whole
        return self.results is not None and is_whole and self.code in (0, 1, *([NO_TESTS] * self.chose_none))

    @property
    def chose_none(self) -> bool:
        """Whether no test was to run here."""
        return self.notes is not None and not self.notes.chosen

    def cases(self) -> dict[str, TestCase]:
        """The reported tests by pytest's id, as far as the report says it."""
        found = {}
        for case in self.results.cases if self.results is not None else ():
            try:
                found[str(json.loads(case.properties[NODE]))] = case
            except (KeyError, ValueError):
                continue  # a file that could not be imported, or another runner's report
        return found

    def bad(self) -> dict[str, TestCase]:
        """Those of them that are bad."""
        return {test: case for test, case in self.cases().items() if case.is_bad}

    def check(self) -> None:
        """Prove that the report tells of each test that was to run.

        Raises:
            TestsLost: It does not.
        """
        if self.notes is not None:
            check_report(self.notes, list(self.cases()), frozenset(self.bad()))

    def can_be_repeated(self) -> bool:
        """Whether what is bad here are single tests, each known by its id, and nothing else."""
        if not self.is_complete or self.notes is None or self.results is None:
            return False
        try:
            self.check()
        except TestsLost:
            return False
        return len(self.bad()) == len(self.results.bad) and (self.code == 1) == bool(self.bad())


def add_up(ran: Sequence[Ran], again: Sequence[Ran], past: PastTests, key: str) -> TestResults:
    """Return what became of each test: the last try decides, earlier ones stand beside it.

    A test that was bad and good on the same inputs is marked `flaky`, in this run or against an earlier one
    with the same stage key.
    """
    cases: list[TestCase] = []
    properties: dict[str, str] = {}
    more = [one.cases() for one in again]
    for one in ran:
        for case in _reported(one):
            test = _id(case)
            tries = [found[test] for found in more if test in found]
            cases.append(_with_tries(case, tries))
        properties |= one.results.properties if one.results is not None else {}
    plugged = frozenset(test for one in ran if one.notes is not None for test in one.notes.again)
    return TestResults(cases=tuple(_marked(cases, plugged, past, key)), properties=properties)


def _id(case: TestCase) -> str:
    try:
        return str(json.loads(case.properties[NODE]))
    except (KeyError, ValueError):
        return ""


def _reported(one: Ran) -> list[TestCase]:
    """The cases of a report; where the runner did not come to write it, what the notes tell."""
    is_cut_short = one.notes is not None and not one.notes.is_whole
    if one.results is not None and not is_cut_short:
        return [_of_pytest(case) if NODE in case.properties else case for case in one.results.cases]
    if one.notes is None:
        return []
    kinds = {"failed": "failure", "skipped": "skipped"}
    ended = [
        _noted(test, kinds.get(outcome, "passed"), "", one.notes.seconds.get(test, 0.0))
        for test, outcome in one.notes.outcomes.items()
    ]
    what, words = f"the test runner {ending(one.code)} while it ran", "\n".join(last_words(one.tail))
    running = [_noted(test, "error", what, 0.0) for test in one.notes.running]
    return [*ended, *(replace(case, text=words) for case in running)]


def _of_pytest(case: TestCase) -> TestCase:
    """A case as others write it: lines count from 1, and what a test did not write has no heading."""
    line = None if case.line is None else case.line + 1
    return replace(case, line=line, output=EMPTY_SECTION.sub("", case.output))


def _noted(test: str, kind: str, message: str, seconds: float) -> TestCase:
    file, *suites, name = test.split(NODE_PARTS) if NODE_PARTS in test else ("", test)
    suite = ".".join([file.removesuffix(".py").replace("/", "."), *suites])
    case = TestCase(
        name=name, suite=suite, file=file, duration_s=seconds, properties={NODE: json.dumps(test)}
    )
    match kind:
        case "failure" | "error" | "skipped":
            return replace(case, kind=kind, message=message)
        case _:
            return case


def _with_tries(case: TestCase, tries: Sequence[TestCase]) -> TestCase:
    """A case after it was tried again: the first good try decides, else it is as bad as it was."""
    attempts = [_attempt(one) for one in tries if one.is_bad]
    good = next((one for one in tries if one.kind == "passed"), None)
    if good is None:
        return replace(case, attempts=(*case.attempts, *attempts))
    tried = len(attempts) + 2
    return replace(
        case,
        kind="passed",
        message="",
        text="",
        attempts=(_attempt(case), *attempts),
        properties={**case.properties, FLAKY: f"passed at attempt {tried}"},
    )


def _attempt(case: TestCase) -> Attempt:
    return Attempt(is_error=case.kind == "error", message=case.message, text=case.text)


def _marked(cases: Sequence[TestCase], plugged: frozenset[str], past: PastTests, key: str) -> list[TestCase]:
    were_bad = past.were_bad(key)
    were_good = past.were_good(key, [_id(case) for case in cases if case.is_bad])
    marked = []
    for case in cases:
        test, why = _id(case), ""
        if case.kind == "passed" and test in plugged:
            why = "passed when a plugin of the project tried it again"
        elif case.kind == "passed" and test in were_bad:
            why = f"failed in run {were_bad[test]} on the same inputs"
        elif case.is_bad and test and test in were_good:
            why = f"passed in run {were_good[test]} on the same inputs"
        if why and FLAKY not in case.properties:
            case = replace(case, properties={**case.properties, FLAKY: why})
        marked.append(case)
    return marked


def error_of(argv: Sequence[str], ran: Sequence[Ran], results: TestResults) -> Exception | None:
    """Return the error that the tests come to; None when all is well and proven."""
    for one in ran:
        running = one.notes.running if one.notes is not None else ()
        if one.is_complete:
            continue
        if one.code == 0 and one.results is not None and not running:
            return TestsLost("the runner ended with exit code 0, but not at its end")
        told = results if one.results is not None or running else None
        return failure(argv, one.code, told, one.tail, running=running, problem=one.problem)
    if all(one.code == NO_TESTS or not one.results or not one.results.tests for one in ran):
        return failure(argv, NO_TESTS, results, ())
    if results.bad:
        return failure(argv, max(one.code for one in ran) or 1, results, ())
    broken = next((one for one in ran if one.code == 1 and one.results and not one.results.bad), None)
    return None if broken is None else failure(argv, broken.code, results, broken.tail)


def without_ids(results: TestResults) -> TestResults:
    """The results without what only served to tell the tests apart."""
    cases = [
        replace(case, properties={name: value for name, value in case.properties.items() if name != NODE})
        for case in results.cases
    ]
    return replace(results, cases=tuple(cases))


def ids_of(cases: Sequence[TestCase]) -> tuple[str, ...]:
    """The ids of these tests, as far as they are known."""
    return tuple(filter(None, map(_id, cases)))


def first_bad(ran: Sequence[Ran]) -> tuple[str, ...]:
    """The tests that were bad in their first try."""
    return tuple(test for one in ran for test in one.bad())


def seconds_of(ran: Sequence[Ran]) -> Mapping[str, float]:
    """How long each test took."""
    return {test: took for one in ran if one.notes is not None for test, took in one.notes.seconds.items()}
