"""JUnit XML becomes counts and failures; the dialects of pytest, Maven, Jest and others are read alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element


class JUnitUnreadable(PipelineError):
    """A file is no JUnit XML."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read the test results `{name}`: {what}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class BadTest:
    """A test that failed or broke."""

    name: str
    suite: str  # class, module or file; "" when the dialect does not say
    file: str
    line: int | None
    is_error: bool  # broken outside its assertions
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResults:
    """Counts over every suite of a file, and the bad tests in their order."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    tests: int
    failures: int
    errors: int
    skipped: int
    duration_s: float
    bad: tuple[BadTest, ...] = ()

    @property
    def passed(self) -> int:
        """Tests that ran and were good."""
        return self.tests - self.failures - self.errors - self.skipped


def parse_junit(data: bytes, name: str = "junit.xml") -> TestResults:
    """Read a JUnit file, called `name` in messages. Counts are made from the test cases, not from attributes.

    Raises:
        JUnitUnreadable: It is not XML, holds entities, or its root is no test suite.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(data)
    except (ParseError, ValueError) as error:
        what = "it holds XML entities" if isinstance(error, DefusedXmlException) else str(error)
        raise JUnitUnreadable(name, what) from error
    if _tag(root) not in ("testsuites", "testsuite"):
        raise JUnitUnreadable(name, f"its root is `{_tag(root)}`, not `testsuites`")
    cases = [element for element in root.iter() if _tag(element) == "testcase"]
    kinds = [_kind(case) for case in cases]
    return TestResults(
        tests=len(cases),
        failures=kinds.count("failure"),
        errors=kinds.count("error"),
        skipped=kinds.count("skipped"),
        duration_s=sum(_seconds(case.get("time")) for case in cases),
        bad=tuple(
            _bad(case) for case, kind in zip(cases, kinds, strict=True) if kind in ("failure", "error")
        ),
    )


def add_results(results: Sequence[TestResults]) -> TestResults:
    """Add up several files."""
    return TestResults(
        tests=sum(one.tests for one in results),
        failures=sum(one.failures for one in results),
        errors=sum(one.errors for one in results),
        skipped=sum(one.skipped for one in results),
        duration_s=sum(one.duration_s for one in results),
        bad=tuple(bad for one in results for bad in one.bad),
    )


def _tag(element: Element) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _kind(case: Element) -> str:
    """What became of a test case: failure, error, skipped or passed; the worst of what it says."""
    said = {_tag(child) for child in case}
    return next((kind for kind in ("failure", "error", "skipped") if kind in said), "passed")


def _bad(case: Element) -> BadTest:
    child = next(child for child in case if _tag(child) == _kind(case))
    text = clean(child.text or "").strip("\n")
    message = clean(child.get("message") or "") or next(iter(text.strip().splitlines()), "")
    line = case.get("line") or ""
    return BadTest(
        name=clean(case.get("name") or ""),
        suite=clean(case.get("classname") or ""),
        file=clean(case.get("file") or ""),
        line=int(line) if line.isdecimal() else None,
        is_error=_tag(child) == "error",
        message=message,
        text=text,
    )


def _seconds(text: str | None) -> float:
    """Read a duration; some write "1,234.5". What is no number counts as nothing."""
    try:
        return max(float((text or "0").replace(",", "")), 0.0)
    except ValueError:
        return 0.0
