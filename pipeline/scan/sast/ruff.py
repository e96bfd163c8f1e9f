"""Ruff's security rules: bandit's tests, a hundred times faster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Witness
from pipeline.scan.sast.bandit_rules import ADVICE, confidence_of, severity_of, twin
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, Scan, broken, counted, json_rows, unchecked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Target

CANARY: Final = "/canary/canary.py"  # its finding has to come back, or the silence of the tool means nothing
COLUMNS: Final = frozenset({"code", "filename", "message", "location"})
CANARY_TEXT: Final = "assert eval(input())\nexec(input())\n"
CANARY_RULE: Final = "S307"
SILENCED: Final = "/canary/silenced.txt"  # the files that silence every rule at once, one argument a line
RULES: Final = ("--select", "S")
IMPORTS: Final = ("--preview", "--select", "S4")  # stable in bandit; the other rules are noisier in preview
_SILENCES: Final = re.compile(rb"^\s*#\s*(?:ruff|flake8)\s*:\s*noqa\s*$", re.IGNORECASE | re.MULTILINE)
# The newest Python it knows: of what a project may use, nothing is called a mistake.
PLAIN: Final = (
    *("--isolated", "--no-cache", "--target-version", "py314"),
    *("--config", "exclude=[]", "--config", "respect-gitignore=false"),
)


class Ruff:
    """`ruff check --select S` over all Python files of the project, whatever its own settings leave out.

    A comment may silence a line, or a rule in a file. One that silences a whole file is not heeded: nothing
    would tell that file from one without findings.
    """

    name: Final = "ruff"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file."""
        return [path for path in paths if path.endswith((".py", ".pyi"))]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """None: it is run without any."""
        del paths
        return []

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """Check, list what is checked, and check what silences itself once more."""
        silenced = [f"{target.root}/{path}" for path in _silenced(target)]
        files = {CANARY: CANARY_TEXT, SILENCED: "".join(f"{path}\n" for path in silenced)}
        base = ("ruff", "check", *PLAIN)
        checks = [(*base, *rules, "--output-format", "json", "--exit-zero") for rules in (RULES, IMPORTS)]
        looked = [(*check, target.root, CANARY) for check in checks]
        ran = [looked[0], (*base, *RULES, "--show-files", target.root, CANARY), looked[1]]
        if silenced:
            ran += [(*check, "--ignore-noqa", f"@{SILENCED}") for check in checks]
        return [Command(argv=argv, files=files) for argv in ran]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings, and as missed what was not listed or does not parse."""
        return read_rows(self.name, CANARY_RULE, target, ran)


def read_rows(name: str, canary_rule: str, target: Target, ran: Sequence[Ran]) -> Scan:
    """What a run of ruff and its list of files say; missed is what was not listed or does not parse."""
    checked, shown, *again = ran
    expected = sorted(target.files)
    nothing = Coverage(unit="files", expected=len(expected), seen=0)
    rows: list[dict[str, Any]] = []
    for one in (checked, *again):
        more = json_rows(one.stdout, COLUMNS)
        if more is None:
            reason = f"ruff gave no list of findings: {one.last_words}"
            return broken(name, nothing, reason)
        rows += more
    if not any(row["filename"] == CANARY and row["code"] == canary_rule for row in rows):
        reason = "ruff did not report the canary: its silence means nothing"
        return broken(name, nothing, reason)
    prefix = target.root.rstrip("/") + "/"
    listed = {
        line.removeprefix(prefix)
        for line in shown.stdout.decode("utf-8", "surrogateescape").splitlines()
        if line.startswith(prefix)
    }
    if expected and listed.isdisjoint(expected):
        reason = f"ruff looked at none of {len(expected)} files: {shown.last_words}"
        return broken(name, nothing, reason)
    missed = {path: why for path in expected if (why := _unread(path, target.files[path], listed))}
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
        reason=unchecked(gone),
        hint="mend the files that cannot be read, or take them out of git" if gone else "",
        coverage=counted("files", expected, gone),
        findings=tuple(findings),
        version=target.version,
    )


def _silenced(target: Target) -> list[str]:
    """The files with a comment that silences every rule in them."""
    return [path for path, data in sorted(target.files.items()) if _SILENCES.search(data)]


def _unread(path: str, data: bytes, listed: set[str]) -> str:
    """Why a file cannot count as checked; "" when it can."""
    if path not in listed:
        return "ruff did not look at it"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8: ruff passes over it and says nothing"
    return ""


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
