"""Duplicates: code that stands in two places, by jscpd, whatever the language."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Rule, Severity, Witness
from pipeline.scan.sast.bandit_rules import in_tests, is_test
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, broken, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

LINES: Final = 15  # the same in two places: from so many on it is told
MANY_LINES: Final = 50  # and from so many on it warns
# Suffixes to the languages as jscpd calls them.
LANGUAGES: Final[Mapping[str, str]] = {
    ".c": "c",
    ".cc": "cpp",
    ".cjs": "javascript",
    ".cpp": "cpp",
    ".cs": "csharp",
    ".go": "go",
    ".h": "c-header",
    ".hpp": "cpp-header",
    ".java": "java",
    ".js": "javascript",
    ".jsx": "jsx",
    ".kt": "kotlin",
    ".mjs": "javascript",
    ".php": "php",
    ".py": "python",
    ".rb": "ruby",
    ".rs": "rust",
    ".scala": "scala",
    ".sh": "bash",
    ".swift": "swift",
    ".ts": "typescript",
    ".tsx": "tsx",
}
SETTINGS: Final = "/canary/jscpd.json"  # in place of the project's, which may look at nothing
CANARIES: Final = ("/canary/one.py", "/canary/two.py")
REPORT: Final = "/tmp/jscpd/jscpd-report.json"  # noqa: S108 - in a container of its own
SIDES: Final = ("firstFile", "secondFile")
LARGEST: Final = "16mb"  # larger files are given to no scanner


class Duplicates:
    """`jscpd` over all code; comments and layout make no difference."""

    name: Final = "jscpd"

    def __init__(self, lines: int = LINES, many: int = MANY_LINES) -> None:
        """Tell what is the same from `lines` on, and warn from `many` on."""
        self._lines = lines
        self._many = many

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every file of code, but for what a program made small."""
        return [
            path
            for path in paths
            if PurePosixPath(path).suffix in LANGUAGES and not path.endswith((".min.js", ".min.mjs"))
        ]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """Every file it wants: what one says, any other may say too."""
        return self.wants(paths)

    def expects(self, target: Target) -> list[str]:
        """All that it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run over the whole tree."""
        canary = "".join(f"value_{number} = {number}\n" for number in range(max(self._lines, 50) + 2))
        languages = ",".join(sorted(set(LANGUAGES.values())))
        argv = (
            *("jscpd", "--config", SETTINGS, "--format", languages, "--mode", "weak", "--absolute"),
            *("--min-lines", str(self._lines), "--min-tokens", "50", "--max-size", LARGEST),
            *("--no-gitignore", "--no-tips", "--no-colors", "--silent"),
            *("--reporters", "json", "--output", str(PurePosixPath(REPORT).parent), target.root, *CANARIES),
        )
        files = {SETTINGS: "{}\n", **dict.fromkeys(CANARIES, canary)}
        return [Command(argv=argv, files=files, outputs=(REPORT,))]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what is no UTF-8, which jscpd passes over without a word."""
        expected = self.expects(target)
        nothing = Coverage(unit="files", expected=len(expected), seen=0)
        rows = _rows(ran[0].files.get(REPORT, b""))
        if rows is None:
            reason = f"jscpd left no list of duplicates: {ran[0].last_words}"
            return broken(self.name, nothing, reason)
        if not any({_name(row, side) for side in SIDES} == set(CANARIES) for row in rows):
            reason = f"jscpd did not report the canary: {ran[0].last_words}"
            return broken(self.name, nothing, reason)
        missed = [
            Missed(what=path, why="it is no UTF-8") for path in expected if not _is_text(target.files[path])
        ]
        wanted = {f"{target.root.rstrip('/')}/{path}" for path in expected}
        findings = [
            self._finding(row, target) for row in rows if all(_name(row, side) in wanted for side in SIDES)
        ]
        return looked("duplicates", target.version, expected, missed, findings)

    def _finding(self, row: dict[str, Any], target: Target) -> Finding:
        prefix = target.root.rstrip("/") + "/"
        here, other = (row[side] for side in SIDES)
        path, other_path = (str(one["name"]).removeprefix(prefix) for one in (here, other))
        lines = int(row["lines"])
        severity = Severity(level="medium" if lines >= self._many else "info", basis=f"{lines} lines")
        if is_test(other_path):
            severity = in_tests(severity, path)
        there = f"{other_path}:{other['start']}-{other['end']}"
        return Finding(
            id="",
            kind="quality",
            rule=Rule(id="duplicate-code", url="https://jscpd.dev"),
            title=f"{lines} lines stand a second time in {other_path}",
            message=f"lines {here['start']}-{here['end']} are the same as {there}",
            severity=severity,
            place=InFile(path=path, line=int(here["start"]), end_line=int(here["end"])),
            confidence="high",
            fix=f"keep them in one place, and use them in both ({there} is the other)",
            witnesses=(Witness(tool="jscpd", version=target.version, rule="duplicate-code"),),
        )


def _name(row: dict[str, Any], side: str) -> str:
    return str(row[side]["name"])


def _rows(report: bytes) -> list[dict[str, Any]] | None:
    try:
        whole = json.loads(report)
    except ValueError:
        return None
    rows = whole.get("duplicates") if isinstance(whole, dict) else None
    if not isinstance(rows, list):
        return None
    needed = {"name", "start", "end"}
    is_good = all(
        isinstance(row, dict)
        and isinstance(row.get("lines"), int)
        and all(isinstance(row.get(side), dict) and needed <= row[side].keys() for side in SIDES)
        for row in rows
    )
    return rows if is_good else None


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
