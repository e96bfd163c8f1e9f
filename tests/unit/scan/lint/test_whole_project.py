"""Linters that hold files against each other: workflows against their actions, code against other code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline.scan.lint import actionlint, duplicates
from pipeline.scan.lint.actionlint import Actionlint
from pipeline.scan.lint.duplicates import Duplicates
from pipeline.scan.scanner import Missed, Ran, Target, unchecked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import CommandScanner, Scan

WORKFLOW: Final = ".github/workflows/a.yml"


def target(files: Mapping[str, bytes]) -> Target:
    """These files, as they lie in the container."""
    return Target(root="/src", files=files, version="1.0")


def lint_row(path: str, rule: str = "undefined-property", severity: str = "error") -> dict[str, Any]:
    """One row of jactionlint 2.3.0, which tells paths relative to the working folder."""
    return {
        "message": 'property "evnt" is not defined',
        "filepath": path,
        "line": 7,
        "column": 23,
        "kind": "expression",
        "snippet": "      - run: echo ${{ github.evnt }}",
        "end_column": 33,
        "id": rule,
        "severity": severity,
        "doc_url": f"https://jactionlint.jdx.dev/rules#{rule}",
        "end_line": 7,
    }


def lint(files: Mapping[str, bytes], rows: object) -> Scan:
    """What is read of jactionlint's answer."""
    return Actionlint().read(target(files), [Ran(exit_code=1, stdout=json.dumps(rows).encode())])


def test_a_workflow_that_cannot_run_is_a_finding_and_one_that_does_not_parse_is_missed() -> None:
    """Of a file that does not parse nothing else is told."""
    files = {WORKFLOW: b"", ".github/workflows/b.yml": b""}
    rows = [
        lint_row("../canary/.github/workflows/canary.yml", "undefined-job-needs"),
        lint_row(WORKFLOW),
        lint_row(WORKFLOW, "unused-anchor", "warn"),
        lint_row(".github/workflows/b.yml", "yaml-syntax"),
        lint_row(".github/workflows/b.yml", "workflow-syntax"),
    ]

    scan = lint(files, rows)

    why = 'it does not parse: property "evnt" is not defined'
    assert scan.coverage.missed == (Missed(what=".github/workflows/b.yml", why=why),)
    assert [(one.rule.id, one.where, one.kind, one.severity.level) for one in scan.findings] == [
        ("undefined-property", f"{WORKFLOW}:7", "misconfiguration", "medium"),
        ("unused-anchor", f"{WORKFLOW}:7", "misconfiguration", "low"),
    ]
    assert scan.findings[0].rule.url == "https://jactionlint.jdx.dev/rules#undefined-property"


def test_actions_alone_are_no_workflow() -> None:
    """A repository of an action has nothing that runs it here; zizmor looks at those."""
    assert Actionlint().wants(["action.yml", "README.md"]) == []
    assert Actionlint().wants(["action.yml", WORKFLOW, "docs/a.yml"]) == ["action.yml", WORKFLOW]


def test_a_workflow_is_looked_at_again_when_an_action_of_the_project_changed() -> None:
    """The programs in its folder too; an action at the root may start anything."""
    paths = [WORKFLOW, ".github/actionlint.yaml", "act/action.yml", "act/dist/index.js", "src/a.py"]

    assert Actionlint().settings(paths) == paths[:-1]
    assert Actionlint().settings([*paths, "action.yaml"]) == [*paths, "action.yaml"]


def duplicate(first: str, second: str, lines: int) -> dict[str, Any]:
    """One row of jscpd 5.4.2."""

    def side(name: str, start: int) -> dict[str, Any]:
        return {"name": name, "start": start, "end": start + lines - 1}

    return {"lines": lines, "tokens": 300, "firstFile": side(first, 11), "secondFile": side(second, 1)}


CANARY: Final = duplicate(*duplicates.CANARIES, 52)


def compare(files: Mapping[str, bytes], rows: Sequence[object]) -> Scan:
    """What is read of jscpd's report."""
    report = json.dumps({"duplicates": rows, "statistics": {}}).encode()
    return Duplicates().read(target(files), [Ran(exit_code=0, stdout=b"", files={duplicates.REPORT: report})])


def test_code_in_two_places_is_told_with_both_and_much_of_it_warns() -> None:
    """In tests a level less; files that were not to be looked at are left out."""
    files = {"a.py": b"", "web/b.py": b"", "tests/test_a.py": b"", "tests/test_b.py": b""}
    rows = [
        duplicate("/src/a.py", "/src/web/b.py", 30),
        duplicate("/src/a.py", "/src/web/b.py", 100),
        duplicate("/src/tests/test_a.py", "/src/tests/test_b.py", 100),
        duplicate("/src/a.py", "/src/bundle.min.js", 100),
        CANARY,
    ]

    scan = compare(files, rows)

    assert (scan.scanner, scan.state, scan.coverage.seen) == ("duplicates", "complete", 4)
    assert [(one.where, one.severity.level, one.message) for one in scan.findings] == [
        ("a.py:11", "info", "lines 11-40 are the same as web/b.py:1-30"),
        ("a.py:11", "medium", "lines 11-110 are the same as web/b.py:1-100"),
        ("tests/test_a.py:11", "low", "lines 11-110 are the same as tests/test_b.py:1-100"),
    ]


def test_code_that_is_no_utf8_is_missed() -> None:
    """The tool passes over it without a word."""
    scan = compare({"a.py": b"", "old.py": b"# caf\xe9\n"}, [CANARY])

    assert scan.coverage.missed == (Missed(what="old.py", why="it is no UTF-8"),)
    assert (scan.state, scan.reason) == ("incomplete", unchecked(scan.coverage.missed))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("a.py", True), ("web/a.tsx", True), ("a.min.js", False), ("a.json", False), ("Makefile", False)],
)
def test_code_is_known_by_its_ending(path: str, wanted: bool) -> None:
    assert bool(Duplicates().wants([path])) is wanted


def garbage() -> list[Ran]:
    """Answers that no tool should give, and one of a tool that found nothing, not even its canary."""
    answers = [b"", b"[]", b"{}", b"\x00{", b'{"duplicates": []}', b'{"duplicates": [{"lines": 3}]}', b"[1]"]
    return [Ran(exit_code=0, stdout=one, stderr=b"boom", files={duplicates.REPORT: one}) for one in answers]


@pytest.mark.parametrize("scanner", [Actionlint(), Duplicates()], ids=lambda one: one.name)
@pytest.mark.parametrize("answer", garbage(), ids=lambda one: one.stdout.decode("latin-1"))
def test_silence_and_garbage_are_errors(scanner: CommandScanner, answer: Ran) -> None:
    files = {WORKFLOW: b"", "a.py": b""}

    scan = scanner.read(target(files), [answer])

    assert (scan.state, scan.findings, scan.coverage.seen) == ("error", (), 0)
    assert "exit code 0, boom" in scan.reason


def test_neither_takes_settings_that_would_make_it_blind() -> None:
    """The project's own lists of what is accepted are those of this program."""
    [lint_command] = Actionlint().commands(target({WORKFLOW: b""}))
    [compare_command] = Duplicates(lines=80).commands(target({"a.py": b""}))

    assert {"--no-baseline", "--no-online"} <= set(lint_command.argv)
    assert lint_command.argv[-2:] == (f"/src/{WORKFLOW}", actionlint.CANARY)
    assert compare_command.files[duplicates.SETTINGS] == "{}\n"
    assert len(compare_command.files[duplicates.CANARIES[0]].splitlines()) > 80
