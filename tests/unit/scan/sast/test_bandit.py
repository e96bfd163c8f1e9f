"""What bandit says, and when it did not do what the project thinks it does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.scan.sast.bandit import Bandit, exclusions
from pipeline.scan.sast.ruff import CANARY
from pipeline.scan.scanner import Missed, Ran, Scan, Target

FILES = {"app.py": b"", "tests/test_app.py": b""}


def row(path: str, test: str = "B307", text: str = "Use of eval", **more: Any) -> dict[str, Any]:
    """A result as bandit writes it."""
    given = {
        "filename": path,
        "test_id": test,
        "test_name": "blacklist",
        "issue_severity": "MEDIUM",
        "issue_confidence": "HIGH",
        "issue_cwe": {"id": 78, "link": "https://cwe.example/78"},
        "issue_text": text,
        "line_number": 3,
        "line_range": [3, 4],
        "col_offset": 4,
        "more_info": "https://docs.example/B307",
    }
    return given | more


def read(
    *rows: dict[str, Any],
    files: dict[str, bytes] | None = None,
    seen: tuple[str, ...] = tuple(FILES),
    errors: tuple[dict[str, str], ...] = (),
) -> Scan:
    """The answer to a report with the canary in it."""
    metrics: dict[str, Any] = {f"/src/{path}": {} for path in seen} | {"_totals": {}}
    report = {"results": [row(CANARY), *rows], "errors": list(errors), "metrics": metrics}
    target = Target(root="/src", files={**FILES, **(files or {})}, version="1.9.4")
    return Bandit().read(target, [Ran(exit_code=0, stdout=json.dumps(report).encode())])


def test_a_result_becomes_a_finding_under_ruffs_name_of_the_rule() -> None:
    """So that both tools name one problem; the witness keeps bandit's own."""
    scan = read(row("/src/app.py"))

    [one] = scan.findings
    assert scan.state == "complete"
    assert (one.rule.id, one.witnesses[0].rule, one.cwe) == ("S307", "B307", (78,))
    assert (one.where, one.severity.level, one.severity.basis) == ("app.py:3", "medium", "bandit MEDIUM/HIGH")


def test_a_password_it_quotes_is_left_out() -> None:
    [one] = read(row("/src/app.py", "B105", "Possible hardcoded password: 'hunter2's'")).findings

    assert one.message == "Possible hardcoded password: '…'"


def test_files_it_skipped_or_did_not_count_are_missed() -> None:
    skipped = read(errors=({"filename": "/src/app.py", "reason": "syntax error while parsing AST"},))
    unseen = read(seen=("app.py",))

    assert skipped.state == unseen.state == "incomplete"
    assert skipped.coverage.missed == (Missed(what="app.py", why="syntax error while parsing AST"),)
    assert unseen.coverage.missed == (Missed(what="tests/test_app.py", why="bandit did not look at it"),)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param(b"exclude_dirs:\n  - tests\n", "`.bandit` is not INI", id="yaml"),
        pytest.param(b"\xff\xfe", "`.bandit` is not INI", id="binary"),
        pytest.param(b"[other]\nexclude = tests\n", "`.bandit` has no section `[bandit]`", id="no-section"),
    ],
)
def test_settings_that_bandit_would_drop_are_an_error(settings: bytes, reason: str) -> None:
    """Bandit warns on standard error and scans what its developers think is left out."""
    scan = read(files={".bandit": settings})

    assert scan.state == "error"
    assert scan.reason == f"{reason}: bandit would drop all of it" + (" and say nothing")
    assert scan.hint == "write `.bandit` as INI: a section `[bandit]` with `exclude = ...`"


def test_what_the_settings_leave_out_is_not_missed() -> None:
    ini = read(files={".bandit": b"[bandit]\nexclude = ./tests,docs\n"}, seen=("app.py",))
    toml = read(files={"pyproject.toml": b"[tool.bandit]\nexclude_dirs = ['tests']\n"}, seen=("app.py",))

    assert ini.state == toml.state == "complete"
    assert ini.coverage.expected == toml.coverage.expected == 1


def test_its_settings_are_named_to_it() -> None:
    """So that it never looks for some by itself."""
    bare = Target(root="/src", files=FILES)
    ini = Target(root="/src", files={**FILES, ".bandit": b"[bandit]\n"})
    toml = Target(root="/src", files={**FILES, "pyproject.toml": b"[tool.bandit]\nskips = ['B101']\n"})

    assert "/canary/none.ini" in Bandit().commands(bare)[0].argv
    assert "/src/.bandit" in Bandit().commands(ini)[0].argv
    assert Bandit().commands(toml)[0].argv[-4:] == ("-c", "/src/pyproject.toml", "/src", CANARY)
    assert exclusions(bare) == ()


@pytest.mark.parametrize(
    ("stdout", "reason"),
    [
        pytest.param(b"", "bandit gave no report: exit code 2, no output", id="nothing"),
        pytest.param(b"{}", "bandit gave no report", id="no-report"),
        pytest.param(
            b'{"results": [], "errors": [], "metrics": {}}', "bandit did not report the canary", id="silence"
        ),
    ],
)
def test_anything_but_a_report_with_the_canary_is_an_error(stdout: bytes, reason: str) -> None:
    scan = Bandit().read(Target(root="/src", files=FILES), [Ran(exit_code=2, stdout=stdout)])

    assert scan.state == "error"
    assert reason in scan.reason
