"""Bandit: what ruff does not have of it, and a second witness for the rest."""

from __future__ import annotations

import configparser
import fnmatch
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Witness
from pipeline.scan.sast.bandit_rules import ADVICE, confidence_of, severity_of
from pipeline.scan.sast.ruff import CANARY, CANARY_TEXT
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, are_rows, broken, json_table, looked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Scan, Target

SETTINGS: Final = frozenset({".bandit", "pyproject.toml"})
NO_SETTINGS: Final = "/canary/none.ini"  # given so that bandit does not look for settings by itself
INI_HINT: Final = "write `.bandit` as INI: a section `[bandit]` with `exclude = ...`"
COLUMNS: Final = frozenset(
    {"filename", "test_id", "issue_severity", "issue_confidence", "issue_text", "line_number"}
)
# These tests quote the secret they found.
_QUOTED: Final = re.compile(r"(['\"]).*\1", re.DOTALL)
_TELLS_SECRETS: Final = frozenset({"B105", "B106", "B107"})


class Bandit:
    """`bandit -r` over all Python files, with the project's own settings where bandit can read them."""

    name: Final = "bandit"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file, and the settings."""
        return [path for path in paths if path.endswith(".py") or path in SETTINGS]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """Those bandit reads, at the top alone."""
        return [path for path in paths if path in SETTINGS]

    def expects(self, target: Target) -> list[str]:
        """Every Python file that the settings do not leave out."""
        left_out = exclusions(target)
        return sorted(
            path for path in target.files if path.endswith(".py") and not _is_excluded(path, left_out)
        )

    def commands(self, target: Target) -> list[Command]:
        """One run over the whole tree."""
        ini = f"{target.root}/.bandit" if ".bandit" in target.files else NO_SETTINGS
        settings: tuple[str, ...] = ("--ini", ini)
        if "pyproject.toml" in target.files and "bandit" in _tool_tables(target.files["pyproject.toml"]):
            settings += ("-c", f"{target.root}/pyproject.toml")
        argv = ("bandit", "-r", "-q", "-f", "json", "--exit-zero", *settings, target.root, CANARY)
        return [Command(argv=argv, files={CANARY: CANARY_TEXT, NO_SETTINGS: "[bandit]\n"})]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what bandit skipped and what it did not count."""
        wanted = self.expects(target)
        nothing = Coverage(unit="files", expected=len(wanted), seen=0)
        if problem := _settings_problem(target):
            return broken(self.name, nothing, problem, hint=INI_HINT)
        report = _report(ran[0].stdout)
        if report is None:
            return broken(self.name, nothing, f"bandit gave no report: {ran[0].last_words}")
        if not any(row["filename"] == CANARY for row in report["results"]):
            reason = "bandit did not report the canary: its silence means nothing"
            return broken(self.name, nothing, reason, hint="the settings may leave out too many tests")
        prefix = target.root.rstrip("/") + "/"
        seen = {str(name).removeprefix(prefix) for name in report["metrics"]}
        skipped = {str(row["filename"]).removeprefix(prefix): str(row["reason"]) for row in report["errors"]}
        if wanted and seen.isdisjoint(wanted) and skipped.keys().isdisjoint(wanted):
            reason = f"bandit looked at none of {len(wanted)} files: {ran[0].last_words}"
            return broken(self.name, nothing, reason)
        missed = [
            Missed(what=path, why=skipped.get(path, "bandit did not look at it"))
            for path in wanted
            if path in skipped or path not in seen
        ]
        found = ((row, str(row["filename"]).removeprefix(prefix)) for row in report["results"])
        # It follows links, which may lead out of the project.
        findings = [_finding(row, path, target.version) for row, path in found if path in target.files]
        return looked(self.name, target.version, wanted, missed, findings)


def exclusions(target: Target) -> tuple[str, ...]:
    """What the project's own settings leave out, as bandit takes it: globs, or parts of paths."""
    found: list[str] = []
    if ".bandit" in target.files and _settings_problem(target) == "":
        parser = configparser.ConfigParser()
        parser.read_string(target.files[".bandit"].decode())
        found += [one.strip() for one in parser["bandit"].get("exclude", "").split(",")]
    table = _tool_tables(target.files.get("pyproject.toml", b"")).get("bandit", {})
    found += [str(one) for one in table.get("exclude_dirs", [])] if isinstance(table, dict) else []
    return tuple(one.removeprefix("./") for one in found if one)


def _is_excluded(path: str, left_out: Sequence[str]) -> bool:
    whole = f"/{path}"
    return any(fnmatch.fnmatch(path, one) or fnmatch.fnmatch(whole, one) or one in whole for one in left_out)


def _settings_problem(target: Target) -> str:
    """Why bandit would drop the project's settings and go on without a word; "" when it would not."""
    if ".bandit" not in target.files:
        return ""
    try:
        parser = configparser.ConfigParser()
        parser.read_string(target.files[".bandit"].decode())
    except (configparser.Error, UnicodeDecodeError):
        return "`.bandit` is not INI: bandit would drop all of it and say nothing"
    if not parser.has_section("bandit"):
        return "`.bandit` has no section `[bandit]`: bandit would drop all of it and say nothing"
    return ""


def _tool_tables(data: bytes) -> dict[str, Any]:
    try:
        tables = tomllib.loads(data.decode()).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}
    return tables if isinstance(tables, dict) else {}


def _report(stdout: bytes) -> dict[str, Any] | None:
    report = json_table(stdout, frozenset({"results", "errors", "metrics"}))
    return report if report is not None and are_rows(report["results"], COLUMNS) else None


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    test, number = str(row["test_id"]), str(row["test_id"]).removeprefix("B")
    text = str(row["issue_text"]).partition("\n")[0]
    if test in _TELLS_SECRETS:
        text = _QUOTED.sub("'…'", text)
    severity, confidence = str(row["issue_severity"]), str(row["issue_confidence"])
    cwe = row.get("issue_cwe", {}).get("id")
    lines = row.get("line_range") or [row["line_number"]]
    return Finding(
        id="",
        kind="sast",
        rule=Rule(id=f"S{number}", name=str(row.get("test_name", "")), url=str(row.get("more_info", ""))),
        title=text,
        message=text,
        severity=severity_of(severity, confidence, path),
        confidence=confidence_of(confidence),
        cwe=(int(cwe),) if cwe else (),
        place=InFile(
            path=path,
            line=int(row["line_number"]),
            end_line=max(int(line) for line in lines),
            column=int(row.get("col_offset", -1)) + 1,
        ),
        fix=ADVICE.get(number, ""),
        witnesses=(Witness(tool="bandit", version=version, rule=test),),
    )
