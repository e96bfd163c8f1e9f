"""Vulture: Python code that nothing uses. Advice: what a framework calls by name looks unused too."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, broken, counted, looked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.scanner import Scan, Target

LEAST: Final = 80  # percent of confidence: below that most is called by somebody
CANARY: Final = "/canary/canary.py"
CANARY_TEXT: Final = "def canary():\n    return 1\n    print('unreachable')\n\n\ncanary()\n"
LINE: Final = re.compile(r"(?P<path>.+):(?P<line>\d+): (?P<what>.+) \((?P<sure>\d+)% confidence(?:, .*)?\)")


class Vulture:
    """`vulture` over all Python files."""

    name: Final = "vulture"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file."""
        return [path for path in paths if path.endswith(".py")]

    def commands(self, target: Target) -> list[Command]:
        """One run over the whole tree: what one file defines another may use."""
        argv = ("vulture", "--min-confidence", str(LEAST), target.root, CANARY)
        return [Command(argv=argv, files={CANARY: CANARY_TEXT})]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings of severity info; missed is what does not parse."""
        expected = sorted(target.files)
        rows = [found for line in _lines(ran[0]) if (found := LINE.fullmatch(line))]
        if not any(row["path"] == CANARY for row in rows):
            reason = f"vulture did not report the canary: {ran[0].last_words}"
            return broken(self.name, counted("files", expected), reason)
        # It names each file that it cannot parse on stderr: where nothing stands there, all were parsed.
        doubtful = expected if ran[0].stderr.strip() else []
        missed = [
            Missed(what=path, why="it does not parse") for path in doubtful if not _parses(target.files[path])
        ]
        prefix = target.root.rstrip("/") + "/"
        findings = [
            _finding(row, row["path"].removeprefix(prefix), target) for row in rows if row["path"] != CANARY
        ]
        return looked(self.name, target.version, expected, missed, findings)


def _lines(ran: Ran) -> list[str]:
    return ran.stdout.decode("utf-8", "replace").splitlines()


def _parses(data: bytes) -> bool:
    try:
        ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _finding(row: re.Match[str], path: str, target: Target) -> Finding:
    what = row["what"]
    rule = re.sub(r" '.*'$| after '.*'$", "", what).replace(" ", "-")
    return Finding(
        id="",
        kind="quality",
        rule=Rule(id=f"dead-code-{rule}"),
        title=what,
        message=f"{what}: nothing in the project uses it",
        severity=Severity(level="info", basis=f"vulture {row['sure']} %"),
        place=InFile(path=path, line=int(row["line"])),
        confidence="low" if int(row["sure"]) < 100 else "medium",
        witnesses=(Witness(tool="vulture", version=target.version, rule=rule),),
    )
