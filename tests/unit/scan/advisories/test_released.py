"""The package index tells when a release came out."""

from __future__ import annotations

import pytest

from pipeline.scan.advisories.released import version_of, with_release_times
from pipeline.scan.probe import Network, Probe
from tests.unit.scan.advisories.worlds import as_json, package, serving

pytestmark = pytest.mark.anyio

FILES = [
    {"filename": "thing_one-1.0-py3-none-any.whl", "upload-time": "2026-11-22T08:00:00Z"},
    {"filename": "thing-one-1.0.0.tar.gz", "upload-time": "2026-11-21T08:00:00Z"},
    {"filename": "thing_one-2.0-py3-none-any.whl", "upload-time": "2026-11-23T08:00:00Z"},
    {"filename": "other-1.0.tar.gz", "upload-time": "2020-01-01T00:00:00Z"},
    {"filename": "thing-one-3.0.tar.gz"},
    "nothing",
]


def index(_: str, path: str, __: bytes) -> tuple[int, str, bytes]:
    """An index that has one package."""
    if path == "/simple/thing-one/":
        return as_json({"files": FILES})
    return 200, "text/html", b"<html></html>"


async def test_a_release_came_out_with_its_first_file() -> None:
    """What the index does not tell stays unknown; private packages are not asked for."""
    packages = [
        package("Thing.One", "1.0"),
        package("thing-one", "3.0"),
        package("page", "1.0"),
        package("ours", "1.0", private="a folder"),
        package("known", "1.0", released="2020-01-01"),
        package("left-pad", "1.0.0", "npm"),
    ]
    with serving(index) as (address, asked):
        told = await with_release_times(packages, f"{address}/simple", Probe(Network()))

    assert [one.released for one in told] == ["2026-11-21T08:00:00Z", "", "", "", "2020-01-01", ""]
    assert sorted(asked) == ["GET /simple/page/", "GET /simple/thing-one/"]


async def test_an_offline_run_does_not_ask() -> None:
    """The times stay unknown."""
    packages = [package()]

    assert await with_release_times(packages, "", Probe(Network(offline=True))) == packages


@pytest.mark.parametrize(
    ("filename", "version"),
    [
        ("thing_one-1.0-py3-none-any.whl", "1.0"),
        ("thing_one-1.0-1-py3-none-any.whl", "1.0"),
        ("thing-one-1.0.tar.gz", "1.0"),
        ("Thing.One-1.0.zip", "1.0"),
        ("thing-1.0.tar.gz", ""),
        ("thing_one-1.0-py3.egg", ""),
        ("", ""),
    ],
)
def test_the_version_is_read_out_of_the_name_of_a_file(filename: str, version: str) -> None:
    """Of this package only."""
    assert version_of("thing-one", filename) == version
