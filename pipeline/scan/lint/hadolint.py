"""Hadolint: Dockerfiles."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, broken, counted, json_rows, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

NAMED: Final = re.compile(r"(?:.*\.)?(?:Dockerfile|Containerfile)(?:\..*)?", re.IGNORECASE)
DOES_NOT_PARSE: Final = "DL1000"
SETTINGS: Final = frozenset({".hadolint.yaml", ".hadolint.yml"})
CANARY: Final = "/canary/Dockerfile"
COLUMNS: Final = frozenset({"code", "file", "level", "line", "column", "message"})
CANARY_TEXT: Final = "FROM debian\nRUN cd /tmp && sudo apt-get install x\n"
LEVELS: Final[Mapping[str, Level]] = {"error": "medium", "warning": "low", "info": "info", "style": "info"}


class Hadolint:
    """`hadolint` over all Dockerfiles, with the project's `.hadolint.yaml` if it has one."""

    name: Final = "hadolint"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Every Dockerfile, by its name."""
        return [path for path in paths if NAMED.fullmatch(PurePosixPath(path).name)]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """Those that hadolint looks for by itself."""
        return [path for path in paths if PurePosixPath(path).name in SETTINGS]

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run over all; a file that does not parse is a finding and stops nothing."""
        paths = [f"{target.root}/{path}" for path in sorted(target.files)]
        argv = ("hadolint", "--no-fail", "--no-color", "-f", "json", "--", *paths, CANARY)
        return [Command(argv=argv, files={CANARY: CANARY_TEXT})]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what does not parse."""
        expected = self.expects(target)
        rows = json_rows(ran[0].stdout, COLUMNS)
        if rows is None:
            reason = f"hadolint gave no list of findings: {ran[0].last_words}"
            return broken(self.name, counted("files", expected), reason)
        if not any(row["file"] == CANARY for row in rows):
            reason = "hadolint did not report the canary: its silence means nothing"
            return broken(
                self.name, counted("files", expected), reason, hint="see what .hadolint.yaml ignores"
            )
        prefix = target.root.rstrip("/") + "/"
        own = [(str(row["file"]).removeprefix(prefix), row) for row in rows if row["file"] != CANARY]
        missed = [
            Missed(what=path, why=f"it does not parse: {row['message']}")
            for path, row in own
            if row["code"] == DOES_NOT_PARSE
        ]
        findings = [_finding(row, path, target.version) for path, row in own if row["code"] != DOES_NOT_PARSE]
        return looked(self.name, target.version, expected, missed, findings)


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    code, word = str(row["code"]), str(row["level"])
    wiki = (
        "https://github.com/hadolint/hadolint/wiki/"
        if code.startswith("DL")
        else "https://www.shellcheck.net/wiki/"
    )
    return Finding(
        id="",
        kind="misconfiguration",
        rule=Rule(id=code, url=f"{wiki}{code}"),
        title=str(row["message"]),
        message=str(row["message"]),
        severity=Severity(level=LEVELS.get(word, "low"), basis=f"hadolint {word}"),
        place=InFile(path=path, line=int(row["line"]), column=int(row["column"])),
        confidence="high",
        witnesses=(Witness(tool="hadolint", version=version, rule=code),),
    )
