"""Vulture: Python code that nothing uses. Advice: what a framework calls by name looks unused too."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, broken, counted, json_rows, looked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Scan, Target

LEAST: Final = 80  # percent of confidence: below that most is called by somebody
PROGRAM: Final = "/rules/vulture_program.py"
CANARY: Final = "/canary/canary.py"
CANARY_TEXT: Final = "def canary():\n    return 1\n    print('unreachable')\n\n\ncanary()\n"
COLUMNS: Final = frozenset({"file", "problem", "found", "uses"})
NAMED: Final = re.compile(r"unused (?:import|variable|attribute|class|function|method|property) '(.*)'")


class Vulture:
    """`vulture` on each Python file; what a name means is settled when all files are known."""

    name: Final = "vulture"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file."""
        return [path for path in paths if path.endswith(".py")]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """The one vulture reads."""
        return [path for path in paths if path == "pyproject.toml"]

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run of the program that asks vulture about file after file."""
        program = files("pipeline.scan.lint").joinpath(PurePosixPath(PROGRAM).name)
        argv = ("python", PROGRAM, "--min-confidence", str(LEAST), target.root, CANARY)
        given = {CANARY: CANARY_TEXT, PROGRAM: program.read_text(encoding="utf-8")}
        return [Command(argv=argv, files=given)]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """What looks unused in each file, of severity info, and which names it uses: see `settle`."""
        expected = self.expects(target)
        rows = json_rows(ran[0].stdout, COLUMNS) or []
        if not any(row["file"] == CANARY and row["found"] for row in rows):
            reason = f"vulture did not report the canary: {ran[0].last_words}"
            return broken(self.name, counted("files", expected), reason)
        prefix = target.root.rstrip("/") + "/"
        said = {str(row["file"]).removeprefix(prefix): row for row in rows}
        doubts = {path: _unread(said.get(path), f"{prefix}{path}") for path in expected}
        missed = [Missed(what=path, why=why) for path, why in doubts.items() if why]
        sound = [path for path in expected if not doubts[path]]
        findings = [_finding(one, path, target) for path in sound for one in said[path]["found"]]
        scan = looked(self.name, target.version, expected, missed, findings)
        return replace(scan, names={path: tuple(said[path]["uses"]) for path in sound})

    def settle(self, scan: Scan) -> Scan:
        """Drop what another file uses."""
        used = {name for names in scan.names.values() for name in names}
        return replace(
            scan, findings=tuple(one for one in scan.findings if _name_of(one) not in used), names={}
        )


def _unread(row: dict[str, Any] | None, path: str) -> str:
    """Why a file cannot count as checked; "" when it can."""
    if row is None:
        return "vulture did not look at it"
    said = str(row["problem"]).partition("\n")[0].removeprefix(f"{path}:")
    return f"it does not parse: {said.strip()}" if said else ""


def _name_of(finding: Finding) -> str | None:
    """The name that nothing uses; None for code that is never reached."""
    found = NAMED.fullmatch(finding.title)
    return found[1] if found else None


def _finding(found: Sequence[Any], path: str, target: Target) -> Finding:
    line, what, sure = found
    rule = re.sub(r" '.*'$| after '.*'$", "", what).replace(" ", "-")
    return Finding(
        id="",
        kind="quality",
        rule=Rule(id=f"dead-code-{rule}"),
        title=what,
        message=f"{what}: nothing in the project uses it",
        severity=Severity(level="info", basis=f"vulture {sure} %"),
        place=InFile(path=path, line=int(line)),
        confidence="low" if int(sure) < 100 else "medium",
        witnesses=(Witness(tool="vulture", version=target.version, rule=rule),),
    )
