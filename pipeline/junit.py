"""JUnit XML becomes test cases and back; the dialects of pytest, Maven, Jest and others are read alike.

Files are read as a stream and long texts are cut, so that a test's output of any size does no harm.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, TYPE_CHECKING, Final, Literal

from pipeline.errors import PipelineError
from pipeline.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Kind = Literal["passed", "failure", "error", "skipped"]

LONGEST_TEXT: Final = 1 << 16
"""Characters kept of a failure's text or a test's output: the last ones."""

FLAKY: Final = "flaky"
"""The property that says why a test is flaky, beside Surefire's `flakyFailure` and `rerunFailure`."""

_PIECE: Final = 1 << 16
_WORST_FIRST: Final[tuple[Kind, ...]] = ("failure", "error", "skipped")
_AGAIN: Final = ("flakyFailure", "flakyError", "rerunFailure", "rerunError")
_OUTPUT: Final = ("system-out", "system-err")
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnitUnreadable(PipelineError):
    """A file is no JUnit XML."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read the test results `{name}`: {what}")
        self.name = name
        self.what = what


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One more time a test ran, and was bad."""

    is_error: bool
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """What became of one test."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    name: str
    suite: str = ""  # class, module or file; "" when the dialect does not say
    file: str = ""
    line: int | None = None
    kind: Kind = "passed"
    message: str = ""
    text: str = ""  # of the failure
    output: str = ""  # what the test wrote, standard output first
    duration_s: float = 0.0
    properties: Mapping[str, str] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()  # the other ones: bad, whatever `kind` says

    @property
    def is_bad(self) -> bool:
        """Whether it failed or broke."""
        return self.kind in ("failure", "error")

    @property
    def is_flaky(self) -> bool:
        """Whether it was both good and bad on the same inputs."""
        return FLAKY in self.properties or (self.kind == "passed" and bool(self.attempts))


@dataclass(frozen=True, kw_only=True)
class TestResults:
    """The cases of every suite of a file in their order, and the properties of the suites."""

    __test__ = False

    cases: tuple[TestCase, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def tests(self) -> int:
        """How many tests there are."""
        return len(self.cases)

    @property
    def failures(self) -> int:
        """Tests whose assertions failed."""
        return self._count("failure")

    @property
    def errors(self) -> int:
        """Tests that broke outside their assertions."""
        return self._count("error")

    @property
    def skipped(self) -> int:
        """Tests that did not run."""
        return self._count("skipped")

    @property
    def passed(self) -> int:
        """Tests that ran and were good."""
        return self._count("passed")

    @property
    def duration_s(self) -> float:
        """Seconds of all tests together."""
        return sum(case.duration_s for case in self.cases)

    @cached_property
    def bad(self) -> tuple[TestCase, ...]:
        """The tests that failed or broke."""
        return tuple(case for case in self.cases if case.is_bad)

    @cached_property
    def flaky(self) -> tuple[TestCase, ...]:
        """The tests that were both good and bad on the same inputs."""
        return tuple(case for case in self.cases if case.is_flaky)

    def _count(self, kind: Kind) -> int:
        return sum(case.kind == kind for case in self.cases)


def parse_junit(data: bytes, name: str = "junit.xml") -> TestResults:
    """Read a JUnit file, called `name` in messages. Counts are made from the test cases, not from attributes.

    Raises:
        JUnitUnreadable: It is not XML, holds entities, or its root is no test suite.
    """
    return _read(io.BytesIO(data), name)


def read_junit(path: Path) -> TestResults:
    """Read a JUnit file from the disk, of any size.

    Raises:
        JUnitUnreadable: As for `parse_junit`.
        OSError: The file cannot be read.
    """
    with open(path, "rb") as stream:
        return _read(stream, path.name)


def _read(stream: IO[bytes], name: str) -> TestResults:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import XMLParser

    reader = _Reader(name)
    parser = XMLParser(target=reader)
    try:
        while piece := stream.read(_PIECE):
            parser.feed(piece)
        parser.close()
    except (ParseError, ValueError) as error:
        what = "it holds XML entities" if isinstance(error, DefusedXmlException) else str(error)
        raise JUnitUnreadable(name, what) from error
    return TestResults(cases=tuple(reader.cases), properties=reader.properties)


def add_results(results: Sequence[TestResults]) -> TestResults:
    """Add up several files."""
    properties: dict[str, str] = {}
    for one in results:
        properties |= one.properties
    return TestResults(cases=tuple(case for one in results for case in one.cases), properties=properties)


class _Text:
    """Text that comes in pieces; only its end is kept."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0
        self._left_out = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > 2 * LONGEST_TEXT:
            self._cut()

    def _cut(self) -> None:
        whole = "".join(self._pieces)
        self._pieces = [whole[-LONGEST_TEXT:]]
        self._left_out += max(len(whole) - LONGEST_TEXT, 0)
        self._size = len(self._pieces[0])

    def take(self) -> str:
        self._cut()
        text = clean(self._pieces[0])
        return f"[{self._left_out} characters left out]\n{text}" if self._left_out else text


class _Reader:
    """Takes the elements of a JUnit file as the parser meets them."""

    def __init__(self, name: str) -> None:
        self.cases: list[TestCase] = []
        self.properties: dict[str, str] = {}
        self._name = name
        self._depth = 0
        self._case: TestCase | None = None
        self._said: list[tuple[str, str, str]] = []  # what the case says: element, message, text
        self._part: tuple[str, str] | None = None  # of the case, being read: element and message
        self._property: str | None = None
        self._text = _Text()

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        tag = tag.rpartition("}")[2]
        if not self._depth and tag not in ("testsuites", "testsuite"):
            raise JUnitUnreadable(self._name, f"its root is `{tag}`, not `testsuites`")
        self._depth += 1
        if tag == "testcase":
            self._case, self._said = _case_of(attributes), []
        elif tag == "property":
            self._property = attributes.get("name") or ""
            self._text = _Text()
            self._text.add(attributes.get("value") or "")
        elif self._case is not None and self._part is None and tag in (*_WORST_FIRST, *_AGAIN, *_OUTPUT):
            self._part = (tag, clean(attributes.get("message") or ""))
            self._text = _Text()

    def data(self, text: str) -> None:
        if self._part is not None or self._property is not None:
            self._text.add(text)

    def end(self, tag: str) -> None:
        tag = tag.rpartition("}")[2]
        self._depth -= 1
        if tag == "property" and self._property is not None:
            into = self._case.properties if self._case is not None else self.properties
            if isinstance(into, dict):
                into[clean(self._property)] = self._text.take().strip()
            self._property = None
        elif self._part is not None and tag == self._part[0]:
            self._said.append((*self._part, self._text.take().strip("\n")))
            self._part = None
        elif tag == "testcase" and self._case is not None:
            self.cases.append(_finished(self._case, self._said))
            self._case = None

    def close(self) -> None:
        """Nothing is left to do."""


def _case_of(attributes: Mapping[str, str]) -> TestCase:
    line = attributes.get("line") or ""
    return TestCase(
        name=clean(attributes.get("name") or ""),
        suite=clean(attributes.get("classname") or ""),
        file=clean(attributes.get("file") or ""),
        line=int(line) if line.isdecimal() else None,
        duration_s=_seconds(attributes.get("time")),
        properties={},
    )


def _finished(case: TestCase, said: Sequence[tuple[str, str, str]]) -> TestCase:
    """The case with what it says: the worst thing counts, in its first mention."""
    kind: Kind = next((kind for kind in _WORST_FIRST if any(tag == kind for tag, _, _ in said)), "passed")
    message, text = next(((message, text) for tag, message, text in said if tag == kind), ("", ""))
    return replace(
        case,
        kind=kind,
        message=_message(message, text),
        text=text,
        output="\n".join(text for name in _OUTPUT for tag, _, text in said if tag == name and text),
        attempts=tuple(
            Attempt(is_error=tag.endswith("Error"), message=_message(message, text), text=text)
            for tag, message, text in said
            if tag in _AGAIN
        ),
    )


def _message(message: str, text: str) -> str:
    return message or next(iter(text.strip().splitlines()), "")


def _seconds(text: str | None) -> float:
    """Read a duration; some write "1,234.5". What is no number counts as nothing."""
    try:
        seconds = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if 0.0 <= seconds < float("inf") else 0.0


def write_junit(suites: Mapping[str, TestResults]) -> bytes:
    """Write one JUnit file with a suite for each of these results, by its name."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>']
    lines.append(f"<testsuites{_counts(add_results(list(suites.values())))}>")
    for name, results in suites.items():
        lines.append(f"<testsuite{_attributes(name=name)}{_counts(results)}>")
        lines += _property_lines(results.properties)
        for case in results.cases:
            lines += _case_lines(case)
        lines.append("</testsuite>")
    return "\n".join([*lines, "</testsuites>\n"]).encode()


def _counts(results: TestResults) -> str:
    return _attributes(
        tests=results.tests,
        failures=results.failures,
        errors=results.errors,
        skipped=results.skipped,
        time=f"{results.duration_s:.3f}",
    )


def _case_lines(case: TestCase) -> list[str]:
    head = _attributes(
        classname=case.suite or None,
        name=case.name,
        file=case.file or None,
        line=case.line,
        time=f"{case.duration_s:.3f}",
    )
    lines = _property_lines(case.properties)
    if case.kind != "passed":
        lines.append(_element(case.kind, case.text, message=case.message))
    for one in case.attempts:
        tag = f"{'rerun' if case.is_bad else 'flaky'}{'Error' if one.is_error else 'Failure'}"
        lines.append(
            _element(tag, one.text, message=one.message, type="error" if one.is_error else "failure")
        )
    if case.output:
        lines.append(_element("system-out", case.output))
    return [f"<testcase{head}>", *lines, "</testcase>"] if lines else [f"<testcase{head}/>"]


def _property_lines(properties: Mapping[str, str]) -> list[str]:
    if not properties:
        return []
    rows = [f"<property{_attributes(name=name, value=value)}/>" for name, value in properties.items()]
    return ["<properties>", *rows, "</properties>"]


def _element(tag: str, text: str, **attributes: str) -> str:
    from xml.sax.saxutils import escape

    return f"<{tag}{_attributes(**attributes)}>{escape(_legal(text))}</{tag}>"


def _attributes(**attributes: object) -> str:
    from xml.sax.saxutils import quoteattr

    return "".join(
        f" {name}={quoteattr(_legal(str(value)))}" for name, value in attributes.items() if value is not None
    )


def _legal(text: str) -> str:
    """The text without characters that XML cannot hold; each is written out, as `#x1b`."""
    return _NO_XML.sub(lambda found: f"#x{ord(found.group()):02x}", text)
