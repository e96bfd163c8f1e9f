"""Versions that are easily judged wrong, with the answer that the specifications give.

A row: the ecosystem, the advisory, the installed version, and what is expected: the fix of an affected
version ("" without one), None for one that is not affected, or `UNKNOWN`.
"""
# ruff: noqa: E501 - the rows of a table

from __future__ import annotations

from typing import Any

import pytest

from pipeline.scan.advisories.match import Installed, Verdict, about, judge
from pipeline.scan.advisories.osv import parse_advisory
from tests.unit.scan.advisories.records import between, record

UNKNOWN = object()

TWO_RANGES = [
    {"type": "ECOSYSTEM", "events": between("0 1.5")},
    {"type": "ECOSYSTEM", "events": between("2.0 2.3")},
]
GIT = {"type": "GIT", "repo": "https://example.org/x.git", "events": [{"introduced": "0"}, {"fixed": "abc"}]}
UNSORTED = [
    {"introduced": "2.1"},
    {"fixed": "2.1.10"},
    {"introduced": "2.2"},
    {"fixed": "2.2.3"},
    {"introduced": "1.11"},
    {"fixed": "1.11.22"},
]
LIMITED = [{"introduced": "1.0"}, {"limit": "2.0"}]
LIMITS = [{"introduced": "1.0"}, {"limit": "1.2"}, {"limit": "2.0"}]

PYTHON: list[tuple[str, dict[str, Any], str, object]] = [
    ("before-the-fix", {"events": between("0 1.5")}, "1.4", "1.5"),
    ("the-fix-itself", {"events": between("0 1.5")}, "1.5", None),
    ("ten-is-after-nine", {"events": between("0 1.10")}, "1.9", "1.10"),
    ("ten-is-not-one", {"events": between("0 1.9")}, "1.10", None),
    ("first-version-of-the-range", {"events": between("1.2 1.5")}, "1.2", "1.5"),
    ("before-the-range", {"events": between("1.2 1.5")}, "1.1.9", None),
    ("zero-is-before-pre-releases", {"events": between("0 1.5")}, "0.0.1.dev1", "1.5"),
    ("pre-release-of-the-fix", {"events": between("0 1.5")}, "1.5rc1", "1.5"),
    ("dev-release-of-the-fix", {"events": between("0 1.5")}, "1.5.dev0", "1.5"),
    ("pre-release-of-the-first", {"events": between("1.5 2.0")}, "1.5rc1", None),
    ("pre-release-as-first", {"events": between("1.5a1 2.0")}, "1.5rc1", "2.0"),
    ("post-release-of-the-fix", {"events": between("0 1.5")}, "1.5.post1", None),
    ("post-release-as-fix", {"events": between("0 1.5.post1")}, "1.5", "1.5.post1"),
    ("trailing-zeros", {"events": between("0 1.5")}, "1.5.0.0", None),
    ("last-affected", {"events": between("0 =1.5")}, "1.5", ""),
    ("last-affected-with-zeros", {"events": between("0 =1.5")}, "1.5.0", ""),
    ("after-last-affected", {"events": between("0 =1.5")}, "1.5.1", None),
    ("post-release-after-last-affected", {"events": between("0 =1.5")}, "1.5.post1", None),
    ("build-of-last-affected", {"events": between("0 =1.5")}, "1.5+cu118", ""),
    ("build-of-a-listed-version", {"versions": ["1.5"]}, "1.5+cu118", ""),
    ("build-of-the-fix", {"events": between("0 1.5")}, "1.5+cu118", None),
    ("build-before-a-fix-in-a-build", {"events": between("0 1.5+sec2")}, "1.5+sec1", "1.5+sec2"),
    ("build-that-is-the-fix", {"events": between("0 1.5+sec2")}, "1.5+sec2", None),
    ("epoch-is-after-all", {"events": between("0 2024.1")}, "1!1.0", None),
    ("epoch-in-the-fix", {"events": between("0 1!1.0")}, "2024.1", "1!1.0"),
    ("one-version", {"events": between("1.4 =1.4")}, "1.4", ""),
    ("beside-one-version", {"events": between("1.4 =1.4")}, "1.4.1", None),
    ("no-end", {"events": between("1.4 -")}, "99", ""),
    ("first-of-two-ranges", {"ranges": TWO_RANGES}, "1.0", "1.5"),
    ("between-two-ranges", {"ranges": TWO_RANGES}, "1.7", None),
    ("second-of-two-ranges", {"ranges": TWO_RANGES}, "2.0", "2.3"),
    ("after-two-ranges", {"ranges": TWO_RANGES}, "2.3", None),
    ("two-intervals-in-one-range", {"events": between("0 1.5", "2.0 2.3")}, "2.2", "2.3"),
    ("between-two-intervals", {"events": between("0 1.5", "2.0 2.3")}, "1.9", None),
    ("events-out-of-order-first", {"events": UNSORTED}, "1.11.3", "1.11.22"),
    ("events-out-of-order-gap", {"events": UNSORTED}, "2.1.10", None),
    ("events-out-of-order-last", {"events": UNSORTED}, "2.2.2", "2.2.3"),
    ("introduced-again-at-the-fix", {"events": between("0 1.5", "1.5 1.7")}, "1.5", "1.7"),
    ("a-fix-that-is-affected-is-none", {"events": between("0 1.5", "1.5 1.7")}, "1.2", "1.7"),
    ("introduced-and-fixed-at-once", {"events": between("1.5 1.5")}, "1.5", None),
    ("limit-is-outside", {"events": LIMITED}, "2.0", None),
    ("before-the-limit", {"events": LIMITED}, "1.9", ""),
    ("any-limit-will-do", {"events": LIMITS}, "1.5", ""),
    ("no-limit", {"events": [{"introduced": "0"}, {"limit": "*"}]}, "7", ""),
    ("no-limit-beside-a-limit", {"events": [{"introduced": "0"}, {"limit": "*"}, {"limit": "1.0"}]}, "7", ""),
    ("another-build-than-the-listed", {"versions": ["1.5+cu118"]}, "1.5+cu121", None),
    ("release-of-the-listed-build", {"versions": ["1.5+cu118"]}, "1.5", None),
    ("the-listed-build", {"versions": ["1.5+cu118"]}, "1.5.0+cu118", ""),
    ("two-keys-in-one-event", {"events": [{"introduced": "0", "fixed": "1.5"}]}, "1.5", None),
    ("listed", {"versions": ["1.4", "1.6"]}, "1.4", ""),
    ("not-listed", {"versions": ["1.4", "1.6"]}, "1.5", None),
    ("listed-in-another-spelling", {"versions": ["1.4.0"]}, "1.4", ""),
    ("listed-pre-release-in-another-spelling", {"versions": ["1.4-rc.1"]}, "1.4rc1", ""),
    ("listed-beside-a-range", {"versions": ["0.9"], "events": between("1.0 1.5")}, "0.9", "1.5"),
    ("in-the-range-beside-a-list", {"versions": ["1.0"], "events": between("1.0 1.5")}, "1.3", "1.5"),
    ("listed-beside-odd-versions", {"versions": ["0.1dev-r1716", "1.4"]}, "1.4", ""),
    ("git-range-and-list", {"ranges": [GIT], "versions": ["1.4"]}, "1.4", ""),
    ("git-range-and-another-in-the-list", {"ranges": [GIT], "versions": ["1.4"]}, "1.5", None),
    ("git-range-beside-versions", {"ranges": [GIT, *TWO_RANGES]}, "2.1", "2.3"),
    ("git-range-alone", {"ranges": [GIT]}, "1.4", UNKNOWN),
    ("nothing-said-of-versions", {}, "1.4", UNKNOWN),
    ("bad-version-in-a-range", {"events": between("0 1.x")}, "1.4", UNKNOWN),
    ("bad-version-beside-a-good-range", {"ranges": [*TWO_RANGES, {"type": "ECOSYSTEM", "events": between("0 x")}]}, "1.4", "1.5"),
    ("name-with-other-signs", {"package": "Thing.One", "events": between("0 1.5")}, "1.4", None),
]  # fmt: skip

OTHERS: list[tuple[str, str, dict[str, Any], str, object]] = [
    ("npm-pre-release-of-the-fix", "npm", {"events": between("0 1.5.0")}, "1.5.0-rc.1", "1.5.0"),
    ("npm-zero-pre-release-as-first", "npm", {"events": between("2.0.0-0 2.1.0")}, "2.0.0-alpha", "2.1.0"),
    ("npm-pre-release-before-the-first", "npm", {"events": between("2.0.0 2.1.0")}, "2.0.0-alpha", None),
    ("npm-build-is-nothing", "npm", {"events": between("0 1.5.0")}, "1.5.0+abc", None),
    ("npm-numbers-in-pre-releases", "npm", {"events": between("0 1.0.0-beta.11")}, "1.0.0-beta.2", "1.0.0-beta.11"),
    ("npm-names-keep-their-case", "npm", {"package": "Thing", "events": between("0 9.0.0")}, "1.0.0", None),
    ("go-leading-v", "Go", {"events": between("0 1.2.4")}, "v1.2.3", "1.2.4"),
    ("go-pseudo-before-the-fix", "Go", {"events": between("0 0.0.0-20220314234659-1baeb1ce4c0b")}, "v0.0.0-20210921155107-089bfa567519", "0.0.0-20220314234659-1baeb1ce4c0b"),
    ("go-pseudo-of-the-fix", "Go", {"events": between("0 0.0.0-20220314234659-1baeb1ce4c0b")}, "v0.0.0-20220314234659-1baeb1ce4c0b", None),
    ("go-pseudo-before-a-release", "Go", {"events": between("0 1.2.4")}, "v1.2.4-0.20200101000000-abcdefabcdef", "1.2.4"),
    ("go-incompatible", "Go", {"events": between("0 2.0.1")}, "v2.0.1+incompatible", None),
    ("go-toolchain-candidate", "Go", {"events": between("1.21.0-0 1.21.8")}, "go1.21rc3", "1.21.8"),
    ("go-toolchain-of-another-branch", "Go", {"events": between("0 1.21.8", "1.22.0-0 1.22.1")}, "go1.21.8", None),
    ("debian-epoch", "Debian:12", {"events": between("0 1:2.0-1")}, "9.0-1", "1:2.0-1"),
    ("debian-tilde", "Debian:12", {"events": between("0 2.0-1")}, "2.0-1~deb12u1", "2.0-1"),
    ("debian-update-number", "Debian:12", {"events": between("0 7.88.1-10+deb12u12")}, "7.88.1-10+deb12u4", "7.88.1-10+deb12u12"),
    ("debian-zero-epoch-listed", "Debian:12", {"versions": ["0:2.0-1"]}, "2.0-1", ""),
    ("debian-listed-with-a-zero", "Debian:12", {"versions": ["2.0.1-0"]}, "2.0.01", ""),
    ("npm-listed-with-a-build", "npm", {"versions": ["1.5.0"]}, "1.5.0+abc", ""),
    ("nuget-listed-with-three-numbers", "NuGet", {"versions": ["4.3.4-Beta"]}, "4.3.4.0-beta", ""),
    ("debian-zero-revision", "Debian:12", {"events": between("0 2.0-0")}, "2.0", None),
    ("debian-never-affected", "Debian:12", {"events": between("0 0")}, "2.0-1", None),
    ("debian-of-another-release", "Debian:12", {"ecosystem": "Debian:11", "events": between("0 -")}, "2.0-1", None),
    ("debian-of-every-release", "Debian:12", {"ecosystem": "Debian", "events": between("0 -")}, "2.0-1", ""),
    ("debian-of-a-longer-number", "Debian:1", {"ecosystem": "Debian:12", "events": between("0 -")}, "2.0-1", None),
    ("ubuntu-long-term", "Ubuntu:22.04", {"ecosystem": "Ubuntu:22.04:LTS", "events": between("0 -")}, "2.0-1", ""),
    ("ubuntu-paid-is-another", "Ubuntu:22.04", {"ecosystem": "Ubuntu:Pro:22.04:LTS", "events": between("0 -")}, "2-1", None),
    ("alpine-with-v", "Alpine:3.19", {"ecosystem": "Alpine:v3.19", "events": between("0 1.36.1-r16")}, "1.36.1-r15", "1.36.1-r16"),
    ("alpine-candidate", "Alpine:v3.19", {"events": between("0 1.5-r0")}, "1.5_rc1-r0", "1.5-r0"),
    ("alpine-patch-level", "Alpine:v3.19", {"events": between("0 9.6_p1-r0")}, "9.6-r3", "9.6_p1-r0"),
    ("rpm-epoch", "Red Hat:9", {"events": between("0 1:3.0.7-18.el9")}, "9.0-1.el9", "1:3.0.7-18.el9"),
    ("rpm-caret", "Rocky Linux:9", {"events": between("0 1.0^git2-1")}, "1.0-1", "1.0^git2-1"),
    ("rpm-tilde", "Rocky Linux:9", {"events": between("0 1.0-1")}, "1.0~rc1-1", "1.0-1"),
    ("rpm-release-numbers", "AlmaLinux:8", {"events": between("0 1.0-10.el8")}, "1.0-9.el8", "1.0-10.el8"),
    ("rpm-by-its-cpe", "Red Hat:9", {"ecosystem": "Red Hat:enterprise_linux:9::baseos", "events": between("0 2-1")}, "1-1", "2-1"),
    ("rpm-by-the-cpe-of-another", "Red Hat:9", {"ecosystem": "Red Hat:enterprise_linux:8::baseos", "events": between("0 2-1")}, "1-1", None),
    ("rpm-by-the-cpe-of-extended-support", "Red Hat:9", {"ecosystem": "Red Hat:rhel_eus:9.2::baseos", "events": between("0 2-1")}, "1-1", None),
    ("minor-version-of-a-distribution", "Rocky Linux:9.3", {"ecosystem": "Rocky Linux:9", "events": between("0 2-1")}, "1-1", "2-1"),
    ("patch-version-of-alpine", "Alpine:3.19.1", {"ecosystem": "Alpine:v3.19", "events": between("0 2-r1")}, "1-r1", "2-r1"),
    ("other-branch-of-alpine", "Alpine:3.19.1", {"ecosystem": "Alpine:v3.1", "events": between("0 2-r1")}, "1-r1", None),
    ("maven-qualifier", "Maven", {"package": "g:thing", "events": between("0 2.15.0")}, "2.15.0-rc1", "2.15.0"),
    ("maven-service-pack", "Maven", {"package": "g:thing", "events": between("0 1.0-sp1")}, "1.0.Final", "1.0-sp1"),
    ("maven-flavour", "Maven", {"package": "g:thing", "events": between("0 32.0.0-android")}, "31.1-jre", "32.0.0-android"),
    ("maven-snapshot", "Maven", {"package": "g:thing", "events": between("0 2.0")}, "2.0-SNAPSHOT", "2.0"),
    ("gem-word-is-pre-release", "RubyGems", {"events": between("0 1.0.0")}, "1.0.0.rc1", "1.0.0"),
    ("gem-fourth-number", "RubyGems", {"events": between("0 5.2.4.3")}, "5.2.4.2", "5.2.4.3"),
    ("cargo-pre-release-of-a-patched-branch", "crates.io", {"events": between("0.1.0 0.2.23", "0.3.0-0 0.3.20")}, "0.3.0-rc.1", "0.3.20"),
    ("cargo-dash-and-underscore", "crates.io", {"package": "th_ing", "events": between("0 1.0.0")}, "0.9.0", None),
    ("composer-leading-v", "Packagist", {"events": between("0 4.4.13")}, "v4.4.12", "4.4.13"),
    ("composer-beta", "Packagist", {"events": between("0 2.0.0")}, "2.0.0-beta2", "2.0.0"),
    ("composer-patch", "Packagist", {"events": between("0 2.0.0")}, "2.0.0-p1", None),
    ("nuget-four-numbers", "NuGet", {"events": between("0 4.3.4")}, "4.3.4.0", None),
    ("nuget-names-without-case", "NuGet", {"package": "Thing", "events": between("0 4.3.4")}, "4.3.3", "4.3.4"),
    ("pub-build-is-later", "Pub", {"events": between("0 1.0.0+2")}, "1.0.0+1", "1.0.0+2"),
    ("same-name-elsewhere", "npm", {"ecosystem": "PyPI", "events": between("0 -")}, "1.0.0", None),
    ("unknown-order-and-a-list", "Homebrew", {"versions": ["1.0"]}, "1.0", ""),
    ("unknown-order-and-a-range", "Homebrew", {"events": between("0 1.0")}, "0.9", UNKNOWN),
]  # fmt: skip

ROWS = [(name, "PyPI", told, version, wanted) for name, told, version, wanted in PYTHON] + OTHERS


def expected(wanted: object) -> tuple[bool, str, bool]:
    """Affected, fix, undecided."""
    return (isinstance(wanted, str), wanted if isinstance(wanted, str) else "", wanted is UNKNOWN)


def short(verdict: Verdict) -> tuple[bool, str, bool]:
    """The same of a verdict."""
    return (verdict.is_affected, verdict.fixed, bool(verdict.undecided))


@pytest.mark.parametrize(
    ("ecosystem", "told", "version", "wanted"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_tricky_version_is_judged_right(
    ecosystem: str, told: dict[str, Any], version: str, wanted: object
) -> None:
    """Whether the advisory speaks of it, and which version mends it."""
    advisory = parse_advisory(record(**{"ecosystem": ecosystem, **told}))
    name = "g:thing" if ecosystem == "Maven" else "thing"

    verdict = judge(about(advisory, ecosystem, name), Installed(ecosystem, version))

    assert short(verdict) == expected(wanted)


def test_there_are_more_than_eighty_traps_and_each_has_a_name_of_its_own() -> None:
    """A trap that is lost would not be missed otherwise."""
    names = [row[0] for row in ROWS]

    assert len(names) > 100
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("ecosystem", "told", "asked"),
    [
        ("PyPI", "Thing_One.two", "thing-one-two"),
        ("PyPI", "thing--one", "Thing.one"),
        ("crates.io", "Th_ing", "th-ing"),
        ("NuGet", "Newtonsoft.Json", "newtonsoft.json"),
        ("Packagist", "Symfony/Http-Kernel", "symfony/http-kernel"),
        ("GitHub Actions", "Owner/Repo", "owner/repo"),
        ("SwiftURL", "https://example.org/a/B.git", "example.org/a/b"),
    ],
)
def test_a_name_is_found_in_any_spelling_its_registry_allows(ecosystem: str, told: str, asked: str) -> None:
    """As lock files and advisories write it."""
    advisory = parse_advisory(record(package=told, ecosystem=ecosystem, versions=["1.0.0"]))

    assert judge(about(advisory, ecosystem, asked), Installed(ecosystem, "1.0.0")).is_affected
