"""What semgrep says, and what it does not say."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from pipeline.scan.sast.semgrep import CANARY, Semgrep, severity_of
from pipeline.scan.scanner import Missed, Ran, Scan, Target

FILES = {"app.py": b"query(x)\n", "page.html": b"<p>"}


def row(path: str, rule: str = "rules.web.sql-injection", **more: Any) -> dict[str, Any]:
    """A result as semgrep writes it."""
    extra = {
        "message": "SQL is built from\n  a request. Pass parameters.",
        "severity": "ERROR",
        "fingerprint": "requires login",
        "metadata": {
            "category": "security",
            "cwe": ["CWE-89: Improper Neutralization"],
            "confidence": "HIGH",
        },
    }
    start, end = {"line": 1, "col": 1}, {"line": 2, "col": 3}
    return {"check_id": rule, "path": path, "start": start, "end": end, "extra": extra | more}


def read(
    *rows: dict[str, Any],
    files: dict[str, bytes] | None = None,
    unparsed: dict[str, str] | None = None,
    **more: Any,
) -> Scan:
    """The answer to a report with the canary in it, all files scanned."""
    known = files or FILES
    report = {
        "results": [row(CANARY, "rules.pipeline-canary"), *rows],
        "errors": [],
        "paths": {"scanned": [f"/src/{path}" for path in known]},
    }
    target = Target(root="/src", files=known, version="1.185.0")
    told = [report | more, unparsed or {}]
    return Semgrep().read(target, [Ran(exit_code=0, stdout=json.dumps(one).encode()) for one in told])


def test_a_result_becomes_a_finding() -> None:
    """The rule loses the path of its file; a fingerprint that wants a login is not used."""
    scan = read(row("/src/app.py"))

    [one] = scan.findings
    assert (scan.state, one.rule.id, one.cwe, one.severity.level) == (
        "complete",
        "sql-injection",
        (89,),
        "high",
    )
    assert (one.title, one.id, one.where) == ("SQL is built from a request", "", "app.py:1")


def test_what_is_no_matter_of_security_is_quality() -> None:
    [one] = read(row("/src/app.py", metadata={"category": "best-practice"})).findings

    assert one.kind == "quality"


@pytest.mark.parametrize(
    ("word", "meta", "level"),
    [
        ("ERROR", {"impact": "HIGH", "likelihood": "HIGH", "confidence": "HIGH"}, "critical"),
        ("ERROR", {"impact": "HIGH", "likelihood": "LOW", "confidence": "HIGH"}, "high"),
        ("WARNING", {}, "medium"),
        ("INFO", {}, "low"),
        ("EXPERIMENT", {}, "medium"),
    ],
)
def test_the_severity_follows_the_table(word: str, meta: dict[str, str], level: str) -> None:
    assert severity_of(word, meta).level == level


def test_a_file_that_does_not_parse_is_missed_though_it_says_it_was_scanned() -> None:
    why = "it does not parse: invalid syntax"
    scan = read(files={"app.py": b"def broken(:\n", "b.py": b"x = 1\n"}, unparsed={"/src/app.py": why})

    assert scan.state == "incomplete"
    assert scan.coverage.missed == (Missed(what="app.py", why=why),)


def test_a_file_it_did_not_scan_is_missed() -> None:
    scan = read(paths={"scanned": ["/src/app.py"]})

    assert scan.coverage.missed == (Missed(what="page.html", why="semgrep did not look at it"),)


def test_a_rule_that_cannot_be_used_makes_the_scan_incomplete() -> None:
    scan = read(errors=[{"level": "error", "message": "invalid pattern\nin rule x"}, {"level": "warn"}])

    assert (scan.state, scan.reason) == ("incomplete", "1 errors, such as: invalid pattern")


@pytest.mark.parametrize("stdout", [b"", b"[]", b'{"results": []}'])
def test_anything_but_a_report_is_an_error(stdout: bytes) -> None:
    """As when it cannot resolve a name: a traceback, and no report."""
    ran = Ran(exit_code=2, stdout=stdout, stderr=b"Traceback\nrequests.ConnectionError: name")
    scan = Semgrep().read(Target(root="/src", files=FILES), [ran])

    assert scan.reason == "semgrep gave no report: exit code 2, requests.ConnectionError: name"


def test_silence_about_the_canary_is_an_error() -> None:
    scan = read(results=[])

    assert (scan.state, scan.reason.partition(":")[0]) == ("error", "semgrep did not report the canary")


def test_it_never_asks_for_rules_versions_or_an_account() -> None:
    """The project's own rules are used where there are any."""
    command, _ = Semgrep().commands(Target(root="/src", files={**FILES, ".semgrep/own.yml": b""}))

    assert command.argv[4:6] == ("--metrics", "off")
    assert "--disable-version-check" in command.argv
    configs = [after for word, after in pairwise(command.argv) if word == "--config"]
    assert configs == ["/rules/pipeline.json", "/src/.semgrep/"]
    assert command.env["SEMGREP_ENABLE_VERSION_CHECK"] == "0"
