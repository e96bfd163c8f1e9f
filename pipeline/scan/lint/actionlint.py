"""Actionlint: GitHub workflows that cannot run as they are written.

The tool is jactionlint, a fork of actionlint that is a Python package; of its rules those of actionlint.
What zizmor looks for in the same files is left to zizmor.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.lint.zizmor import WORKFLOWS
from pipeline.scan.scanner import Command, Coverage, Missed, Ran, broken, json_rows, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

CANARY: Final = "/canary/.github/workflows/canary.yml"
CANARY_TEXT: Final = (
    "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    needs: [b]\n    steps:\n      - run: x\n"
)
COLUMNS: Final = frozenset({"message", "filepath", "line", "column", "id"})
DOES_NOT_PARSE: Final = "yaml-syntax"
OF_ZIZMOR: Final = "^template-injection$"
PLAIN: Final = (  # no network, no list of what is accepted, no other tools: these look by themselves
    *("--format", "json", "--profile", "correctness", "--no-online", "--no-baseline", "--no-color"),
    *("--shellcheck=", "--pyflakes=", "--ignore", OF_ZIZMOR),
)
LEVELS: Final[Mapping[str, Level]] = {"error": "medium", "warn": "low", "info": "info"}


class Actionlint:
    """`jactionlint` over all workflows and actions; runners' labels come from `.github/actionlint.yaml`."""

    name: Final = "jactionlint"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Workflows, and the actions they use."""
        found = [path for path in paths if WORKFLOWS.fullmatch(path)]
        return found if any(path.startswith(".github/workflows/") for path in found) else []

    def settings(self, paths: Sequence[str]) -> list[str]:
        """What workflows are held against: each other, actions with the programs they start, and labels."""
        actions = [path for path in self.wants(paths) if not path.startswith(".github/workflows/")]
        folders = tuple({".github/", *(path[: path.rindex("action.")] for path in actions)})
        return [path for path in paths if path.startswith(folders)]

    def expects(self, target: Target) -> list[str]:
        """All that it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run over all. It knows a project by its repository, of which there are only the files."""
        paths = [f"{target.root}/{path}" for path in sorted(target.files)]
        files = {CANARY: CANARY_TEXT, f"{target.root}/.git/HEAD": "ref: refs/heads/main\n"}
        return [Command(argv=("jactionlint", *PLAIN, "--", *paths, CANARY), files=files)]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what does not parse."""
        expected = self.expects(target)
        nothing = Coverage(unit="files", expected=len(expected), seen=0)
        rows = json_rows(ran[0].stdout, COLUMNS)
        if rows is None:
            reason = f"jactionlint gave no list of findings: {ran[0].last_words}"
            return broken(self.name, nothing, reason)
        named = [(_absolute(str(row["filepath"]), target.root), row) for row in rows]
        if not any(path == CANARY for path, _ in named):
            reason = f"jactionlint did not report the canary: {ran[0].last_words}"
            hint = "see what .github/jactionlint.yaml and .github/actionlint.yaml ignore"
            return broken(self.name, nothing, reason, hint=hint)
        prefix = target.root.rstrip("/") + "/"
        own = [(path.removeprefix(prefix), row) for path, row in named if path != CANARY]
        unread = {path: row for path, row in own if row["id"] == DOES_NOT_PARSE}
        missed = [
            Missed(what=path, why=f"it does not parse: {row['message']}") for path, row in unread.items()
        ]
        findings = [_finding(row, path, target.version) for path, row in own if path not in unread]
        return looked(self.name, target.version, expected, missed, findings)


def _absolute(path: str, folder: str) -> str:
    """A path as it is told relative to the working folder, in full."""
    return posixpath.normpath(posixpath.join(folder, path))


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    rule, word = str(row["id"]), str(row.get("severity", "error"))
    message = str(row["message"])
    return Finding(
        id="",
        kind="misconfiguration",
        rule=Rule(id=rule, url=str(row.get("doc_url", ""))),
        title=message if len(message) <= 200 else f"{message[:197]}...",
        message=message,
        severity=Severity(level=LEVELS.get(word, "low"), basis=f"actionlint {word}"),
        place=InFile(
            path=path,
            line=int(row["line"]),
            column=int(row["column"]),
            end_line=int(row.get("end_line", 0)),
            end_column=int(row.get("end_column", 0)),
        ),
        confidence="high",
        witnesses=(Witness(tool="jactionlint", version=version, rule=rule),),
    )
