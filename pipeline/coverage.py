"""Cobertura XML becomes measured lines and branches; several are merged, and gates are checked. Pure.

Merged are reports, not a library's own data: any language's runner can write them. Lines merge exactly, and
so do branches where the report names the missing ones, as that of coverage.py does; elsewhere the branches
that one report covers count, which is never more than were covered.
"""

from __future__ import annotations

import math
import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from xml.etree.ElementTree import Element

_CONDITIONS: Final = re.compile(r"\((\d+)/(\d+)\)")
SCHEMA: Final = 1


class CoverageUnreadable(PipelineError):
    """A file is no Cobertura XML: nobody knows what was covered."""

    def __init__(self, what: str, name: str = "coverage.xml") -> None:
        super().__init__(f"cannot read the coverage `{name}`: {what}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An executable line, and the branches that leave it."""

    hits: int
    branches: int = 0
    covered: int = 0  # of the branches
    missing: frozenset[str] = frozenset()  # where the others lead to, as far as the report says


Lines = dict[int, Line]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The executable lines of each file; `sources` are the folders that file names may start from."""

    files: Mapping[str, Lines] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    @property
    def lines(self) -> int:
        """Executable lines."""
        return sum(len(lines) for lines in self.files.values())

    @property
    def covered(self) -> int:
        """Lines that ran."""
        return sum(line.hits > 0 for lines in self.files.values() for line in lines.values())

    @property
    def line_rate(self) -> float | None:
        """The share of lines that ran, 0 to 1; None when nothing is executable."""
        return self.covered / self.lines if self.lines else None

    @property
    def branch_rate(self) -> float | None:
        """The share of branches that were taken; None when none were measured."""
        both = [line for lines in self.files.values() for line in lines.values() if line.branches]
        total = sum(line.branches for line in both)
        return sum(line.covered for line in both) / total if total else None


def parse_coverage(data: bytes, name: str = "coverage.xml") -> Coverage:
    """Read a Cobertura file, called `name` in messages.

    Raises:
        CoverageUnreadable: It is no XML, its root is not `coverage`, or a line has no number.
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(data)
    except DefusedXmlException as error:
        raise CoverageUnreadable("it holds XML entities", name) from error
    except (ParseError, ValueError) as error:
        raise CoverageUnreadable(str(error), name) from error
    if root.tag != "coverage" or root.find("packages") is None:
        raise CoverageUnreadable("it is no Cobertura XML", name)
    files: dict[str, Lines] = {}
    try:
        for one in root.iter("class"):
            lines = files.setdefault(one.attrib["filename"], {})
            for element in one.iter("line"):
                number, line = int(element.attrib["number"]), _line_of(element)
                lines[number] = _merged(lines[number], line) if number in lines else line
    except (KeyError, ValueError) as error:
        raise CoverageUnreadable(f"a class or a line is damaged: {error!r}", name) from error
    return Coverage(files=files, sources=tuple(one.text or "" for one in root.iter("source")))


def _line_of(element: Element) -> Line:
    hits = int(element.attrib["hits"])
    said = _CONDITIONS.search(element.get("condition-coverage") or "")
    if element.get("branch") != "true" or said is None:
        return Line(hits=hits)
    missing = element.get("missing-branches") or ""
    return Line(
        hits=hits,
        covered=int(said[1]),
        branches=int(said[2]),
        missing=frozenset(part.strip() for part in missing.split(",") if part.strip()),
    )


def _merged(one: Line, other: Line) -> Line:
    hits = max(one.hits, other.hits)
    branches = max(one.branches, other.branches)
    covered, missing = max(one.covered, other.covered), one.missing & other.missing
    if one.branches == other.branches and _names_missing(one) and _names_missing(other):
        covered = branches - len(missing)
    return Line(hits=hits, branches=branches, covered=covered, missing=missing)


def _names_missing(line: Line) -> bool:
    return line.covered + len(line.missing) == line.branches


def located(coverage: Coverage, inside: str, known: Callable[[str], bool]) -> Coverage:
    """The coverage of the files that lie in the project, with names relative to it.

    Args:
        inside: Where the project lay when it was measured, such as "/src".
        known: Whether the project has a file of that name.
    """
    files: dict[str, Lines] = {}
    for name, lines in coverage.files.items():
        places = [
            posixpath.normpath(posixpath.join(inside, source, name)) for source in (*coverage.sources, "")
        ]
        inner = [posixpath.relpath(place, inside) for place in places if place.startswith(inside + "/")]
        path = next((place for place in inner if known(place)), inner[0] if inner else None)
        if path is not None:
            files[path] = _both(files.get(path, {}), lines)
    return Coverage(files=files, sources=(inside,))


def add_coverage(several: Sequence[Coverage]) -> Coverage:
    """Merge measurements: a line ran when it ran in one of them."""
    files: dict[str, Lines] = {}
    for one in several:
        for name, lines in one.files.items():
            files[name] = _both(files.get(name, {}), lines)
    sources = dict.fromkeys(source for one in several for source in one.sources)
    return Coverage(files=dict(sorted(files.items())), sources=tuple(sources))


def _both(one: Lines, other: Lines) -> Lines:
    both = {
        n: _merged(one[n], other[n]) if n in one and n in other else {**one, **other}[n] for n in one | other
    }
    return dict(sorted(both.items()))


def write_coverage(coverage: Coverage) -> bytes:
    """Write Cobertura XML; equal coverage gives equal bytes."""
    from xml.sax.saxutils import escape, quoteattr

    packages: dict[str, dict[str, Lines]] = {}
    for name, lines in sorted(coverage.files.items()):
        packages.setdefault(posixpath.dirname(name), {})[name] = lines
    rows = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<coverage version="1" timestamp="0"{_rates(coverage)}>',
    ]
    rows += ["<sources>", *(f"<source>{escape(one)}</source>" for one in coverage.sources), "</sources>"]
    rows.append("<packages>")
    for folder, files in packages.items():
        package = quoteattr(folder.replace("/", "."))
        rows += [f"<package name={package}{_rates(replace(coverage, files=files))}>", "<classes>"]
        for name, lines in files.items():
            named = f"name={quoteattr(posixpath.basename(name))} filename={quoteattr(name)}"
            rows += [
                f"<class {named}{_rates(replace(coverage, files={name: lines}))}>",
                "<methods/>",
                "<lines>",
            ]
            rows += [_line_row(number, line) for number, line in lines.items()]
            rows += ["</lines>", "</class>"]
        rows += ["</classes>", "</package>"]
    return "\n".join([*rows, "</packages>", "</coverage>\n"]).encode("utf-8", "replace")


def _rates(coverage: Coverage) -> str:
    both = [line for lines in coverage.files.values() for line in lines.values()]
    branches, taken = sum(line.branches for line in both), sum(line.covered for line in both)
    line_rate, branch_rate = coverage.line_rate, coverage.branch_rate
    return (
        f' lines-valid="{coverage.lines}" lines-covered="{coverage.covered}"'
        f' line-rate="{1.0 if line_rate is None else line_rate:.4f}"'
        f' branches-valid="{branches}" branches-covered="{taken}"'
        f' branch-rate="{branch_rate or 0.0:.4f}" complexity="0"'
    )


def _line_row(number: int, line: Line) -> str:
    from xml.sax.saxutils import quoteattr

    row = f'<line number="{number}" hits="{line.hits}"'
    if line.branches:
        percent = 100 * line.covered // line.branches
        row += f' branch="true" condition-coverage="{percent}% ({line.covered}/{line.branches})"'
    if line.missing:
        row += f" missing-branches={quoteattr(','.join(sorted(line.missing, key=_branch_order)))}"
    return row + "/>"


def _branch_order(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


@dataclass(frozen=True, kw_only=True)
class ChangedLines:
    """The executable lines of a change, and which of them ran."""

    lines: int = 0
    covered: int = 0
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unmeasured: tuple[str, ...] = ()  # changed files of a measured kind that no report knows


def changed_coverage(coverage: Coverage, changed: Mapping[str, frozenset[int]]) -> ChangedLines:
    """Say how much of a change ran: `changed` has the new or altered lines of each file that is there now."""
    kinds = {posixpath.splitext(name)[1] for name in coverage.files}
    found = [
        (name, number, coverage.files[name][number].hits > 0)
        for name, numbers in sorted(changed.items())
        for number in sorted(numbers.intersection(coverage.files.get(name, {})))
    ]
    missing: dict[str, tuple[int, ...]] = {}
    for name, number, ran in found:
        if not ran:
            missing[name] = (*missing.get(name, ()), number)
    return ChangedLines(
        lines=len(found),
        covered=sum(ran for _, _, ran in found),
        missing=missing,
        unmeasured=tuple(
            name
            for name, numbers in sorted(changed.items())
            if numbers and name not in coverage.files and posixpath.splitext(name)[1] in kinds
        ),
    )


def missing_lines(coverage: Coverage) -> dict[str, tuple[int, ...]]:
    """The lines that never ran, by file; those with the most first."""
    missing = {
        name: tuple(number for number, line in lines.items() if not line.hits)
        for name, lines in coverage.files.items()
    }
    return dict(sorted(((n, m) for n, m in missing.items() if m), key=lambda row: (-len(row[1]), row[0])))


def reaches(covered: int, lines: int, percent: float) -> bool:
    """Whether a share is at least so many percent; exact, never rounded up."""
    return covered * 100 >= percent * lines


def percent(covered: int, lines: int) -> str:
    """A share as people read it, rounded down: below a limit never looks like the limit."""
    return f"{math.floor(1000 * covered / lines) / 10:g} %" if lines else "nothing"


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers as people read them: "3-5, 9"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def coverage_table(coverage: Coverage, changed: ChangedLines | None) -> dict[str, Any]:
    """The coverage as `coverage.json` holds it; `changed` None: nobody asked."""
    missing = missing_lines(coverage)
    table: dict[str, Any] = {
        "schema": SCHEMA,
        "lines": coverage.lines,
        "covered": coverage.covered,
        "line_rate": coverage.line_rate,
        "branch_rate": coverage.branch_rate,
        "files": {
            name: {"lines": len(lines), "missing": ranges(missing.get(name, ()))}
            for name, lines in sorted(coverage.files.items())
        },
        "changed": None,
    }
    if changed is not None:
        table["changed"] = {
            "lines": changed.lines,
            "covered": changed.covered,
            "missing": {name: ranges(numbers) for name, numbers in changed.missing.items()},
            "unmeasured": list(changed.unmeasured),
        }
    return table
