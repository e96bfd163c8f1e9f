"""What ruff says, and what counts as checked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.sast.ruff import CANARY, Ruff
from pipeline.scan.scanner import Missed, Ran, Scan, Target, counted

FILES = {"app.py": b"eval(x)\n", "tests/test_app.py": b"assert x\n"}
TARGET = Target(root="/src", files=FILES, version="0.17.5")


def row(path: str, code: str | None = "S307", message: str = "Use of `eval`", **more: Any) -> dict[str, Any]:
    """A row as ruff writes it."""
    given = {
        "code": code,
        "filename": path,
        "message": message,
        "name": "suspicious-eval-usage",
        "url": "https://docs.example/S307",
        "location": {"row": 1, "column": 1},
        "end_location": {"row": 1, "column": 8},
    }
    return given | more


def read(*rows: dict[str, Any], listed: tuple[str, ...] = tuple(FILES)) -> Scan:
    """The answer to these rows and this list of files, the canary found."""
    shown = "".join(f"{path}\n" for path in (*(f"/src/{path}" for path in listed), CANARY))
    out = json.dumps([row(CANARY), *rows]).encode()
    return Ruff().read(TARGET, [Ran(exit_code=0, stdout=out), Ran(exit_code=0, stdout=shown.encode())])


def test_a_row_becomes_a_finding_with_bandits_severity() -> None:
    scan = read(row("/src/app.py"))

    assert scan == Scan(
        scanner="ruff",
        state="complete",
        coverage=counted("files", list(FILES)),
        version="0.17.5",
        findings=(
            Finding(
                id="",
                kind="sast",
                rule=Rule(id="S307", name="suspicious-eval-usage", url="https://docs.example/S307"),
                title="Use of `eval`",
                message="Use of `eval`",
                severity=Severity(level="medium", basis="bandit MEDIUM/HIGH"),
                confidence="high",
                cwe=(78,),
                place=InFile(path="app.py", line=1, column=1, end_line=1, end_column=8),
                fix="use `ast.literal_eval()` or a parser",
                witnesses=(Witness(tool="ruff", version="0.17.5", rule="S307"),),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("code", "path", "message", "level"),
    [
        ("S602", "/src/app.py", "`subprocess` call with `shell=True` identified", "high"),
        ("S602", "/src/app.py", "`subprocess` call with `shell=True` seems safe, but may be changed", "low"),
        ("S101", "/src/app.py", "Use of `assert` detected", "low"),
        ("S101", "/src/tests/test_app.py", "Use of `assert` detected", "info"),
        ("S999", "/src/app.py", "a rule of tomorrow", "low"),
    ],
)
def test_the_severity_is_that_of_bandits_twin(code: str, path: str, message: str, level: str) -> None:
    [one] = read(row(path, code, message)).findings

    assert one.severity.level == level


def test_a_file_that_does_not_parse_or_was_not_listed_is_missed() -> None:
    """Ruff ends well in both cases."""
    broken = read(row("/src/app.py", "invalid-syntax", "Expected an expression\n  | the line"))
    unlisted = read(listed=("app.py",))

    assert (broken.state, broken.reason, broken.findings) == ("incomplete", "1 file was not checked", ())
    missed = Missed(what="app.py", why="it does not parse: Expected an expression")
    assert broken.coverage == counted("files", list(FILES), [missed])
    assert unlisted.coverage.missed == (Missed(what="tests/test_app.py", why="ruff did not look at it"),)


@pytest.mark.parametrize(
    ("stdout", "stderr", "reason"),
    [
        pytest.param(b"", b"error: bad option\n", "exit code 2, error: bad option", id="usage"),
        pytest.param(b"\x00\xff", b"", "exit code 2, ", id="garbage"),
        pytest.param(b'{"a": 1}', b"", "ruff gave no list of findings", id="no-list"),
        pytest.param(b'[{"a": 1}]', b"", "ruff gave no list of findings", id="other-rows"),
        pytest.param(b"[]", b"", "ruff did not report the canary: its silence means nothing", id="silence"),
    ],
)
def test_anything_but_a_list_with_the_canary_is_an_error(stdout: bytes, stderr: bytes, reason: str) -> None:
    """Whatever the exit code."""
    scan = Ruff().read(TARGET, [Ran(exit_code=2, stdout=stdout, stderr=stderr), Ran(exit_code=0, stdout=b"")])

    assert (scan.state, scan.findings, scan.coverage.seen) == ("error", (), 0)
    assert reason in scan.reason


def test_it_wants_python_files_only() -> None:
    assert Ruff().wants(["a.py", "b.pyi", "c.txt", "py"]) == ["a.py", "b.pyi"]
