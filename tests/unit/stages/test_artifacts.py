"""Which packages the licence policy judges."""

from __future__ import annotations

from pipeline.scan.packages.package import Package
from pipeline.scan.sbom import Part
from pipeline.stages.artifacts import licence_scan

APPLICATION = Package(name="notes", version="1", ecosystem="PyPI", licence="MIT")
PARTS = [
    Part(name="notes", version="1", kind="application", packages=(APPLICATION,)),
    Part(
        name="image",
        version="",
        kind="container",
        packages=(
            Package(name="bash", version="5", ecosystem="Debian:12", licence="GPL-3.0-or-later"),
            Package(name="odd", version="1", ecosystem="Debian:12"),
            Package(name="musl", version="1", ecosystem="Alpine:v3.20", licence="MIT"),
            Package(name="left-pad", version="1", ecosystem="npm", licence="WTFPL"),
        ),
        digest="sha256:" + "0" * 64,
    ),
]


def test_a_distributions_packages_are_judged_only_where_the_policy_names_them() -> None:
    """Every Debian image holds packages under the GPL, whatever an application may bring."""
    scan = licence_scan(PARTS, {"licences_denied": ["GPL-*"]})

    assert (scan.findings, scan.coverage.expected) == ((), 1)


def test_a_policy_for_the_systems_packages_judges_these() -> None:
    scan = licence_scan(PARTS, {"system_licences_denied": ["GPL-3.0-*"]})

    assert [(one.where, one.rule.id, one.severity.level) for one in scan.findings] == [
        ("bash 5", "licence-denied", "high"),
        ("odd 1", "licence-unknown", "low"),
    ]
    assert scan.coverage.expected == 4
