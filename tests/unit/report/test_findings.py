"""Findings of scan stages in the views: counts, what blocks, what was not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.graph.record import RunFolder
from pipeline.report.evidence import Evidence, find_evidence
from pipeline.report.findings import MOST_TOLD, FindingsUnreadable, Found, StageFindings, parse_findings
from pipeline.report.page import make_page
from pipeline.report.record import fold
from pipeline.report.summary import make_summary
from pipeline.scan.document import Document, dump_document
from pipeline.scan.finding import Finding, InFile, InPackage, InRequest, Place, Rule, Severity
from pipeline.scan.policy import Action, Judged, Unchecked, Verdict
from tests.unit.report.events import events

if TYPE_CHECKING:
    from pathlib import Path


def judged(action: Action, place: Place, title: str = "a <b>bad</b> thing") -> Judged:
    finding = Finding(
        id="0123456789abcdef0123456789abcdef",
        kind="sast",
        rule=Rule(id="S1"),
        title=title,
        message="",
        severity=Severity(level="high", basis="test"),
        place=place,
        fix="use *another*",
    )
    return Judged(finding=finding, action=action, why="")


def document(*all_judged: Judged) -> bytes:
    gone = Unchecked(scanner="semgrep", state="unavailable", action="warn", why="it is not there")
    verdict = Verdict(result="block", judged=all_judged, unchecked=(gone,))
    return dump_document(Document(stage="sast", kinds=("sast",), verdict=verdict, scans=())).encode()


def found(where: str) -> Found:
    return Found(
        id="0123456789ab",
        severity="high",
        where=where,
        what="a <b>bad</b> thing",
        rule="S1",
        mend="use *another*",
    )


def test_what_a_stage_wrote_is_read() -> None:
    """Each kind of place, counts of every action, scanners that could not look."""
    package = InPackage(purl="pkg:pypi/x@1", name="x", version="1", ecosystem="PyPI")
    request = InRequest(method="GET", url="http://app/a", route="/{a}", parameter="a")
    data = document(
        judged("block", InFile(path="a.py", line=3)),
        judged("block", InFile(path="a.py")),
        judged("warn", package),
        judged("warn", request),
        judged("waived", package),
    )

    assert parse_findings(data, "findings.json") == StageFindings(
        result="block",
        counts={"block": 2, "warn": 2, "note": 0, "waived": 1, "known": 0},
        blocking=(found("a.py:3"), found("a.py")),
        warnings=(found("x 1"), found("GET /{a} (a)")),
        unchecked=("semgrep is unavailable: it is not there",),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[]",
        b"null",
        b'{"schema": 2}',
        b'{"schema": 1, "verdict": {"result": "pass", "judged": [1]}}',
    ],
    ids=["bytes", "list", "null", "schema", "shape"],
)
def test_what_is_damaged_is_said_to_be(data: bytes) -> None:
    with pytest.raises(FindingsUnreadable, match=r"cannot read the findings in `findings\.json`: "):
        parse_findings(data, "findings.json")


def test_the_views_tell_what_blocks_and_escape_it() -> None:
    """A summary names what blocks; the page warnings too; the rest is counted."""
    many = [judged("block", InFile(path="a.py", line=line)) for line in range(1, MOST_TOLD + 3)]
    evidence = Evidence(
        findings={"sast": parse_findings(document(*many, judged("warn", InFile(path="b.py"))), "")}
    )

    summary, page = make_summary(fold(events()), evidence), make_page(fold(events()), evidence)

    assert "| sast | block | 22 | 1 | 0 | 0 | 0 | 1 |" in summary
    assert (
        "- high `a.py:1` a \\<b\\>bad\\</b\\> thing (`S1`, 0123456789ab). Mend: use \\*another\\*" in summary
    )
    assert "- … and 2 more" in summary
    assert "b.py" not in summary
    assert "Not checked in sast:\n\n- semgrep is unavailable: it is not there" in summary
    assert "<summary>sast: 22 blocking</summary>" in page
    assert "<code>b.py</code> a &lt;b&gt;bad&lt;/b&gt; thing" in page
    assert "and 2 more in findings.json" in page


def test_a_stage_that_skipped_itself_tells_what_it_could_not_look_at(tmp_path: Path) -> None:
    """It keeps its findings, but its end lists no files; a damaged file is a problem and no more."""
    folder = RunFolder.create(tmp_path, 1000.0)
    folder.keep("push", "findings.json", document())
    folder.keep("unit", "findings.json", b"{")

    evidence = find_evidence(folder.path, fold(events()))

    assert evidence.findings["push"].unchecked == ("semgrep is unavailable: it is not there",)
    assert [problem.partition(": ")[0] for problem in evidence.problems] == [
        "cannot read the findings in `stages/unit/files/findings.json`"
    ]


def test_long_texts_are_cut() -> None:
    one = parse_findings(document(judged("block", InFile(path="a.py"), "x" * 5000)), "").blocking[0]

    assert one.what == "x" * 299 + "…"
