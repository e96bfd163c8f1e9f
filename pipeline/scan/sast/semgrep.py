"""Semgrep with the rules of this package and the project's own; never with rules from its registry.

Its version check waits for a minute and a half where names do not resolve, so it is off. Its report does not
say of every file that it did not parse, so that is found out beside it, by the Python it runs on.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Confidence, Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.sast.bandit_rules import in_tests
from pipeline.scan.scanner import (
    Command,
    Coverage,
    Missed,
    Ran,
    Scan,
    are_rows,
    broken,
    counted,
    json_table,
    unchecked,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Target

RULES: Final = "/rules/pipeline.json"  # JSON, which semgrep reads in half the time of YAML
PARSE: Final = "/rules/parse_program.py"
CANARY: Final = "/canary/canary.py"
CANARY_RULE: Final = "pipeline-canary"
CANARY_TEXT: Final = "pipeline_canary_of_semgrep()\n"
CANARY_RULES: Final = (
    {
        "id": CANARY_RULE,
        "languages": ["python"],
        "severity": "INFO",
        "message": "the canary",
        "pattern": "pipeline_canary_of_semgrep()",
    },
)
MOST_BYTES: Final = 1_000_000  # of a file; semgrep takes minutes for larger ones
OWN_RULES: Final = (".semgrep.yml", ".semgrep.yaml", ".semgrep/")
COLUMNS: Final = frozenset({"path", "check_id", "start", "end", "extra"})
ENV: Final[Mapping[str, str]] = {
    "SEMGREP_SEND_METRICS": "off",
    "SEMGREP_ENABLE_VERSION_CHECK": "0",
    "SEMGREP_SETTINGS_FILE": "/home/scan/semgrep.yml",
    "SEMGREP_LOG_FILE": "/home/scan/semgrep.log",
}
PLAIN: Final = (
    *("semgrep", "scan", "--json", "--quiet", "--metrics", "off", "--disable-version-check"),
    *("--no-git-ignore", "--x-ignore-semgrepignore-files", "--timeout", "30", "--max-memory", "2000"),
    *("--max-target-bytes", str(MOST_BYTES)),
)
_LEVELS: Final[Mapping[str, Level]] = {"ERROR": "high", "WARNING": "medium", "INFO": "low"}
_CONFIDENCES: Final[Mapping[str, Confidence]] = {"HIGH": "high", "MEDIUM": "medium", "LOW": "low"}


class Semgrep:
    """`semgrep scan` with rules that work offline."""

    name: Final = "semgrep"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file and template, and the project's own rules."""
        ends = (".py", ".html", ".jinja", ".jinja2", ".j2")
        return [path for path in paths if path.endswith(ends) or path.startswith(OWN_RULES)]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """The project's own rules."""
        return [path for path in paths if path.startswith(OWN_RULES)]

    def expects(self, target: Target) -> list[str]:
        """Every one it wants but rules."""
        return sorted(path for path in target.files if not path.startswith(OWN_RULES))

    def commands(self, target: Target) -> list[Command]:
        """One run with all rules over the whole tree, and one that parses each Python file."""
        program = files("pipeline.scan.sast").joinpath(PurePosixPath(PARSE).name).read_text(encoding="utf-8")
        rules = {RULES: json.dumps({"rules": [*own_pack(), *CANARY_RULES]}), CANARY: CANARY_TEXT}
        configs = ["--config", RULES]
        for name in OWN_RULES:
            if any(path.startswith(name) for path in target.files):
                configs += ["--config", f"{target.root}/{name}"]
        argv = (*PLAIN, *configs, target.root, CANARY)
        return [
            Command(argv=argv, env=ENV, files=rules, timeout_s=1200.0),
            Command(argv=("python", PARSE, target.root), files={PARSE: program}),
        ]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings, of kind quality where the rule says so; missed is what does not parse or was not seen."""
        expected = self.expects(target)
        nothing = Coverage(unit="files", expected=len(expected), seen=0)
        report = _report(ran[0].stdout)
        if report is None:
            return broken(self.name, nothing, f"semgrep gave no report: {ran[0].last_words}")
        rows = report["results"]
        if not any(row["path"] == CANARY for row in rows):
            reason = "semgrep did not report the canary: its silence means nothing"
            return broken(self.name, nothing, f"{reason}; {_errors(report) or ran[0].last_words}")
        prefix = target.root.rstrip("/") + "/"
        seen = {str(path).removeprefix(prefix) for path in report["paths"].get("scanned", [])}
        if expected and seen.isdisjoint(expected):
            reason = (
                f"semgrep looked at none of {len(expected)} files: {_errors(report) or ran[0].last_words}"
            )
            return broken(self.name, nothing, reason)
        parsed = json_table(ran[1].stdout, frozenset())
        if parsed is None:
            return broken(self.name, nothing, f"nothing says which files parse: {ran[1].last_words}")
        stopped = {
            **_stopped(report, prefix),
            **{path.removeprefix(prefix): str(why) for path, why in parsed.items()},
        }
        doubts = {path: _unread(path, target.files[path], seen) or stopped.get(path, "") for path in expected}
        missed = [Missed(what=path, why=why) for path, why in doubts.items() if why]
        reason = "; ".join(why for why in (unchecked(missed), _errors(report)) if why)
        return Scan(
            scanner=self.name,
            state="incomplete" if reason else "complete",
            reason=reason,
            coverage=counted("files", expected, missed),
            findings=tuple(
                _finding(row, str(row["path"]).removeprefix(prefix), target.version)
                for row in rows
                if str(row["path"]).removeprefix(prefix) in target.files
            ),
            version=target.version,
        )


def own_pack() -> list[dict[str, Any]]:
    """The rules of this package, in the order of their files."""
    import yaml

    folder = files("pipeline.scan.sast").joinpath("rules")
    texts = sorted((one.name, one.read_text(encoding="utf-8")) for one in folder.iterdir())
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [
        rule
        for name, text in texts
        if name.endswith(".yml")
        for rule in yaml.load(text, Loader=loader)["rules"]  # noqa: S506 - it is a safe one
    ]


def _unread(path: str, data: bytes, seen: set[str]) -> str:
    """Why a file cannot count as checked; "" when it can."""
    if path not in seen:
        is_large = len(data) > MOST_BYTES
        return f"it is larger than {MOST_BYTES} bytes" if is_large else "semgrep did not look at it"
    return ""


def _stopped(report: dict[str, Any], prefix: str) -> dict[str, str]:
    """Files that semgrep says it did not get through, by path, with the first line of why.

    A rule that ran out of time or memory on a file is a mere warning there, as is a part that did not parse.
    """
    stopped: dict[str, str] = {}
    for error in report["errors"]:
        if isinstance(error, dict) and error.get("path"):
            said = str(error.get("message") or error.get("type")).strip().partition("\n")[0]
            stopped.setdefault(str(error["path"]).removeprefix(prefix), said.replace(prefix, ""))
    return stopped


def _errors(report: dict[str, Any]) -> str:
    """What went wrong with rules or files, in semgrep's words; "" when nothing did."""
    errors = [
        one
        for one in report["errors"]
        if isinstance(one, dict) and one.get("level") == "error" and not one.get("path")
    ]
    if not errors:
        return ""
    said = str(errors[0].get("message") or errors[0].get("type")).strip().splitlines()
    return f"{len(errors)} errors, such as: {said[0] if said else 'nothing said'}"


def _report(stdout: bytes) -> dict[str, Any] | None:
    report = json_table(stdout, frozenset({"results", "errors", "paths"}))
    return report if report is not None and are_rows(report["results"], COLUMNS) else None


def rule_name(check_id: str) -> str:
    """The name of a rule without the path of its file, which semgrep puts before it."""
    return check_id.rpartition(".")[2]


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    extra, rule = row["extra"], rule_name(str(row["check_id"]))
    meta = extra.get("metadata", {})
    is_security = str(meta.get("category", "security")) == "security"
    message = " ".join(str(extra["message"]).split())
    return Finding(
        id="",
        kind="sast" if is_security else "quality",
        rule=Rule(id=rule, name=rule, url=str(meta.get("source", ""))),
        title=message.partition(". ")[0].rstrip("."),
        message=message,
        severity=in_tests(severity_of(str(extra["severity"]), meta), path),
        confidence=_CONFIDENCES.get(str(meta.get("confidence", "")), "medium"),
        cwe=tuple(sorted(_cwes(meta))),
        place=InFile(
            path=path,
            line=int(row["start"]["line"]),
            column=int(row["start"]["col"]),
            end_line=int(row["end"]["line"]),
            end_column=int(row["end"]["col"]),
        ),
        fix=str(meta.get("fix", "")),
        witnesses=(Witness(tool="semgrep", version=version, rule=rule),),
    )


def severity_of(word: str, meta: Mapping[str, Any]) -> Severity:
    """The severity of a rule: what it could do and how sure that is count, not the word alone."""
    marks = [str(meta.get(key, "")) for key in ("impact", "likelihood", "confidence")]
    if word == "ERROR" and marks == ["HIGH", "HIGH", "HIGH"]:
        return Severity(level="critical", basis="semgrep ERROR, impact, likelihood and confidence HIGH")
    return Severity(level=_LEVELS.get(word, "medium"), basis=f"semgrep {word}")


def _cwes(meta: Mapping[str, Any]) -> set[int]:
    """The numbers of "CWE-89: Improper ..." in a text or a list."""
    named = meta.get("cwe", [])
    texts = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    numbers = {str(text).removeprefix("CWE-").partition(":")[0].strip() for text in texts}
    return {int(number) for number in numbers if number.isdigit()}
