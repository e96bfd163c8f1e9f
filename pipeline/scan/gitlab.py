"""Findings as GitLab reads them: its security reports, one for each type, and its code quality report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, InPackage, InRequest
from pipeline.scan.jsons import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA: Final = "15.2.1"
TYPES: Final[Mapping[str, tuple[str, ...]]] = {  # report type to the kinds of findings in it
    "sast": ("sast", "misconfiguration"),
    "secret_detection": ("secret",),
    "dependency_scanning": ("vulnerability", "end-of-life", "licence"),
    "dast": ("dast",),
}
SEVERITIES: Final[Mapping[str, str]] = {
    "critical": "Critical",
    "high": "High",
    "medium": "Medium",
    "low": "Low",
    "info": "Info",
    "unknown": "Unknown",
}
QUALITY: Final[Mapping[str, str]] = {
    "critical": "blocker",
    "high": "critical",
    "medium": "major",
    "low": "minor",
    "info": "info",
    "unknown": "minor",
}


def security_report(kind: str, findings: Sequence[Finding], *, version: str, at: str) -> str:
    """One security report.

    Args:
        kind: A key of `TYPES`.
        at: When the run began, `2026-01-31T10:00:00`, in UTC.
    """
    tool = {"id": "pipeline", "name": "pipeline", "version": version, "vendor": {"name": "dagger-pipeline"}}
    report: dict[str, Any] = {
        "version": SCHEMA,
        "scan": {
            "analyzer": tool,
            "scanner": tool,
            "type": kind,
            "start_time": at,
            "end_time": at,
            "status": "success",
        },
        "vulnerabilities": [_vulnerability(one) for one in findings if one.kind in TYPES[kind]],
    }
    return json_text(report)


def _vulnerability(one: Finding) -> dict[str, Any]:
    names = [one.rule.id, *(alias for alias in one.aliases if alias != one.rule.id)]
    identifiers = [{"type": _type(name), "name": name, "value": name} for name in names]
    if one.rule.url:
        identifiers[0]["url"] = one.rule.url
    identifiers += [{"type": "cwe", "name": f"CWE-{cwe}", "value": str(cwe)} for cwe in one.cwe]
    row = {
        "id": one.id,
        "name": one.title[:255],
        "description": one.message,
        "severity": SEVERITIES[one.severity.level],
        "identifiers": identifiers,
        "location": _location(one),
    }
    return {**row, "solution": one.fix} if one.fix else row


def _type(name: str) -> str:
    family = name.partition("-")[0].lower()
    return family if family in ("cve", "ghsa", "osvdb", "usn", "rhsa") else "pipeline"


def _location(one: Finding) -> dict[str, Any]:
    place = one.place
    if isinstance(place, InFile):
        line = max(place.line, 1)
        where: dict[str, Any] = {
            "file": place.path,
            "start_line": line,
            "end_line": max(place.end_line, line),
        }
        if one.kind == "secret":
            where["commit"] = {"sha": "0000000"}
        return where
    if isinstance(place, InPackage):
        dependency = {"package": {"name": place.name}, "version": place.version}
        return {"file": place.path, "dependency": dependency}
    return _request(place)


def _request(place: InRequest) -> dict[str, Any]:
    scheme, _, rest = place.url.partition("://")
    host, _, path = rest.partition("/")
    where = {"hostname": f"{scheme}://{host}", "method": place.method, "path": f"/{path}"}
    return {**where, "param": place.parameter} if place.parameter else where


def quality_report(findings: Sequence[Finding]) -> str:
    """The code quality report: findings in files of the project."""
    rows = [
        {
            "description": one.title,
            "check_name": one.rule.id,
            "fingerprint": one.id,
            "severity": QUALITY[one.severity.level],
            "location": {"path": one.place.path, "lines": {"begin": max(one.place.line, 1)}},
        }
        for one in findings
        if isinstance(one.place, InFile) and not one.place.layer
    ]
    return json_text(rows)
