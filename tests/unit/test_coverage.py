"""Coverage of several reports, and what limits make of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.coverage import (
    ChangedLines,
    Coverage,
    CoverageUnreadable,
    Line,
    add_coverage,
    changed_coverage,
    coverage_table,
    located,
    parse_coverage,
    percent,
    ranges,
    reaches,
    write_coverage,
)

if TYPE_CHECKING:
    from pathlib import Path

HIT, MISSED = Line(hits=1), Line(hits=0)

CODE = """
def sign(x, loud=False):
    if x > 0:
        return 1
    if x < 0 and loud:
        print("negative")
    for _ in range(x):
        pass
    while x:
        break
    return "a" if x else "b"


def never():
    return 1
"""


def measure(folder: Path, name: str, call: str) -> Coverage:
    """What the real coverage.py reports of one call, with branches; its data stays for `combine`."""
    report = folder / f"{name}.xml"
    (folder / f"{name}.py").write_text(f"import code_\n{call}\n")
    data = f"--data-file={folder}/.coverage.{name}"
    coverage = [sys.executable, "-m", "coverage"]
    environ = {**os.environ, "COVERAGE_CORE": "ctrace"}
    for argv in (
        ["run", data, "--branch", "--include=code_.py", f"{name}.py"],
        ["xml", data, "-q", "-o", str(report)],
    ):
        subprocess.run([*coverage, *argv], cwd=folder, env=environ, check=True, capture_output=True)
    return parse_coverage(report.read_bytes())


def test_merged_reports_are_what_coverage_itself_would_combine(tmp_path: Path) -> None:
    """Lines and branches: reports say which branches are missing, so nothing is guessed."""
    (tmp_path / "code_.py").write_text(CODE)
    calls = ["code_.sign(1)", "code_.sign(-1, True)", "code_.sign(0)"]
    parts = [measure(tmp_path, f"run{number}", call) for number, call in enumerate(calls)]

    merged = add_coverage(parts)

    coverage = [sys.executable, "-m", "coverage"]
    whole = f"--data-file={tmp_path}/.coverage"
    for argv in (["combine", "--keep", whole, "-q"], ["xml", whole, "-q", "-o", "whole.xml"]):
        subprocess.run([*coverage, *argv], cwd=tmp_path, check=True, capture_output=True)
    expected = parse_coverage((tmp_path / "whole.xml").read_bytes())
    assert merged.files == expected.files
    assert parts[0].branch_rate is not None
    assert (merged.branch_rate or 0) > parts[0].branch_rate


def test_branches_that_no_report_names_are_never_guessed_upwards() -> None:
    """Two reports that each took one of two branches may have taken the same one."""
    half = Line(hits=1, branches=2, covered=1)

    merged = add_coverage([Coverage(files={"a.js": {1: half}}), Coverage(files={"a.js": {1: half}})])

    assert merged.files == {"a.js": {1: half}}


def test_what_is_written_is_read_again() -> None:
    branching = Line(hits=2, branches=3, covered=1, missing=frozenset({"7", "exit"}))
    coverage = Coverage(
        files={"a/<b>.py": {1: HIT, 4: branching}, "é.py": {2: MISSED}}, sources=("/src", "/a&b")
    )

    data = write_coverage(coverage)

    assert parse_coverage(data) == coverage
    assert b'line-rate="0.6667"' in data
    assert write_coverage(parse_coverage(data)) == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"", "no element found", id="empty"),
        pytest.param(b"\x00\xff garbage", "not well-formed", id="garbage"),
        pytest.param(b"<coverage/>", "it is no Cobertura XML", id="empty root"),
        pytest.param(b"<testsuites/>", "it is no Cobertura XML", id="another kind"),
        pytest.param(b'<!DOCTYPE x [<!ENTITY e "b">]><coverage>&e;</coverage>', "entities", id="entities"),
        pytest.param(
            b'<coverage><packages><class filename="a"><lines><line number="x" hits="1"/></lines></class>'
            b"</packages></coverage>",
            "a class or a line is damaged",
            id="damaged line",
        ),
    ],
)
def test_what_is_no_coverage_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(CoverageUnreadable, match=said):
        parse_coverage(data)


def test_files_are_named_from_the_project_whatever_the_report_starts_from() -> None:
    """Sources below the project, absolute names, and what lies elsewhere, which is left out."""
    coverage = Coverage(
        files={"a.py": {1: HIT}, "/src/src/b.py": {1: HIT}, "c.py": {1: MISSED}, "/opt/x.py": {1: HIT}},
        sources=("/src/src", "/src/lib"),
    )

    found = located(coverage, "/src", {"src/a.py", "src/b.py", "lib/c.py"}.__contains__)

    assert found == Coverage(
        files={"src/a.py": {1: HIT}, "src/b.py": {1: HIT}, "lib/c.py": {1: MISSED}}, sources=("/src",)
    )


def test_changed_lines_are_those_that_are_executable_and_changed() -> None:
    """A changed file of a measured kind that no report knows is named; a text is not."""
    coverage = Coverage(files={"a.py": {1: HIT, 2: MISSED, 3: MISSED, 9: MISSED}})
    lines = frozenset({1, 2, 3, 4})

    found = changed_coverage(coverage, {"a.py": lines, "new.py": lines, "README.md": lines})

    assert found == ChangedLines(lines=3, covered=1, missing={"a.py": (2, 3)}, unmeasured=("new.py",))
    assert coverage_table(coverage, found)["changed"] == {
        "lines": 3,
        "covered": 1,
        "missing": {"a.py": "2-3"},
        "unmeasured": ["new.py"],
    }


def test_a_share_below_a_limit_never_looks_like_the_limit() -> None:
    assert (reaches(7999, 10_000, 80), percent(7999, 10_000)) == (False, "79.9 %")
    assert (reaches(8000, 10_000, 80), percent(8000, 10_000)) == (True, "80 %")
    assert percent(0, 0) == "nothing"


def test_line_numbers_are_told_in_ranges() -> None:
    assert ranges([9, 3, 4, 5, 1]) == "1, 3-5, 9"
