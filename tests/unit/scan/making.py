"""Findings and scans for tests, with what a test does not care about filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.scan.finding import Finding, InFile, InPackage, Rule, Severity, Witness
from pipeline.scan.scanner import Scan, counted

if TYPE_CHECKING:
    from pipeline.scan.finding import Level, Place


def finding(
    *,
    rule: str = "S1",
    level: Level = "high",
    place: Place | None = None,
    tool: str = "ruff",
    **more: Any,
) -> Finding:
    """A finding of a tool, in `app.py:1` unless told."""
    given: dict[str, Any] = {"id": "0" * 32, "kind": "sast", "title": "a problem", "message": "a problem"}
    return Finding(
        rule=Rule(id=rule),
        severity=Severity(level=level, basis="the test"),
        place=place or InFile(path="app.py", line=1),
        witnesses=(Witness(tool=tool, version="1", rule=rule),),
        **(given | more),
    )


def package(name: str = "jinja2", version: str = "2.10", **more: Any) -> InPackage:
    """A package of PyPI in a lock file."""
    given: dict[str, Any] = {"ecosystem": "PyPI", "path": "requirements.txt"}
    return InPackage(purl=f"pkg:pypi/{name}@{version}", name=name, version=version, **(given | more))


def scan(*findings: Finding, scanner: str = "ruff", **more: Any) -> Scan:
    """A scan that looked at everything, unless told."""
    given: dict[str, Any] = {"state": "complete", "coverage": counted("files", ["app.py"])}
    return Scan(scanner=scanner, findings=findings, **(given | more))
