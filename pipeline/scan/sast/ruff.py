"""Ruff's security rules: bandit's tests, a hundred times faster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Witness
from pipeline.scan.sast.bandit_rules import ADVICE, confidence_of, severity_of, twin
from pipeline.scan.scanner import Command, Missed, Ran, Scan, broken, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Target

CANARY: Final = "/canary/canary.py"  # its finding has to come back, or the silence of the tool means nothing
CANARY_TEXT: Final = "assert eval(input())\nexec(input())\n"
CANARY_RULE: Final = "S307"
PLAIN: Final = ("--isolated", "--no-cache", "--config", "exclude=[]", "--config", "respect-gitignore=false")


class Ruff:
    """`ruff check --select S` over all Python files of the project, whatever its own settings leave out."""

    name: Final = "ruff"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file."""
        return [path for path in paths if path.endswith((".py", ".pyi"))]

    def commands(self, target: Target) -> list[Command]:
        """Check, and list what is checked."""
        files = {CANARY: CANARY_TEXT}
        where = (target.root, CANARY)
        check = ("ruff", "check", *PLAIN, "--select", "S", "--output-format", "json", "--exit-zero", *where)
        shown = ("ruff", "check", *PLAIN, "--select", "S", "--show-files", *where)
        return [Command(argv=check, files=files), Command(argv=shown, files=files)]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings, and as missed what was not listed or does not parse."""
        return read_rows(self.name, CANARY_RULE, target, ran)


def read_rows(name: str, canary_rule: str, target: Target, ran: Sequence[Ran]) -> Scan:
    """What a run of ruff and its list of files say; missed is what was not listed or does not parse."""
    checked, shown = ran
    expected = sorted(target.files)
    rows = _rows(checked.stdout)
    if rows is None:
        reason = f"ruff gave no list of findings: {checked.last_words}"
        return broken(name, counted("files", expected), reason)
    if not any(row["filename"] == CANARY and row["code"] == canary_rule for row in rows):
        reason = "ruff did not report the canary: its silence means nothing"
        return broken(name, counted("files", expected), reason)
    prefix = target.root.rstrip("/") + "/"
    listed = {
        line.removeprefix(prefix)
        for line in shown.stdout.decode("utf-8", "surrogateescape").splitlines()
        if line.startswith(prefix)
    }
    missed = {path: "ruff did not look at it" for path in expected if path not in listed}
    findings = []
    for row in rows:
        path = str(row["filename"]).removeprefix(prefix)
        if path not in target.files:
            continue
        if row["code"] in ("invalid-syntax", "E902", None):
            missed.setdefault(path, f"it does not parse: {_first_line(row['message'])}")
        else:
            findings.append(_finding(row, path, target.version))
    gone = [Missed(what=path, why=why) for path, why in sorted(missed.items())]
    return Scan(
        scanner=name,
        state="incomplete" if gone else "complete",
        reason=f"{len(gone)} files were not checked" if gone else "",
        hint="mend the files that do not parse, or take them out of git" if gone else "",
        coverage=counted("files", expected, gone),
        findings=tuple(findings),
        version=target.version,
    )


def _rows(stdout: bytes) -> list[dict[str, Any]] | None:
    try:
        rows = json.loads(stdout)
    except ValueError:
        return None
    if not isinstance(rows, list):
        return None
    needed = {"code", "filename", "message", "location"}
    return rows if all(isinstance(row, dict) and needed <= row.keys() for row in rows) else None


def _first_line(text: object) -> str:
    return str(text).partition("\n")[0]


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    rule, message = str(row["code"]), _first_line(row["message"])
    number = rule.removeprefix("S")
    known = twin(number, message)
    start, end = row["location"], row.get("end_location") or row["location"]
    return Finding(
        id="",
        kind="sast",
        rule=Rule(id=rule, name=str(row.get("name") or rule), url=str(row.get("url") or "")),
        title=message,
        message=message,
        severity=severity_of(known.severity, known.confidence, path),
        confidence=confidence_of(known.confidence),
        cwe=(known.cwe,) if known.cwe else (),
        place=InFile(
            path=path,
            line=int(start["row"]),
            column=int(start["column"]),
            end_line=int(end["row"]),
            end_column=int(end["column"]),
        ),
        fix=ADVICE.get(number, ""),
        witnesses=(Witness(tool="ruff", version=version, rule=rule),),
    )
