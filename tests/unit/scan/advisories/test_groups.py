"""One problem under several names is one finding; what sources do not agree on is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.advisories.answer import Match, Settled, SourceInfo
from pipeline.scan.advisories.groups import disagreement, findings_of, fixes_of, group
from pipeline.scan.advisories.severity import severity_of, severity_of_advisory, worst
from pipeline.scan.finding import DataSource, Severity, Witness
from tests.unit.scan.advisories.records import advisory
from tests.unit.scan.advisories.worlds import package

if TYPE_CHECKING:
    from collections.abc import Sequence

OSV = SourceInfo(name="osv", as_of="2026-11-01T00:00:00Z", licence="CC-BY-4.0")
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
V4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


def match(
    name: str,
    aliases: Sequence[str] = (),
    *,
    fixed: str = "",
    affects: bool = True,
    source: SourceInfo = OSV,
    **more: Any,
) -> Match:
    """What one advisory of one source says."""
    told = advisory(name, aliases=list(aliases), **more)
    return Match(advisory=told, source=source, is_affected=affects, fixed=(fixed,) if fixed else ())


@pytest.mark.parametrize(
    ("matches", "groups"),
    [
        ([match("GHSA-1", ["CVE-1"]), match("PYSEC-1", ["CVE-1"])], [("CVE-1", ("GHSA-1", "PYSEC-1"))]),
        ([match("GHSA-1"), match("PYSEC-1", ["GHSA-1"])], [("GHSA-1", ("PYSEC-1",))]),
        ([match("A", ["B"]), match("C", ["B"]), match("D", ["C"])], [("A", ("B", "C", "D"))]),
        ([match("GHSA-1", related=["GHSA-2"]), match("GHSA-2")], [("GHSA-1", ()), ("GHSA-2", ())]),
        ([match("PYSEC-2"), match("PYSEC-1")], [("PYSEC-1", ()), ("PYSEC-2", ())]),
        ([match("GHSA-1", affects=False)], []),
        ([match("GHSA-1", withdrawn="2026-01-01T00:00:00Z")], []),
        (
            [match("GHSA-1", ["CVE-1"], withdrawn="2026-01-01T00:00:00Z"), match("PYSEC-1", ["GHSA-1"])],
            [("CVE-1", ("GHSA-1", "PYSEC-1"))],
        ),
        (
            [
                match("GHSA-1", withdrawn="2026-01-01T00:00:00Z"),
                match("PYSEC-1", ["GHSA-1"], withdrawn="2026-01-01T00:00:00Z"),
            ],
            [],
        ),
        ([match("GHSA-1", withdrawn=None)], [("GHSA-1", ())]),
    ],
    ids=[
        "by-a-common-alias",
        "by-an-id",
        "by-a-chain",
        "not-by-related",
        "without-a-common-name",
        "not-affected",
        "withdrawn",
        "one-of-two-withdrawn",
        "both-withdrawn",
        "withdrawn-is-null",
    ],
)
def test_advisories_are_joined_by_the_names_they_share(
    matches: list[Match], groups: list[tuple[str, tuple[str, ...]]]
) -> None:
    """A CVE stands for the group, else a GHSA, else what there is; withdrawn ones only lend their names."""
    assert [(one.id, one.aliases) for one in group(matches)] == groups


def test_a_group_tells_the_least_fix_first_and_that_sources_disagree() -> None:
    """1.10 is after 1.9; the same version in two spellings is told once."""
    (one,) = group([
        match("GHSA-1", ["CVE-1"], fixed="1.10"),
        match("PYSEC-1", ["CVE-1"], fixed="1.9"),
        match("X-1", ["CVE-1"], fixed="1.9.0"),
    ])  # fmt: skip

    assert fixes_of(one, "PyPI")[-1] == "1.10"
    assert len(fixes_of(one, "PyPI")) == 2
    assert disagreement(one) == "sources disagree on the fix: 1.10 (GHSA-1); 1.9 (PYSEC-1); 1.9.0 (X-1)"


def test_a_source_that_knows_the_problem_and_not_this_version_is_told() -> None:
    """Both views are kept: the finding stays."""
    (one,) = group([match("GHSA-1", ["CVE-1"], fixed="2.0"), match("PYSEC-1", ["CVE-1"], affects=False)])

    assert disagreement(one) == "sources disagree on the versions: PYSEC-1 does not name this one"


def test_sources_that_agree_say_nothing_of_it() -> None:
    """The same fix by two."""
    (one,) = group([match("GHSA-1", ["CVE-1"], fixed="2.0"), match("PYSEC-1", ["CVE-1"], fixed="2.0")])

    assert disagreement(one) == ""


def test_a_finding_has_its_witnesses_its_data_and_the_worst_severity() -> None:
    """Two sources saw it: one finding, with both names and dates."""
    other = SourceInfo(name="own", as_of="2026-10-01T00:00:00Z")
    matches = (
        match("GHSA-1", ["CVE-1"], fixed="2.0", severity=[{"type": "CVSS_V3", "score": V3}], summary="bad."),
        match("OWN-1", ["CVE-1"], fixed="2.0", source=other, database_specific={"severity": "LOW"}),
    )

    (finding,) = findings_of([Settled(package=package(direct=True), state="vulnerable", matches=matches)])

    assert finding.title == "CVE-1 in thing"
    assert finding.message == "bad"
    assert finding.fix == "update thing to 2.0"
    assert finding.severity == Severity(level="critical", basis="CVSS 9.8", score=9.8)
    assert finding.witnesses == (
        Witness(tool="osv", version="", rule="GHSA-1"),
        Witness(tool="own", version="", rule="OWN-1"),
    )
    assert finding.data == (
        DataSource(name="osv", as_of="2026-11-01T00:00:00Z", licence="CC-BY-4.0"),
        DataSource(name="own", as_of="2026-10-01T00:00:00Z"),
    )
    assert finding.where == "thing 1.0"


@pytest.mark.parametrize(
    ("pairs", "rating", "level", "basis"),
    [
        ([("CVSS_V3", V3)], "", "critical", "CVSS 9.8"),
        ([("CVSS_V3", "CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N")], "", "low", "CVSS 1.8"),
        ([("CVSS_V2", "AV:N/AC:L/Au:N/C:P/I:P/A:P")], "", "high", "CVSS 7.5"),
        ([("CVSS_V3", V3), ("CVSS_V4", V4)], "", "critical", "CVSS 9.3"),
        ([("CVSS_V3", "CVSS:3.1/AV:N")], "MODERATE", "medium", "the database says MODERATE"),
        ([("CVSS_V3", "9.8")], "", "unknown", "the advisory gives no severity"),
        ([("Ubuntu", "high")], "", "high", "Ubuntu high"),
        ([], "HIGH", "high", "the database says HIGH"),
        ([], "", "unknown", "the advisory gives no severity"),
        ([("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N")], "", "info", "CVSS 0.0"),
    ],
)
def test_the_severity_is_that_of_the_newest_vector_else_of_a_word(
    pairs: list[tuple[str, str]], rating: str, level: str, basis: str
) -> None:
    """What decided is told; a vector that cannot be read decides nothing."""
    told = severity_of(pairs, rating)

    assert (told.level, told.basis) == (level, basis)


def test_a_malicious_package_is_critical_without_a_vector() -> None:
    """Its record has none."""
    assert severity_of_advisory(advisory("MAL-2026-1")).level == "critical"


def test_unknown_is_only_the_worst_where_nothing_is_known() -> None:
    """A known severity decides."""
    unknown = Severity(level="unknown", basis="the advisory gives no severity")
    low = Severity(level="low", basis="CVSS 2.0", score=2.0)

    assert (worst([unknown, low]), worst([unknown])) == (low, unknown)
