"""What is found in tests counts a level less: nobody but those who test can reach it."""

from __future__ import annotations

import pytest

from pipeline.scan.finding import Level, Severity
from pipeline.scan.sast.bandit_rules import in_tests, severity_of


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("critical", "high"),
        ("high", "medium"),
        ("medium", "low"),
        ("low", "info"),
        ("info", "info"),
        ("unknown", "unknown"),
    ],
)
def test_a_level_is_lowered_once_and_says_why(level: Level, expected: Level) -> None:
    found = in_tests(Severity(level=level, basis="semgrep ERROR"), "tests/test_app.py")

    assert (found.level, found.basis) == (
        expected,
        "semgrep ERROR" + (" in tests" if expected != level else ""),
    )


@pytest.mark.parametrize("path", ["src/app.py", "src/contest/app.py", "testament.py"])
def test_other_code_keeps_its_level(path: str) -> None:
    severity = Severity(level="high", basis="semgrep ERROR")

    assert in_tests(severity, path) is severity


def test_bandits_words_are_lowered_alike() -> None:
    assert severity_of("HIGH", "HIGH", "tests/test_app.py") == Severity(
        level="medium", basis="bandit HIGH/HIGH in tests"
    )
