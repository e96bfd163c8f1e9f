"""SARIF 2.1.0 as GitHub takes it: one run a tool, within its limits, waived findings marked, not left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, InPackage, InRequest
from pipeline.scan.fingerprint import VERSION
from pipeline.scan.jsons import json_text, uri_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.policy import Judged, Verdict
    from pipeline.scan.scanner import Scan

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
MOST_RUNS: Final = 20
MOST_RESULTS: Final = 5000  # of a run: what is more is not shown; the worst are kept
LEVELS: Final[Mapping[str, str]] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
    "unknown": "warning",
}
SCORES: Final[Mapping[str, float]] = {  # what GitHub sorts security findings by
    "critical": 9.5,
    "high": 8.0,
    "medium": 5.5,
    "low": 2.0,
    "info": 0.0,
    "unknown": 5.5,
}
NO_FILE: Final = "pyproject.toml"  # where GitHub shows what stands in no file of the project


def sarif(verdict: Verdict, scans: Sequence[Scan], *, stage: str, version: str) -> str:
    """The findings of a stage as a SARIF log.

    A finding several tools saw is told once, by the first of them. Waived and known findings carry a
    suppression or a baseline state, so that alerts stay closed instead of coming back.
    """
    by_tool: dict[str, list[Judged]] = {scan.scanner: [] for scan in scans}
    for one in verdict.judged:
        witnesses = one.finding.witnesses
        by_tool.setdefault(witnesses[0].tool if witnesses else "pipeline", []).append(one)
    known = {scan.scanner: scan for scan in scans}
    runs = [
        _run(f"pipeline/{stage}/{tool}/", tool, judged, known.get(tool), version)
        for tool, judged in by_tool.items()
    ]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": runs[:MOST_RUNS]}
    return json_text(log)


def _run(
    category: str, tool: str, judged: Sequence[Judged], scan: Scan | None, version: str
) -> dict[str, Any]:
    shown = judged[:MOST_RESULTS]
    rules = {one.finding.rule.id: one.finding for one in shown}
    index = {rule: number for number, rule in enumerate(rules)}
    driver: dict[str, Any] = {"name": tool, "rules": [_rule(rule, one) for rule, one in rules.items()]}
    if scan is not None and scan.version:
        driver["semanticVersion"] = scan.version
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "automationDetails": {"id": category},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "the project"}}},
        "invocations": [_invocation(scan)],
        "results": [_result(one, index[one.finding.rule.id]) for one in shown],
        "properties": {"pipelineVersion": version},
    }
    if len(judged) > MOST_RESULTS:
        run["properties"]["cut"] = f"{len(judged) - MOST_RESULTS} less severe findings are in findings.json"
    return run


def _rule(rule: str, one: Finding) -> dict[str, Any]:
    tags = sorted({one.kind, *(f"external/cwe/cwe-{number:03d}" for number in one.cwe)})
    if one.kind != "quality":
        tags = ["security", *tags]
    row: dict[str, Any] = {
        "id": rule,
        "shortDescription": {"text": _cut(one.rule.name or one.title, 1024)},
        "properties": {"tags": tags[:10]},
    }
    if one.rule.url:
        row["helpUri"] = one.rule.url
    if one.fix:
        row["help"] = {"text": _cut(one.fix, 1024)}
    if one.kind != "quality":
        # A whole table of rules has one score for each; a result's own is in its properties.
        row["properties"]["security-severity"] = str(_score(one))
    return row


def _score(one: Finding) -> float:
    return one.severity.score if one.severity.score is not None else SCORES[one.severity.level]


def _result(judged: Judged, rule_index: int) -> dict[str, Any]:
    one = judged.finding
    row: dict[str, Any] = {
        "ruleId": one.rule.id,
        "ruleIndex": rule_index,
        "level": LEVELS[one.severity.level],
        "message": {"text": _cut(one.message or one.title, 4096)},
        "locations": [_location(one)],
        "partialFingerprints": {VERSION: one.id},
        "properties": {
            "severity": one.severity.level,
            "severityBasis": one.severity.basis,
            "confidence": one.confidence,
            "action": judged.action,
            "why": judged.why,
            "witnesses": [f"{witness.tool} {witness.rule}" for witness in one.witnesses],
        },
    }
    if judged.action == "waived":
        row["suppressions"] = [{"kind": "external", "status": "accepted", "justification": judged.why}]
    row["baselineState"] = "unchanged" if judged.action == "known" else "new"
    return row


def _location(one: Finding) -> dict[str, Any]:
    place = one.place
    if isinstance(place, InFile) and not place.layer:
        return {"physicalLocation": _physical(place)}
    logical: list[dict[str, Any]] = []
    if isinstance(place, InFile):
        logical = [_logical(place.path, "resource", f"{place.layer}/{place.path}")]
    elif isinstance(place, InPackage):
        logical = [_logical(place.name, "module", place.purl)]
    elif isinstance(place, InRequest):
        logical = [_logical(one.where, "resource", f"{place.method} {place.url}")]
    path = place.path if isinstance(place, InPackage) and place.path and not place.layer else NO_FILE
    return {"physicalLocation": _physical(InFile(path=path)), "logicalLocations": logical}


def _logical(name: str, kind: str, full: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "fullyQualifiedName": full}


def _physical(place: InFile) -> dict[str, Any]:
    region = {"startLine": max(place.line, 1)}
    if place.end_line >= place.line > 0:
        region["endLine"] = place.end_line
    if place.column:
        region["startColumn"] = place.column
    if place.end_column > place.column or place.end_line > place.line:
        region |= {"endColumn": place.end_column} if place.end_column else {}
    return {
        "artifactLocation": {"uri": uri_path(place.path), "uriBaseId": "SRCROOT"},
        "region": region,
    }


def _invocation(scan: Scan | None) -> dict[str, Any]:
    if scan is None or scan.state in ("complete", "skipped"):
        return {"executionSuccessful": True}
    texts = [scan.reason or scan.state, *(f"{one.what}: {one.why}" for one in scan.coverage.missed[:20])]
    notes = [{"level": "error", "message": {"text": _cut(text, 1024)}} for text in texts if text]
    return {"executionSuccessful": False, "toolExecutionNotifications": notes}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
