"""Ruff's rules about how complex code is: advice, and a warning where it is very complex."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import Severity
from pipeline.scan.sast.ruff import CANARY, PLAIN, read_rows
from pipeline.scan.scanner import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.finding import Finding, Level
    from pipeline.scan.scanner import Ran, Scan, Target

COMPLEX: Final = 15  # paths through a function from which on it is told
VERY_COMPLEX: Final = 30  # and from which on it warns
BRANCHES: Final = "".join(
    f"    if x == {number}:\n        return {number}\n" for number in range(COMPLEX + 1)
)
CANARY_TEXT: Final = f"def canary(x):\n{BRANCHES}"
RULES: Final = "C901"
_COUNT: Final = re.compile(r"\((\d+) > \d+\)")


class Shape:
    """`ruff check --select C901` over all Python files."""

    name: Final = "ruff"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Python file."""
        return [path for path in paths if path.endswith(".py")]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """None: it is run without any."""
        del paths
        return []

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """Check, and list what is checked."""
        limit = ("--config", f"lint.mccabe.max-complexity={COMPLEX}")
        chosen = ("ruff", "check", *PLAIN, *limit, "--select", RULES)
        files, where = {CANARY: CANARY_TEXT}, (target.root, CANARY)
        check = (*chosen, "--output-format", "json", "--exit-zero", *where)
        return [
            Command(argv=check, files=files),
            Command(argv=(*chosen, "--show-files", *where), files=files),
        ]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings by how many paths there are."""
        scan = read_rows(self.name, RULES, target, ran)
        return replace(scan, scanner="complexity", findings=tuple(_weighed(one) for one in scan.findings))


def _weighed(one: Finding) -> Finding:
    count = _COUNT.search(one.message)
    paths = int(count[1]) if count else 0
    level: Level = "medium" if paths >= VERY_COMPLEX else "info"
    return replace(
        one,
        kind="quality",
        cwe=(),
        severity=Severity(level=level, basis=f"{paths} paths"),
        fix="split it into functions that do one thing each",
    )
