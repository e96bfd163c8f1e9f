"""Zizmor: the security of GitHub workflows and actions; file by file, for one bad file stops it for all."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.finding import Confidence, Finding, InFile, Level, Rule, Severity, Witness
from pipeline.scan.scanner import Command, Missed, Ran, broken, counted, json_rows, looked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.scanner import Scan, Target

WORKFLOWS: Final = re.compile(r"(?:\.github/workflows/[^/]+|(?:.*/)?action)\.ya?ml")
SETTINGS: Final = frozenset({"zizmor.yml", "zizmor.yaml"})
CANARY: Final = "/canary/.github/workflows/canary.yml"
COLUMNS: Final = frozenset({"ident", "desc", "determinations", "locations"})
CANARY_TEXT: Final = (
    "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n"
    "      - uses: actions/checkout@v4\n      - run: echo ${{ github.event.issue.title }}\n"
)
LEVELS: Final[Mapping[tuple[str, str], Level]] = {  # severity and confidence
    ("High", "High"): "high",
    ("High", "Medium"): "medium",
    ("High", "Low"): "medium",
    ("Medium", "High"): "medium",
    ("Medium", "Medium"): "medium",
    ("Medium", "Low"): "low",
    ("Informational", "High"): "info",
    ("Informational", "Medium"): "info",
    ("Informational", "Low"): "info",
}
# An action of GitHub's own that a tag names is trusted as its runners are; others can move the tag.
OF_GITHUB: Final = re.compile(r"[\"']?(?:actions|github)/")
FIXES: Final[Mapping[str, str]] = {  # where zizmor itself, without a network, names none
    "unpinned-uses": "name the commit: `uses: owner/action@COMMIT # v1.2.3`",
    "excessive-permissions": "say `permissions: {}` at the top, and what each job needs in the job",
    "artipacked": "give actions/checkout `persist-credentials: false`",
}
CONFIDENCES: Final[Mapping[str, Confidence]] = {"High": "high", "Medium": "medium", "Low": "low"}


class Zizmor:
    """`zizmor --offline` on each workflow and action."""

    name: Final = "zizmor"

    def wants(self, paths: Sequence[str]) -> list[str]:
        """Workflows, and actions wherever they lie."""
        return [path for path in paths if WORKFLOWS.fullmatch(path)]

    def settings(self, paths: Sequence[str]) -> list[str]:
        """Those that zizmor looks for by itself."""
        return [path for path in paths if PurePosixPath(path).name in SETTINGS]

    def expects(self, target: Target) -> list[str]:
        """Every one it wants."""
        return sorted(target.files)

    def commands(self, target: Target) -> list[Command]:
        """One run a file, and the canary."""
        paths = [*(f"{target.root}/{path}" for path in sorted(target.files)), CANARY]
        plain = ("zizmor", "--offline", "--no-progress", "--no-exit-codes", "--format", "json", "--")
        return [Command(argv=(*plain, path), files={CANARY: CANARY_TEXT}) for path in paths]

    def read(self, target: Target, ran: Sequence[Ran]) -> Scan:
        """Findings; missed is what could not be audited."""
        expected = self.expects(target)
        canary = json_rows(ran[-1].stdout, COLUMNS)
        if not canary:
            reason = f"zizmor did not report the canary: {ran[-1].last_words}"
            return broken(self.name, counted("files", expected), reason)
        missed: list[Missed] = []
        findings: list[Finding] = []
        for path, one in zip(expected, ran, strict=False):
            rows = json_rows(one.stdout, COLUMNS)
            if rows is None:
                missed.append(Missed(what=path, why=f"zizmor could not audit it: {one.last_words}"))
                continue
            findings += [_finding(row, path, target.version) for row in rows if not row.get("ignored")]
        return looked(self.name, target.version, expected, missed, findings)


def _severity(row: dict[str, Any], primary: dict[str, Any]) -> Severity:
    """The severity of zizmor's two words; an action of GitHub's own without a digest is one to be told."""
    severity, confidence = (str(row["determinations"][key]) for key in ("severity", "confidence"))
    level, basis = LEVELS.get((severity, confidence), "low"), f"zizmor {severity}/{confidence}"
    if row["ident"] == "unpinned-uses" and OF_GITHUB.match(str(primary["concrete"].get("feature", ""))):
        return Severity(level="medium", basis=f"{basis}, GitHub's own")
    return Severity(level=level, basis=basis)


def _finding(row: dict[str, Any], path: str, version: str) -> Finding:
    confidence = str(row["determinations"]["confidence"])
    primary = next(
        (one for one in row["locations"] if one["symbolic"].get("kind") == "Primary"), row["locations"][0]
    )
    span, note = primary["concrete"]["location"], str(primary["symbolic"].get("annotation", ""))
    start, end = span["start_point"], span["end_point"]  # rows and columns from 0
    titles = [str(one["title"]) for one in row.get("fixes", []) if one.get("title")]
    fixes = titles or [fix for ident, fix in FIXES.items() if ident == row["ident"]]
    return Finding(
        id="",
        kind="misconfiguration",
        rule=Rule(id=str(row["ident"]), url=str(row.get("url", ""))),
        title=str(row["desc"]),
        message=f"{row['desc']}: {note}" if note else str(row["desc"]),
        severity=_severity(row, primary),
        place=InFile(
            path=path,
            line=int(start["row"]) + 1,
            column=int(start["column"]) + 1,
            end_line=int(end["row"]) + 1,
            end_column=int(end["column"]) + 1,
        ),
        confidence=CONFIDENCES.get(confidence, "medium"),
        fix="; ".join(fixes),
        witnesses=(Witness(tool="zizmor", version=version, rule=str(row["ident"])),),
    )
