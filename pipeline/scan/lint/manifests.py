"""Manifests against their published schemas: compose files, workflows, the CI files of others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, broken, counted, json_table, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

# Schema, as check-jsonschema carries it, to the paths that must follow it.
SCHEMAS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "compose-spec": r"(?:.*/)?(?:docker-)?compose(?:\.[\w-]+)?\.ya?ml",
        "github-workflows": r"\.github/workflows/[^/]+\.ya?ml",
        "github-actions": r"(?:.*/)?action\.ya?ml",
        "dependabot": r"\.github/dependabot\.ya?ml",
        "gitlab-ci": r"\.gitlab-ci\.ya?ml",
        "circle-ci": r"\.circleci/config\.ya?ml",
        "azure-pipelines": r"azure-pipelines\.ya?ml",
        "bitbucket-pipelines": r"bitbucket-pipelines\.ya?ml",
        "readthedocs": r"\.readthedocs\.ya?ml",
        "renovate": r"(?:\.github/)?renovate\.json|\.renovaterc(?:\.json)?",
        "codecov": r"\.?codecov\.ya?ml",
    }.items()
}
CANARY: Final = "/canary/dependabot.yml"
CANARY_TEXT: Final = "version: 1\n"


class Manifests:
    """`check-jsonschema` with the schemas it carries; it asks no network for them."""

    name: Final = "check-jsonschema"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every file whose path says what it is."""
        return [path for path in paths if schema_of(path)]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """None: the schemas come with the tool."""
        del paths
        return []

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run for each schema, and the canary's."""
        runs = [
            Command(argv=(*_plain(schema), *(f"{target.root}/{path}" for path in paths)))
            for schema, paths in _by_schema(target).items()
        ]
        return [*runs, Command(argv=(*_plain("dependabot"), CANARY), files={CANARY: CANARY_TEXT})]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what does not parse."""
        expected = self.expects(target)
        reports = [_report(one.stdout) for one in ran]
        canary = reports[-1]
        if canary is None or not canary["errors"]:
            reason = f"check-jsonschema did not report the canary: {ran[-1].last_words}"
            return broken(self.name, counted("files", expected), reason)
        missed: list[Missed] = []
        findings: list[Finding] = []
        prefix = target.root.rstrip("/") + "/"
        for (schema, paths), report, one in zip(_by_schema(target).items(), reports, ran, strict=False):
            if report is None:
                missed += [Missed(what=path, why=f"it was not checked: {one.last_words}") for path in paths]
                continue
            for row in report["parse_errors"]:
                path = str(row["filename"]).removeprefix(prefix)
                missed.append(Missed(what=path, why=f"it does not parse: {_first_line(row['message'])}"))
            findings += [_finding(row, schema, prefix, target.version) for row in report["errors"]]
        return looked(self.name, target.version, expected, missed, findings)


def schema_of(path: str) -> str:
    """The schema a file must follow, by its path; "" when none is known."""
    return next((name for name, pattern in SCHEMAS.items() if pattern.fullmatch(path)), "")


def _by_schema(target: Target) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(target.files):
        found.setdefault(schema_of(path), []).append(path)
    return found


def _plain(schema: str) -> tuple[str, ...]:
    return (
        "check-jsonschema",
        "--builtin-schema",
        f"vendor.{schema}",
        "-o",
        "json",
        "--disable-formats",
        "*",
    )


def _report(stdout: bytes) -> dict[str, Any] | None:
    report = json_table(stdout, frozenset({"status"}))
    return report and {"errors": report.get("errors", []), "parse_errors": report.get("parse_errors", [])}


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0]


def _finding(row: dict[str, Any], schema: str, prefix: str, version: str) -> Finding:
    best = row.get("best_deep_match") or row.get("best_match") or row
    where, message = str(best.get("path", "$")), _first_line(best["message"])
    return Finding(
        id="",
        kind="misconfiguration",
        rule=Rule(id=f"schema-{schema}"),
        title=f"{where} does not follow the schema: {message}"[:300],
        message=f"{where}: {message}",
        severity=Severity(level="medium", basis="a manifest that breaks its schema"),
        place=InFile(path=str(row["filename"]).removeprefix(prefix), symbol=where),
        confidence="medium",
        witnesses=(Witness(tool="check-jsonschema", version=version, rule=schema),),
    )
