"""Each order of versions gives the answers that the ecosystem's own tool gave.

The files in `orders/` hold what these said: dpkg 1.21, rpm 4.18, npm's semver, Go's x/mod/semver,
RubyGems 3.3, PHP's version_compare over Composer's normal form, Maven's ComparableVersion 3.9.9, apk-tools 3.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scan.advisories.orders import BadVersion, order_of

RECORDED = {
    "dpkg": "Debian",
    "rpm": "Red Hat",
    "apk": "Alpine",
    "npm": "npm",
    "go": "Go",
    "gem": "RubyGems",
    "php": "Packagist",
    "maven": "Maven",
}

WRITTEN = [
    ("PyPI", "1.0.dev1", "<", "1.0a1"),
    ("PyPI", "1.0a1", "<", "1.0b1"),
    ("PyPI", "1.0rc1", "<", "1.0"),
    ("PyPI", "1.0", "=", "1.0.0"),
    ("PyPI", "1.0", "<", "1.0.post1"),
    ("PyPI", "1.0", "<", "1.0+local"),
    ("PyPI", "1!0.1", ">", "2024.1"),
    ("PyPI", "1.0-1", "=", "1.0.post1"),
    ("PyPI", "1.0.0-alpha.1", "=", "1.0a1"),
    ("NuGet", "1.0", "=", "1.0.0.0"),
    ("NuGet", "1.0.0-Beta", "=", "1.0.0-beta"),
    ("NuGet", "1.0.0-beta.2", "<", "1.0.0-beta.10"),
    ("NuGet", "1.0.0.1", ">", "1.0.0"),
    ("NuGet", "1.0.0+abc", "=", "1.0.0"),
    ("NuGet", "1.0.0-rc", "<", "1.0.0"),
    ("Pub", "1.0.0", "<", "1.0.0+1"),
    ("Pub", "1.0.0+1", "<", "1.0.0+2"),
    ("Pub", "1.0.0+2", "<", "1.0.0+10"),
    ("Go", "go1.21rc2", "<", "go1.21.0"),
    ("Go", "go1.21", "=", "1.21.0"),
    ("Go", "1.21.0-0", "<", "go1.21rc2"),
    ("Go", "go1.20.14", "<", "1.21.0-0"),
    ("crates.io", "1.0.0-alpha", "<", "1.0.0"),
    ("crates.io", "1.0.0+20130313", "=", "1.0.0"),
    ("npm", "v1.2", "=", "1.2.0"),
    ("npm", "1.2.3beta", "=", "1.2.3-beta"),
    ("Wolfi", "1.2.3-r0", "<", "1.2.3-r1"),
    ("Ubuntu", "2.31-0ubuntu9.9", "<", "2.31-0ubuntu9.16"),
    ("Rocky Linux", "0:3.0.7-18.el9", "=", "3.0.7-18.el9"),
]

NO_VERSIONS = [
    ("PyPI", "0.1dev-r1716"),
    ("PyPI", "1.0.x"),
    ("PyPI", ""),
    ("npm", "latest"),
    ("npm", "git+ssh://example.org/a.git"),
    ("npm", "1.2.3.4"),
    ("Go", "master"),
    ("Debian", "1.0 2"),
    ("Debian", "x" * 2000),
    ("Alpine", "1.0-2"),
    ("Alpine", "1.0_foo"),
    ("Red Hat", "1.0-2-3"),
    ("RubyGems", "1.0.!"),
    ("RubyGems", " "),
    ("Packagist", "dev-main"),
    ("NuGet", "1.0.*"),
    ("Maven", "[1.0,2.0)"),
    ("Maven", "${project.version}"),
]

SIGN = {-1: "<", 0: "=", 1: ">"}


def recorded() -> list[tuple[str, str, str, str]]:
    """What the tools said: ecosystem, version, sign, version."""
    folder = Path(__file__).parent / "orders"
    return [
        (ecosystem, *line.split(" "))  # type: ignore[misc]
        for name, ecosystem in RECORDED.items()
        for line in (folder / f"{name}.txt").read_text().splitlines()
    ]


def compare(ecosystem: str, left: str, right: str) -> str:
    """Compare two versions by our order."""
    order = order_of(ecosystem)
    assert order is not None
    mine, other = order(left), order(right)
    return SIGN[(mine > other) - (mine < other)]


@pytest.mark.parametrize("ecosystem", RECORDED.values())
def test_versions_compare_as_the_ecosystems_own_tool_compares_them(ecosystem: str) -> None:
    """More than a hundred pairs for each, those the tool called equal included; also the other way round."""
    pairs = [row for row in recorded() if row[0] == ecosystem]
    other_way = {"<": ">", ">": "<", "=": "="}

    wrong = [
        row
        for row in pairs
        if compare(ecosystem, row[1], row[3]) != row[2]
        or compare(ecosystem, row[3], row[1]) != other_way[row[2]]
    ]

    assert wrong == []
    assert len(pairs) > 80


@pytest.mark.parametrize(("ecosystem", "left", "sign", "right"), WRITTEN)
def test_versions_compare_as_the_specification_says(ecosystem: str, left: str, sign: str, right: str) -> None:
    """PEP 440, NuGet, Dart, Go's toolchains, and what else has no tool in the tables."""
    assert compare(ecosystem, left, right) == sign


@pytest.mark.parametrize(("ecosystem", "text"), NO_VERSIONS)
def test_text_that_is_no_version_is_refused(ecosystem: str, text: str) -> None:
    """Nothing is guessed: who asks is told which text it was."""
    order = order_of(ecosystem)
    assert order is not None

    with pytest.raises(BadVersion) as caught:
        order(text)

    assert caught.value.text == text


def test_an_ecosystem_nobody_knows_has_no_order() -> None:
    """Its packages cannot be judged, which the caller says."""
    assert (order_of("Homebrew"), order_of("Debian:12") is order_of("Debian")) == (None, True)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is no part of this system")
@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.from_regex(r"(?:[01]:)?[0-9][0-9a-z.+~]{0,6}(?:-[0-9a-z.+~]{1,4})?", fullmatch=True)] * 2)
)
def test_dpkg_agrees_about_any_two_versions(pair: tuple[str, str]) -> None:
    """The tool itself is asked."""
    left, right = pair
    relation = {"<": "lt", "=": "eq", ">": "gt"}[compare("Debian", left, right)]

    argv = ["dpkg", "--compare-versions", left, relation, right]

    assert subprocess.run(argv, check=False).returncode == 0


ANY_VERSION = st.from_regex(r"[0-9][0-9a-z.~^_+-]{0,10}", fullmatch=True)


@pytest.mark.parametrize(
    "ecosystem", ["Debian", "Red Hat", "Alpine", "npm", "RubyGems", "Packagist", "Maven"]
)
@settings(max_examples=60, deadline=None)
@given(versions=st.lists(ANY_VERSION, min_size=3, max_size=3))
def test_every_order_is_an_order(ecosystem: str, versions: list[str]) -> None:
    """Each version equals itself; of any three, sorting them leaves none before a lesser one."""
    order = order_of(ecosystem)
    assert order is not None
    try:
        keys = [order(version) for version in versions]
    except BadVersion:
        return

    low, middle, high = sorted(keys)

    assert not low > middle
    assert not middle > high
    assert not low > high
