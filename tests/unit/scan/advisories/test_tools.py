"""Audit tools end well, or as if they had found something, when they looked at nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.advisories.settle import scan_of, settle
from pipeline.scan.advisories.sources.debian import MARK, DebianEvidence, lacking
from pipeline.scan.advisories.sources.npm_audit import NpmAudit
from pipeline.scan.advisories.sources.pip_audit import PipAudit
from pipeline.scan.advisories.sources.safety import Safety
from pipeline.scan.scanner import Ran
from tests.unit.scan.advisories.worlds import package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.advisories.answer import SourceAnswer
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Scan

PINS = [package("django", "2.2.0"), package("jinja2", "2.10")]
NODE = [package("lodash", "4.17.4", "npm"), package("left-pad", "1.0.0", "npm")]
SKIPPED = "Dependency not found on PyPI and could not be audited"
TRACEBACK = b"Traceback (most recent call last):\nConnectionError: Name or service not known"


def scan(packages: Sequence[Package], answer: SourceAnswer) -> Scan:
    """What a scan with this one source says."""
    return scan_of(settle(packages, [answer]), [answer])


def ran(table: object, code: int | None = 0, stderr: bytes = b"") -> Ran:
    """A tool that printed JSON."""
    stdout = table if isinstance(table, bytes) else json.dumps(table).encode()
    return Ran(exit_code=code, stdout=stdout, stderr=stderr)


def audited(*rows: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What pip-audit prints."""
    return {"dependencies": [{"name": n, "version": v, "vulns": found} for n, v, found in rows], "fixes": []}


CONTROL = (
    "requests",
    "2.19.0",
    [{"id": "PYSEC-2018-28", "aliases": [], "fix_versions": ["2.20.0"], "description": ""}],
)
FOUND = {
    "id": "PYSEC-2019-217",
    "aliases": ["CVE-2019-10906"],
    "fix_versions": ["2.10.1"],
    "description": "In Pallets Jinja",
}


def test_pip_audit_is_asked_about_the_pins_and_one_that_is_known_to_be_vulnerable() -> None:
    """Nothing is installed or built; names are normalised."""
    (command,) = PipAudit().commands(
        [package("Jinja2", "2.10"), package("x", ""), package("y", "1.0.0", "npm")]
    )

    assert list(command.files.values()) == ["jinja2==2.10\nrequests==2.19.0\n"]
    assert command.argv[:3] == ("pip-audit", "--format", "json")
    assert {"--no-deps", "--disable-pip"} <= set(command.argv)


def test_pip_audit_tells_what_it_found_whatever_its_exit_code() -> None:
    """A package without a finding that it names is clean."""
    packages = [package("jinja2", "2.10"), package("idna", "3.7")]
    table = audited(CONTROL, ("jinja2", "2.10", [FOUND]), ("idna", "3.7", []))

    told = scan(packages, PipAudit().read(packages, [ran(table, 1)]))

    assert (told.state, told.coverage.seen) == ("complete", 2)
    assert [(one.rule.id, one.fix) for one in told.findings] == [
        ("CVE-2019-10906", "update jinja2 to 2.10.1")
    ]


PIP_AUDIT: dict[str, tuple[Ran, str, int]] = {
    "every dependency skipped": (
        ran(
            {
                "dependencies": [
                    {"name": n, "skip_reason": SKIPPED} for n in ("requests", "django", "jinja2")
                ],
                "fixes": [],
            }
        ),
        SKIPPED,
        0,
    ),
    "a traceback and no JSON": (ran(b"", 1, TRACEBACK), "Name or service not known", 0),
    "no output and exit code 0": (ran(b""), "no output", 0),
    "html": (ran(b"<html></html>"), "gave no answer", 0),
    "other JSON": (ran({"message": "down"}), "gave no answer", 0),
    "an empty list": (ran({"dependencies": [], "fixes": []}), "finds nothing wrong with requests 2.19.0", 0),
    "nothing wrong with the control": (
        ran(audited(("requests", "2.19.0", []), ("django", "2.2.0", []), ("jinja2", "2.10", []))),
        "finds nothing wrong with requests 2.19.0",
        0,
    ),
    "stopped in its time": (ran(b"", None), "gave no answer", 0),
}


@pytest.mark.parametrize("name", PIP_AUDIT)
def test_pip_audit_that_looked_at_nothing_is_unavailable(name: str) -> None:
    """An index without a page for each release, a name that does not resolve, and their kin."""
    run, why, seen = PIP_AUDIT[name]

    told = scan(PINS, PipAudit().read(PINS, [run]))

    assert (told.state, told.coverage.seen, told.findings) == ("unavailable", seen, ())
    assert why in told.reason


def test_pip_audit_that_skipped_one_of_two_is_incomplete() -> None:
    """The one it judged is clean, the other unknown with the tool's own reason."""
    packages = [package("idna", "3.7"), package("ours", "1.0"), package("left", "1.0")]
    table = audited(CONTROL, ("idna", "3.7", []))
    table["dependencies"].append({"name": "ours", "skip_reason": SKIPPED})

    told = scan(packages, PipAudit().read(packages, [ran(table)]))

    assert (told.state, told.coverage.seen) == ("incomplete", 1)
    assert [one.why for one in told.coverage.missed] == [SKIPPED, "pip-audit did not speak of it"]


def npm(vulnerabilities: object) -> Ran:
    """What npm audit prints."""
    return ran({"auditReportVersion": 2, "vulnerabilities": vulnerabilities}, 1)


VIA = {
    "source": 1106913,
    "name": "lodash",
    "title": "Prototype pollution",
    "url": "https://github.com/advisories/GHSA-jf85-cpcp-j695",
    "severity": "critical",
    "cwe": ["CWE-1321"],
    "cvss": {"score": 9.1, "vectorString": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:H/A:H"},
}
LODASH = {"lodash": {"name": "lodash", "via": [VIA, "other"], "range": "<4.17.12"}}
NO_ENDPOINT = ran({"message": "405 Method Not Allowed - POST", "statusCode": 405}, 1)


def test_npm_audit_tells_what_it_found() -> None:
    """A control of its own is looked at first."""
    tool = NpmAudit(folder="/src")

    told = scan(NODE, tool.read(NODE, [npm(LODASH), npm(LODASH)]))

    assert [one.argv[-1] for one in tool.commands()] == ["/tmp/control", "/src"]
    assert (told.state, told.coverage.seen) == ("complete", 2)
    (finding,) = told.findings
    assert (finding.rule.id, finding.severity.basis, finding.cwe) == (
        "GHSA-jf85-cpcp-j695",
        "CVSS 9.1",
        (1321,),
    )


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ([NO_ENDPOINT, NO_ENDPOINT], "405 Method Not Allowed"),
        ([npm(LODASH), NO_ENDPOINT], "405 Method Not Allowed"),
        ([npm({}), npm({})], "finds nothing wrong with lodash 4.17.4"),
        ([ran(b"", 1), ran(b"", 1)], "gave no answer"),
        ([npm(LODASH), ran(b"<html>")], "gave no answer"),
        ([npm(LODASH), npm([])], "gave no answer"),
    ],
    ids=["no-endpoint", "no-endpoint-later", "empty-database", "no-output", "html", "another-kind"],
)
def test_npm_audit_that_looked_at_nothing_is_unavailable(runs: list[Ran], why: str) -> None:
    """A mirror without the endpoint ends with the code of findings."""
    told = scan(NODE, NpmAudit(folder="/src").read(NODE, runs))

    assert (told.state, told.coverage.seen, told.findings) == ("unavailable", 0, ())
    assert why in told.reason


def test_safety_tells_what_it_found_of_the_packages_it_scanned() -> None:
    """A package it does not name is unknown."""
    packages = [package("jinja2", "2.10"), package("idna", "3.7"), package("ours", "1.0")]
    found = {"package_name": "jinja2", "analyzed_version": "2.10", "vulnerability_id": "54679"}
    table = {
        "scanned_packages": {"jinja2": {}, "idna": {}, "django": {}},
        "vulnerabilities": [
            {"package_name": "django", "analyzed_version": "2.2", "vulnerability_id": "1"},
            {**found, "CVE": "CVE-2019-10906", "advisory": "bad", "fixed_versions": ["2.10.1"]},
        ],
    }

    told = scan(packages, Safety().read(packages, [ran(table, 64)]))

    assert (told.state, told.coverage.seen) == ("incomplete", 2)
    assert [(one.rule.id, one.fix) for one in told.findings] == [
        ("CVE-2019-10906", "update jinja2 to 2.10.1")
    ]


@pytest.mark.parametrize(
    "run",
    [ran(b"", 1, TRACEBACK), ran(b"", 68), ran({"vulnerabilities": []}), ran({"scanned_packages": {}})],
    ids=["traceback", "unreachable", "nothing-wrong-with-the-control", "no-list"],
)
def test_safety_that_looked_at_nothing_is_unavailable(run: Ran) -> None:
    """It crashes without a network, even with a database of its own."""
    told = scan(PINS, Safety().read(PINS, [run]))

    assert (told.state, told.coverage.seen, told.findings) == ("unavailable", 0, ())


CHANGELOG = """libgcrypt20 (1.10.1-3+deb12u2) bookworm-security; urgency=medium

  * Fix CVE-2026-50000.

 -- A <a@example.org>  Mon, 01 Jun 2026 00:00:00 +0000

libgcrypt20 (1.10.1-3+deb12u1) bookworm-security; urgency=medium

  * Fix CVE-2026-41989 and CVE-2026-50000 in part.

libgcrypt20 (1.10.1-3) unstable; urgency=medium

  * Fix CVE-2020-11111.
"""


def test_a_changelog_tells_which_fixes_the_installed_version_lacks() -> None:
    """The first version above it that names a CVE is the one that mends it."""
    assert lacking(CHANGELOG, "1.10.1-3") == [
        ("CVE-2026-41989", "1.10.1-3+deb12u1"),
        ("CVE-2026-50000", "1.10.1-3+deb12u1"),
    ]
    assert lacking(CHANGELOG, "1.10.1-3+deb12u1") == [("CVE-2026-50000", "1.10.1-3+deb12u2")]
    assert lacking(CHANGELOG, "1.10.1-3+deb12u2") == []


def test_the_mirrors_evidence_adds_findings_and_proves_nothing_clean() -> None:
    """It sees what is mended already and nothing else."""
    packages = [package("libgcrypt20", "1.10.1-3", "Debian:12"), package("bash", "5.2", "Debian:12")]
    said = (
        f"{MARK} begin\n{MARK} package libgcrypt20 1.10.1-3 1.10.1-3+deb12u2 Debian-Security:12\n"
        f"{CHANGELOG}{MARK} end\n"
    )

    told = scan(packages, DebianEvidence().read(packages, [ran(said.encode())]))

    assert [(one.rule.id, one.fix) for one in told.findings] == [
        ("CVE-2026-41989", "update libgcrypt20 to 1.10.1-3+deb12u1"),
        ("CVE-2026-50000", "update libgcrypt20 to 1.10.1-3+deb12u1"),
    ]
    assert (told.state, told.coverage.seen) == ("incomplete", 1)


@pytest.mark.parametrize("said", [b"", f"{MARK} begin\n".encode(), b"E: Unable to fetch"])
def test_a_mirror_that_does_not_answer_is_unavailable(said: bytes) -> None:
    """A script that stopped half way is no answer."""
    answer = DebianEvidence().read([package("bash", "5.2", "Debian:12")], [ran(said, 100)])

    assert (answer.state, answer.is_partial) == ("unavailable", True)
