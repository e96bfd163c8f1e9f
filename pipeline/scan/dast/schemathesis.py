"""schemathesis: requests made from the OpenAPI description, and answers held against it.

Its exit code is 1 both for findings and for much that is none, so its report of events is read.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pipeline.scan.dast.aim import aim_of, redacted
from pipeline.scan.dast.operations import base_path
from pipeline.scan.finding import Finding, InRequest, Level, Rule, Severity, Witness
from pipeline.scan.merge import told_once
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, Scan, broken, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.scan.dast.aim import Aim
    from pipeline.scan.scanner import Target

SCHEMA: Final = "/scan-in/openapi.json"
REPORT: Final = "/scan-out/events.ndjson"
SEED: Final = 1
EXAMPLES: Final = 10  # of each operation, besides the limits of each parameter
GRACE_S: Final = 60.0
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# What it calls a failure: how bad it is here, and which weakness.
LEVELS: Final[Mapping[str, tuple[Level, int, str]]] = {
    "not_a_server_error": ("medium", 755, "the service fails"),
    "response_schema_conformance": ("low", 440, "the answer is not as it is declared"),
    "ignored_auth": ("high", 306, "an operation that needs a login answers without one"),
    "use_after_free": ("low", 672, "what was deleted is still there"),
    "object_level_authorization": ("high", 639, "things of one user are open to another"),
}
OTHER: Final[tuple[Level, int, str]] = ("info", 0, "the description does not say what the service does")


class Schemathesis:
    """`schemathesis run` with a fixed seed."""

    name: Final = "schemathesis"

    def commands(self, target: Target) -> list[Command]:
        """One run over all operations, or those that only read."""
        aim = aim_of(target)
        argv = [
            *("schemathesis", "run", SCHEMA, "--url", aim.base + base_path(aim.description or {})),
            *("--seed", str(SEED), "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing"),
            *("--report", "ndjson", "--report-ndjson-path", REPORT, "--output-sanitize", "true"),
            *("--generation-database", "none", "--no-shrink", "--no-color", "--tls-verify", "false"),
            *("--rate-limit", f"{aim.rate}/s", "--request-timeout", "5", "--max-redirects", "0"),
            *("--suppress-health-check", "all"),
        ]
        if not aim.writes:
            argv += ["--include-method", "GET", "--include-method", "HEAD"]
        for one in aim.exclude:
            argv += ["--exclude-path-regex", one]
        files = {SCHEMA: json.dumps(aim.description)}
        # Its own limit makes it go on until the time is over; ours only ends it.
        timeout_s = math.ceil(aim.limit_s + GRACE_S)
        return [Command(argv=tuple(argv), files=files, outputs=(REPORT,), timeout_s=timeout_s)]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Failures, one for each operation and check; missed is what it did not get to."""
        aim = aim_of(target)
        expected = operations_of(aim)
        events = _events(ran[0].files.get(REPORT, b""))
        is_whole = any("EngineFinished" in one for one in events or ())
        if events is None or not (is_whole or ran[0].exit_code is None):
            what = "gave no whole report" if events is not None else "gave no report"
            return broken(self.name, counted("operations", []), f"schemathesis {what}: {ran[0].last_words}")
        done = recorders_of(events)
        tried = {str(one.get("label")) for one in done if table(one, "interactions")}
        missed = tuple(Missed(what=one, why="it was not tried") for one in expected if one not in tried)
        coverage = Coverage(
            unit="operations", expected=len(expected), seen=len(expected) - len(missed), missed=missed
        )
        errors = _errors(events)
        if not tried:
            return broken(self.name, coverage, f"no operation was tried: {errors or ran[0].last_words}")
        reason = f"{len(missed)} operations were not tried, such as {missed[0].what}" if missed else errors
        if not is_whole:
            reason = f"schemathesis was stopped after {aim.limit_s + GRACE_S:g} s"
        return Scan(
            scanner=self.name,
            state="incomplete" if reason else "complete",
            reason=reason,
            coverage=coverage,
            findings=told_once(_findings(done, aim, target.version)),
            version=target.version,
        )


def operations_of(aim: Aim) -> list[str]:
    """The operations that are to be tried, as schemathesis names them."""
    import re

    description = aim.description or {"paths": {}}
    return [
        f"{method.upper()} {path}"
        for path, item in description["paths"].items()
        if not any(re.search(one, path) for one in aim.exclude)
        for method in METHODS
        if isinstance(item, dict) and method in item and (aim.writes or method in ("get", "head"))
    ]


def _events(data: bytes) -> list[dict[str, Any]] | None:
    """The events in order; None when a line is no event. A last line that was cut is left out."""
    found: list[dict[str, Any]] = []
    lines = data.split(b"\n")
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except ValueError:
            if index == len(lines) - 1:
                break
            return None
        if not isinstance(one, dict):
            return None
        found.append(one)
    return found or None


def recorders_of(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was recorded of each scenario that ended."""
    found = (table(table(one, "ScenarioFinished"), "recorder") for one in events)
    return [one for one in found if one]


def table(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A table within a table; {} where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _errors(events: Sequence[dict[str, Any]]) -> str:
    """What it could not do, in its words; "" when nothing."""
    for kind in ("FatalError", "NonFatalError", "Interrupted"):
        for one in events:
            if kind in one:
                told = table(one, kind)
                said = table(told, "info") or told
                text = str(said.get("message") or said.get("title") or told.get("value") or kind)
                return " ".join(text.split())[:300]
    return ""


def _findings(done: Sequence[dict[str, Any]], aim: Aim, version: str) -> Iterator[Finding]:
    base = base_path(aim.description or {})
    for recorder in done:
        interactions = table(recorder, "interactions")
        for case, checks in table(recorder, "checks").items():
            for check in checks if isinstance(checks, list) else ():
                failure = table(table(check, "failure_info"), "failure")
                if check.get("status") != "failure" or not failure:
                    continue
                name = str(check.get("name"))
                operation = str(failure.get("operation") or recorder.get("label"))
                yield _finding(name, operation, base, failure, table(interactions, case), version)


def _finding(
    name: str,
    operation: str,
    base: str,
    failure: dict[str, Any],
    interaction: dict[str, Any],
    version: str,
) -> Finding:
    method, _, path = operation.partition(" ")
    level, cwe, title = LEVELS.get(name, OTHER)
    request, response = table(interaction, "request"), table(interaction, "response")
    uri = str(request.get("uri", ""))
    said = " ".join(str(failure.get("message", "")).split())
    status = f"status {response['status_code']}" if "status_code" in response else ""
    message = ": ".join(part for part in (str(failure.get("title", title)), said[:300] or status) if part)
    return Finding(
        id="",
        kind="dast",
        rule=Rule(id=name, name=str(failure.get("title", ""))),
        title=title,
        message=redacted(message),
        severity=Severity(level=level, basis=f"schemathesis {name}"),
        place=InRequest(method=method, url=redacted(uri)[:1000], route=base + path),
        confidence="high",
        cwe=(cwe,) if cwe else (),
        fix="answer 4xx to what is wrong" if cwe == 755 else "mend the description or the answer",
        evidence=(curl_of(method, uri, request),) if uri else (),
        witnesses=(Witness(tool="schemathesis", version=version, rule=name),),
    )


def curl_of(method: str, uri: str, request: Mapping[str, Any]) -> str:
    """The command that sends a request again, without what identifies the sender."""
    import base64
    import shlex

    headers = table(request, "headers")
    parts = ["curl", "-X", str(request.get("method", method))]
    for name, value in headers.items():
        shown = value[0] if isinstance(value, list) and value else value
        parts += ["-H", redacted(f"{name}: {shown}")]
    body = request.get("body")
    if isinstance(body, dict) and isinstance(body.get("$base64"), str):
        body = base64.b64decode(body["$base64"]).decode("utf-8", "replace")
    if isinstance(body, str) and body:
        parts += ["-d", redacted(body)[:500]]
    address = urlsplit(uri)
    return shlex.join([*parts, redacted(address.geturl())[:1000]])
