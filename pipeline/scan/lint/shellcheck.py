"""ShellCheck: shell scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, are_rows, broken, counted, json_table, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

SHEBANG: Final = re.compile(rb"#!\s*/(?:usr/)?bin/(?:env\s+)?(?:sh|bash|dash|ksh)\b")
CANARY: Final = "/canary/canary.sh"
CANARY_TEXT: Final = "#!/bin/sh\necho $1\nrm -rf $2/*\n"
COLUMNS: Final = frozenset({"file", "line", "level", "code", "message"})
LEVELS: Final[Mapping[str, Level]] = {"error": "medium", "warning": "low", "info": "info", "style": "info"}
# A script that does not parse is reported by these, and then nothing else of it is.
DOES_NOT_PARSE: Final = frozenset({1072, 1073, 1088, 1089})


class ShellCheck:
    """`shellcheck` over all scripts: by their ending, or by their first line."""

    name: Final = "shellcheck"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """What may be a script: `commands` looks at the first lines."""
        return [
            path for path in paths if path.endswith((".sh", ".bash")) or "." not in path.rpartition("/")[2]
        ]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """None: it is run without any."""
        del paths
        return []

    def expects(self, target: Target) -> list[str]:
        """The files that are shell scripts."""
        return sorted(
            path
            for path, data in target.files.items()
            if path.endswith((".sh", ".bash")) or SHEBANG.match(data[:200])
        )

    def commands(self, target: Target) -> list[Command]:
        """One run over all."""
        paths = [f"{target.root}/{path}" for path in self.expects(target)]
        argv = ("shellcheck", "-f", "json1", "--norc", "--", *paths, CANARY)
        return [Command(argv=argv, files={CANARY: CANARY_TEXT})]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what does not parse."""
        expected = self.expects(target)
        report = json_table(ran[0].stdout, frozenset({"comments"}))
        if report is None or not are_rows(rows := report["comments"], COLUMNS):
            reason = f"shellcheck gave no list of findings: {ran[0].last_words}"
            return broken(self.name, counted("files", expected), reason)
        if not any(row["file"] == CANARY for row in rows):
            reason = "shellcheck did not report the canary: its silence means nothing"
            return broken(self.name, counted("files", expected), reason)
        prefix = target.root.rstrip("/") + "/"
        own = [(str(row["file"]).removeprefix(prefix), row) for row in rows if row["file"] != CANARY]
        unread = {path: row for path, row in own if row["code"] in DOES_NOT_PARSE and row["level"] == "error"}
        missed = [
            Missed(what=path, why=f"it does not parse: {row['message']}") for path, row in unread.items()
        ]
        findings = [_finding(row, path, target.version) for path, row in own if path not in unread]
        return looked(self.name, target.version, expected, missed, findings)


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    rule, word = f"SC{row['code']}", str(row["level"])
    return Finding(
        id="",
        kind="quality",
        rule=Rule(id=rule, url=f"https://www.shellcheck.net/wiki/{rule}"),
        title=str(row["message"]),
        message=str(row["message"]),
        severity=Severity(level=LEVELS.get(word, "low"), basis=f"shellcheck {word}"),
        place=InFile(
            path=path,
            line=int(row["line"]),
            column=int(row.get("column", 0)),
            end_line=int(row.get("endLine", 0)),
            end_column=int(row.get("endColumn", 0)),
        ),
        confidence="high",
        witnesses=(Witness(tool="shellcheck", version=version, rule=rule),),
    )
