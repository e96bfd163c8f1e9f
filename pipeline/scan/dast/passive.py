"""Our own checks: what is asked, and what the program's report means."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import pipeline
from pipeline.scan.dast.aim import aim_of
from pipeline.scan.dast.operations import requests_of
from pipeline.scan.dast.programs import FOLDER, PACKAGE, program_files
from pipeline.scan.dast.rules import RULES
from pipeline.scan.finding import Finding, InRequest, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, Scan, broken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.dast.aim import Aim
    from pipeline.scan.scanner import Target

PLAN: Final = f"{FOLDER}/plan.json"
REPORT: Final = "/scan-out/passive.json"
GRACE_S: Final = 30.0  # the program ends by itself before it is stopped
OFTEN_COMMON: Final = ("cors-reflected", "cors-null", "cors-wildcard", "cors-any")
FEW: Final = 3  # routes that share a problem by chance
MOST_TOLD: Final = 50  # routes of one problem of the whole service


class Passive:
    """Headers, cookies, other origins, exposed files, what errors tell, and inputs that disturb."""

    name: Final = "passive"

    def commands(self, target: Target) -> list[Command]:
        """One run over everything."""
        aim = aim_of(target)
        argv = ("python3", "-m", f"{PACKAGE}.main", "scan", PLAN, REPORT)
        return [
            Command(
                argv=argv,
                env={"PYTHONPATH": FOLDER},
                files={**program_files(), PLAN: json.dumps(plan_of(aim))},
                outputs=(REPORT,),
                timeout_s=aim.limit_s + GRACE_S,
            )
        ]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings, and whether there was anything to look at."""
        aim = aim_of(target)
        report = _report(ran[0].files.get(REPORT, b""))
        if report is None:
            nothing = Coverage(unit="requests", expected=0, seen=0)
            return broken(self.name, nothing, f"our program gave no report: {ran[0].last_words}")
        missed = [Missed(what=one, why="no answer in time") for one in report["missed"]]
        if report["left"]:
            missed.append(Missed(what=f"{report['left']} more pages", why=f"only {aim.pages} are looked at"))
        expected = len(report["asked"]) + report["left"]
        coverage = Coverage(
            unit="requests",
            expected=expected,
            seen=len(report["asked"]) - len(report["missed"]),
            missed=tuple(missed),
        )
        state, reason = _state(report, aim, missed)
        return Scan(
            scanner=self.name,
            state=state,
            reason=reason,
            coverage=coverage,
            findings=tuple(findings_of(report["issues"], aim, routes=len(set(report["asked"])))),
            version=pipeline.__version__,
        )


def plan_of(aim: Aim) -> dict[str, Any]:
    """What the program is told."""
    described = requests_of(aim.description, writes=aim.writes) if aim.description is not None else []
    return {
        "base": aim.base,
        "start": aim.start,
        "rate": aim.rate,
        "limit_s": aim.limit_s,
        "request_timeout_s": aim.request_timeout_s,
        "requests": [asdict(one) for one in described],
        "description": aim.description or {},
        "writes": aim.writes,
        "active": aim.active,
        "pages": aim.pages,
        "exclude": list(aim.exclude),
    }


def _report(data: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(data)
    except ValueError:
        return None
    keys = {"issues", "asked", "missed", "left", "own", "statuses", "stray", "stray_place", "stopped"}
    if not isinstance(report, dict) or report.get("version") != 1 or not keys <= report.keys():
        return None
    return report


def _state(report: dict[str, Any], aim: Aim, missed: Sequence[Missed]) -> tuple[Any, str]:
    """Whether everything was looked at; a service that says nothing was not."""
    statuses = report["statuses"]
    if not statuses:
        return "error", f"nothing answers at {aim.base}"
    if report["stopped"] == "gone":
        return "error", f"the service stopped answering after {report['requests']} requests"
    if all(status >= 500 for status in statuses):
        return "error", f"every request is answered with an error such as {statuses[0]}"
    if not report["own"]:
        return "incomplete", _wall(report)
    if report["stopped"] == "time":
        return "incomplete", f"the time was over after {report['requests']} requests"
    if missed:
        return "incomplete", f"not looked at: {missed[0].what} ({missed[0].why})"
    return "complete", ""


def _wall(report: dict[str, Any]) -> str:
    if 300 <= report["stray"] < 400:
        return f"every address leads to `{report['stray_place']}`: nothing behind it was looked at"
    if report["stray"] and report["stray"] < 300:
        return "every address is answered with the same page"
    if any(status in (401, 403) for status in report["statuses"]):
        return "every request is refused: nothing behind the login was looked at"
    return "no page was found, and there is no OpenAPI description that names any"


def findings_of(issues: Sequence[dict[str, Any]], aim: Aim, *, routes: int) -> list[Finding]:
    """One finding for each problem; those of the whole service once.

    Args:
        routes: How many were asked: what most of them share is the service's.
    """
    common = {rule for rule, check in RULES.items() if check.is_common}
    for rule in OFTEN_COMMON:
        having = {(one["method"], one["route"]) for one in issues if one["rule"] == rule}
        if len(having) > FEW and len(having) * 2 > routes:
            common.add(rule)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in issues:
        spot = ("", "") if one["rule"] in common else (one["method"], one["route"])
        groups.setdefault((one["rule"], *spot, one["parameter"]), []).append(one)
    # A failure of which the value is known says more than that of the plain request.
    named = {key[:3] for key in groups if key[3]}
    kept = [same for key, same in groups.items() if key[3] or key[:3] not in named]
    return [_finding(same, aim, is_common=same[0]["rule"] in common) for same in kept]


def _finding(same: Sequence[dict[str, Any]], aim: Aim, *, is_common: bool) -> Finding:
    first = min(same, key=lambda one: (one["route"], one["method"])) if is_common else same[0]
    check = RULES[first["rule"]]
    routes = sorted({f"{one['method']} {one['route']}" for one in same})
    said = next((one["said"] for one in same if one["said"]), "")
    of_parameter = f" (`{first['parameter']}`)" if first["parameter"] else ""
    message = f"{check.title}{of_parameter}" + (f": {said}" if said else "")
    if is_common:
        message = f"{message}, at {len(routes)} route{'s' if len(routes) > 1 else ''}"
    url = f"{aim.base}{first['target']}"
    return Finding(
        id="",
        kind="dast",
        rule=Rule(id=first["rule"], name=check.title),
        title=check.title,
        message=message,
        severity=Severity(level=check.level, basis=f"our check {first['rule']}"),
        place=InRequest(method=first["method"], url=url, route=first["route"], parameter=first["parameter"]),
        confidence=first["confidence"],
        cwe=(check.cwe,) if check.cwe else (),
        fix=check.fix,
        evidence=tuple(routes[:MOST_TOLD]) if is_common else (f"{first['method']} {url[:500]}",),
        witnesses=(Witness(tool="passive", version=pipeline.__version__, rule=first["rule"]),),
    )
