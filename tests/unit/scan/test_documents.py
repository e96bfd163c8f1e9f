"""Findings for other programs: what each form must have, and what its readers' limits are."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipeline.scan.document import Document, FindingsUnreadable, dump_document, parse_document
from pipeline.scan.finding import InFile, InRequest
from pipeline.scan.gitlab import TYPES, quality_report, security_report
from pipeline.scan.jsons import uri_path
from pipeline.scan.policy import Context, Policy, Rules, judge
from pipeline.scan.sarif import MOST_RESULTS, sarif
from pipeline.scan.scanner import Missed, counted
from pipeline.scan.vex import vex
from pipeline.scan.waivers import Waiver
from tests.unit.scan.making import finding, package, scan

if TYPE_CHECKING:
    from pipeline.scan.finding import Finding
    from pipeline.scan.policy import Verdict

TODAY = datetime.date(2026, 11, 24)
WAIVER = Waiver(
    rule="S2",
    path="**",
    reason="the input is ours, nobody else writes it",
    owner="team-a",
    created=TODAY,
    expires=datetime.date(2027, 1, 1),
)
IN_FILE = finding(
    id="1" * 32,
    cwe=(89, 79),
    fix="pass values as parameters",
    place=InFile(path="src/a b.py", line=4, end_line=6, column=2, end_column=9),
)
WAIVED = finding(id="2" * 32, rule="S2")
ADVISORY = finding(
    id="3" * 32,
    kind="vulnerability",
    rule="CVE-2024-1",
    aliases=("GHSA-1",),
    place=package(fixed=("2.11",)),
    tool="osv",
)
REQUEST = finding(
    id="4" * 32,
    kind="dast",
    level="low",
    tool="passive",
    place=InRequest(method="GET", url="http://app:8000/items/1", route="/items/{id}", parameter="id"),
)
HALF = scan(
    IN_FILE, WAIVED, state="incomplete", coverage=counted("files", ["a", "b"], [Missed(what="b", why="why")])
)
SCANS = (HALF, scan(ADVISORY, scanner="osv"), scan(REQUEST, scanner="passive"))


def verdict_on(*findings: Finding) -> Verdict:
    return judge(SCANS, findings, Policy(default=Rules()), Context(today=TODAY, waivers=[WAIVER]))


def log_of(*findings: Finding) -> Any:
    return json.loads(sarif(verdict_on(*findings), SCANS, stage="sast", version="1.0"))


def test_each_tool_has_a_run_with_a_category_of_its_own() -> None:
    """GitHub refuses two runs of one tool and category in one upload."""
    runs = log_of(IN_FILE, ADVISORY, REQUEST)["runs"]

    assert [run["tool"]["driver"]["name"] for run in runs] == ["ruff", "osv", "passive"]
    assert [run["automationDetails"]["id"] for run in runs] == [
        "pipeline/sast/ruff/",
        "pipeline/sast/osv/",
        "pipeline/sast/passive/",
    ]


def test_a_result_has_all_that_code_scanning_sorts_and_tracks_by() -> None:
    [result] = log_of(IN_FILE)["runs"][0]["results"]

    assert result["level"] == "error"
    assert result["partialFingerprints"] == {"pipeline/v1": "1" * 32}
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "src/a%20b.py", "uriBaseId": "SRCROOT"},
                "region": {"startLine": 4, "endLine": 6, "startColumn": 2, "endColumn": 9},
            }
        }
    ]
    [rule] = log_of(IN_FILE)["runs"][0]["tool"]["driver"]["rules"]
    assert rule["properties"] == {
        "tags": ["security", "external/cwe/cwe-079", "external/cwe/cwe-089", "sast"],
        "security-severity": "8.0",
    }
    assert rule["help"] == {"text": "pass values as parameters"}


def test_a_waived_finding_stays_as_a_suppression_with_its_reason() -> None:
    """Left out, its alert would be closed, and opened again when the waiver ends."""
    [result] = log_of(WAIVED)["runs"][0]["results"]

    [suppression] = result["suppressions"]
    assert (suppression["kind"], suppression["status"]) == ("external", "accepted")
    assert suppression["justification"].startswith("waived by team-a until 2027-01-01")


def test_a_scan_that_missed_something_did_not_execute_successfully() -> None:
    runs = log_of(IN_FILE, ADVISORY)["runs"]

    assert runs[0]["invocations"] == [
        {
            "executionSuccessful": False,
            "toolExecutionNotifications": [
                {"level": "error", "message": {"text": "incomplete"}},
                {"level": "error", "message": {"text": "b: why"}},
            ],
        }
    ]
    assert runs[1]["invocations"] == [{"executionSuccessful": True}]


def test_a_package_is_shown_at_its_lock_file_and_a_request_nowhere_special() -> None:
    runs = log_of(ADVISORY, REQUEST)["runs"]

    [of_package], [of_request] = (run["results"][0]["locations"] for run in runs[1:])
    assert of_package["physicalLocation"]["artifactLocation"]["uri"] == "requirements.txt"
    assert of_package["logicalLocations"][0]["fullyQualifiedName"] == "pkg:pypi/jinja2@2.10"
    assert of_request["logicalLocations"][0]["name"] == "GET /items/{id} (id)"


def test_more_than_is_shown_is_cut_and_counted_the_worst_first() -> None:
    found = [replace(WAIVED, id=f"{index:032x}", rule=IN_FILE.rule) for index in range(MOST_RESULTS + 3)]

    [run, *_] = log_of(*found)["runs"]

    assert len(run["results"]) == MOST_RESULTS
    assert run["properties"]["cut"] == "3 less severe findings are in findings.json"


def test_gitlab_gets_each_kind_in_its_report() -> None:
    found = (IN_FILE, ADVISORY, REQUEST)

    def locations(kind: str) -> list[dict[str, Any]]:
        report = json.loads(security_report(kind, found, version="1.0", at="2026-11-24T10:00:00"))
        return [one["location"] for one in report["vulnerabilities"]]

    assert locations("sast") == [{"file": "src/a b.py", "start_line": 4, "end_line": 6}]
    assert locations("dependency_scanning") == [
        {"file": "requirements.txt", "dependency": {"package": {"name": "jinja2"}, "version": "2.10"}}
    ]
    assert locations("dast") == [
        {"hostname": "http://app:8000", "method": "GET", "path": "/items/1", "param": "id"}
    ]
    assert locations("secret_detection") == []


def test_gitlab_code_quality_names_files_and_lines() -> None:
    assert json.loads(quality_report([IN_FILE, ADVISORY])) == [
        {
            "description": "a problem",
            "check_name": "S1",
            "fingerprint": "1" * 32,
            "severity": "critical",
            "location": {"path": "src/a b.py", "lines": {"begin": 4}},
        }
    ]


def test_vex_says_what_the_team_said_and_no_more() -> None:
    """Valid by the published schema; a waiver never makes a package unaffected."""
    waiver = replace(WAIVER, rule="", path="", advisory="GHSA-1", package="jinja2")
    verdict = judge(SCANS, [ADVISORY], Policy(), Context(today=TODAY, waivers=[waiver]))

    open_text, waived_text = vex(verdict_on(ADVISORY, IN_FILE).judged), vex(verdict.judged)

    for text in (open_text, waived_text):
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    [open_row], [waived_row] = (json.loads(text)["vulnerabilities"] for text in (open_text, waived_text))
    assert open_row["analysis"] == {"state": "in_triage"}
    assert waived_row["analysis"]["state"] == "exploitable"
    assert waived_row["analysis"]["response"] == ["will_not_fix"]
    assert open_row["affects"] == [{"ref": "pkg:pypi/jinja2@2.10"}]
    assert vex(verdict.judged) == waived_text


def test_a_document_comes_back_as_it_was() -> None:
    verdict = verdict_on(IN_FILE, WAIVED, ADVISORY, REQUEST)
    bare = tuple(replace(one, findings=()) for one in SCANS)
    document = Document(stage="sast", kinds=("dast", "sast"), verdict=verdict, scans=bare)

    assert parse_document(dump_document(document), "findings.json") == document


HOSTILE = "\x00\x1b[31m\ud800 \udcff\u2028\U0001f600<&]]>\r\n\u202e"
BAD_PLACES: list[dict[str, Any]] = [
    {"place": InFile(path=f"src/\udcff{HOSTILE}.py", line=1), "tool": "ruff"},
    {"place": InFile(path="a.py", line=1), "tool": "pylint", "kind": "quality"},
    {"place": package(f"a{HOSTILE}"), "kind": "vulnerability", "tool": "osv"},
    {"place": InRequest(method="GET", url=f"http://a/{HOSTILE}", route=HOSTILE), "kind": "dast"},
]
BAD_NAMES = [
    finding(id=f"{number:032x}", rule=f"R{number}{HOSTILE}", title=HOSTILE, message=HOSTILE * 70_000, **more)
    for number, more in enumerate(BAD_PLACES)
]


def test_text_that_is_no_unicode_reaches_every_reader_as_utf_8() -> None:
    """Names of files that are no UTF-8, control characters, messages of a megabyte."""
    verdict = verdict_on(*BAD_NAMES)
    document = Document(stage="sast", kinds=("sast",), verdict=verdict, scans=())
    reports = [security_report(kind, BAD_NAMES, version="1", at="2026-11-24T10:00:00") for kind in TYPES]
    log = sarif(verdict, SCANS, stage="sast", version="1")
    said = vex(verdict.judged)

    texts = [log, said, dump_document(document), quality_report(BAD_NAMES), *reports]

    assert [json.loads(text.encode("utf-8")) is None for text in texts] == [False] * len(texts)
    assert parse_document(dump_document(document), "f.json") == document
    places = [
        row["locations"][0]["physicalLocation"] for run in json.loads(log)["runs"] for row in run["results"]
    ]
    assert places[0]["artifactLocation"]["uri"].startswith("src/%EF%BF%BD%00%1B%5B31m")
    assert max(len(line) for line in log.splitlines()) < 30_000
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(said) is None


def test_the_name_of_a_file_that_is_no_utf_8_is_told_by_its_bytes() -> None:
    assert uri_path("src/\udcff b~.py") == "src/%FF%20b~.py"


def test_rules_of_findings_that_are_not_shown_are_not_shown() -> None:
    """GitHub refuses a run with more than 25,000 rules."""
    many = [finding(id=f"{number:032x}", rule=f"R{number}") for number in range(MOST_RESULTS + 5)]

    run = log_of(*many)["runs"][0]

    assert len(run["tool"]["driver"]["rules"]) == len(run["results"]) == MOST_RESULTS


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": 2}', '{"schema": 1, "stage": "a"}', '{"schema": 1, "verdict": 3, "scans": []}'],
)
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(FindingsUnreadable, match="cannot read the findings in"):
        parse_document(text, "f.json")
