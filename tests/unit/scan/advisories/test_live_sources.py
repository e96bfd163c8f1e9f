"""Services that are asked: what they know is told, and what they do not say is never a pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.advisories.settle import scan_of, settle
from pipeline.scan.advisories.sources.osv_api import OsvApi
from pipeline.scan.advisories.sources.pypi_json import PypiJson, address_of_index
from pipeline.scan.probe import Network, Probe
from tests.unit.scan.advisories.records import between, record
from tests.unit.scan.advisories.worlds import (
    NOW,
    as_json,
    closed,
    hanging,
    osv,
    package,
    pypi,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Scan
    from tests.unit.scan.advisories.worlds import Answer

pytestmark = pytest.mark.anyio

CANARY = {"id": "PYSEC-2019-10", "aliases": ["CVE-2019-12781"], "fixed_in": ["2.2.3"], "summary": "old"}
THING = {
    "id": "PYSEC-1",
    "aliases": ["CVE-2026-1", "GHSA-aaaa-bbbb-cccc"],
    "fixed_in": ["2.0", "0.9", "1.5"],
    "summary": "bad",
    "link": "https://example.org/1",
}
PAGES: dict[str, list[dict[str, Any]]] = {"django/2.2": [CANARY], "thing/1.0": [THING], "other/3.0": []}
HTML = (200, "text/html", b"<html><body>Sign in to the network</body></html>")
RECORDS = [
    record("GHSA-dddd-eeee-ffff", package="django", events=between("0 2.2.3")),
    record("GHSA-aaaa-bbbb-cccc", events=between("0 1.5", "2.0 2.3"), aliases=["CVE-2026-1"]),
]
KNOWN = {"django 2.2": ["GHSA-dddd-eeee-ffff"], "thing 1.0": ["GHSA-aaaa-bbbb-cccc"]}


def probe() -> Probe:
    """A probe that does not wait long."""
    return Probe(Network(), try_s=0.4, all_s=2.0)


async def ask(source: PypiJson | OsvApi, packages: Sequence[Package]) -> Scan:
    """What a scan with one source says."""
    answers = [await source.ask(packages, probe(), NOW)]
    return scan_of(settle(packages, answers), answers)


async def test_the_index_tells_what_is_wrong_with_a_release_and_what_is_clean() -> None:
    """Names are merged under the best known one; the fix is the least above the installed version."""
    with serving(pypi(PAGES)) as (address, _):
        scan = await ask(PypiJson(address=address), [package(), package("other", "3.0")])

    assert (scan.state, scan.coverage.seen, scan.coverage.expected) == ("complete", 2, 2)
    (finding,) = scan.findings
    assert (finding.rule.id, finding.rule.url) == ("CVE-2026-1", "https://example.org/1")
    assert finding.aliases == ("GHSA-aaaa-bbbb-cccc", "PYSEC-1")
    assert finding.fix == "update thing to 1.5"
    assert scan.data[0].as_of == "2026-11-24T12:00:00Z"


async def test_a_release_the_index_does_not_have_is_unknown() -> None:
    """A private package is no clean one."""
    with serving(pypi(PAGES)) as (address, _):
        scan = await ask(PypiJson(address=address), [package(), package("ours", "1.0")])

    assert (scan.state, scan.coverage.seen) == ("incomplete", 1)
    assert [one.why for one in scan.coverage.missed] == ["the index does not know this release"]


async def test_osv_tells_what_is_wrong_and_the_fix_is_that_of_the_installed_branch() -> None:
    """The service names advisories; each is then read by its id."""
    with serving(osv(RECORDS, KNOWN)) as (address, asked):
        scan = await ask(OsvApi(address=address), [package(), package("other", "3.0")])

    assert (scan.state, scan.coverage.seen, scan.coverage.expected) == ("complete", 2, 2)
    assert [(one.rule.id, one.fix) for one in scan.findings] == [("CVE-2026-1", "update thing to 1.5")]
    assert asked == ["POST /v1/querybatch", "GET /v1/vulns/GHSA-aaaa-bbbb-cccc"]


async def test_osv_gives_pages_and_all_of_them_are_read() -> None:
    """A token says that there is more about a package."""
    pages = iter(
        [{"vulns": [{"id": "GHSA-aaaa-bbbb-cccc"}], "next_page_token": "2"}, {"vulns": [{"id": "X-2"}]}]
    )
    records = {one["id"]: one for one in [*RECORDS, record("X-2", events=between("0 -"))]}

    def answer(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        if method == "GET":
            return as_json(records[path.rpartition("/")[2]])
        if b"page_token" in body:
            return as_json({"results": [next(pages)]})
        return as_json({"results": [next(pages), {"vulns": [{"id": "GHSA-dddd-eeee-ffff"}]}, {}, {}]})

    with serving(answer) as (address, _):
        scan = await ask(OsvApi(address=address), [package()])

    assert [one.rule.id for one in scan.findings] == ["CVE-2026-1", "X-2"]


def nothing(_: str, __: str, ___: bytes) -> tuple[int, str, bytes]:
    """A service that knows no vulnerability of anything."""
    return as_json({"results": [{}, {}, {}, {}], "info": {}, "vulnerabilities": []})


def stripped(_: str, __: str, ___: bytes) -> tuple[int, str, bytes]:
    """A mirror whose pages have no advisories."""
    return as_json({"info": {"name": "thing"}, "urls": []})


def fixed(*answer: Any) -> Answer:
    """A service with one answer."""
    return lambda _, __, ___: answer


BAD_ANSWERS: dict[str, tuple[Answer, str]] = {
    "a mirror without a page for each release": (pypi({}), "it has no page for each release"),
    "an empty database": (nothing, "it knows no advisory about"),
    "pages without advisories": (stripped, "its page names no list of advisories"),
    "html with status 200": (fixed(*HTML), "it answered with text/html, which is no JSON"),
    "json cut off": (fixed(200, "application/json", b'{"vulnerabilities": [{"id'), "which is no JSON"),
    "a list in place of a table": (fixed(200, "application/json", b"[]"), "names no list of advisories"),
    "no rights": (fixed(403, "text/plain", b"no"), "it answered 403"),
    "a broken service": (fixed(500, "text/plain", b"no"), "it answered 500"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_index_that_cannot_judge_leaves_everything_unknown(name: str) -> None:
    """None of it is a pass: the state says that nothing could be looked at, and why."""
    answer, why = BAD_ANSWERS[name]
    with serving(answer) as (address, _):
        scan = await ask(PypiJson(address=address), [package(), package("other", "3.0")])

    assert (scan.state, scan.coverage.seen, scan.findings) == ("unavailable", 0, ())
    assert why in scan.reason
    assert scan.hint != ""


OSV_ANSWERS: dict[str, tuple[Answer, str]] = {
    "an empty database": (nothing, "knows of no vulnerability in PyPI"),
    "html with status 200": (fixed(*HTML), "it answered with text/html, which is no JSON"),
    "too few results": (fixed(*as_json({"results": []})), "it did not answer each query"),
    "no results": (fixed(*as_json({"message": "down"})), "it did not answer each query"),
    "results of another kind": (fixed(*as_json({"results": ["a"] * 4})), "something else than a list"),
    "not allowed": (fixed(405, "text/plain", b""), "it answered 405"),
    "advisories that cannot be read": (osv([], KNOWN), "it answered 404"),
}


@pytest.mark.parametrize("name", OSV_ANSWERS)
async def test_an_osv_service_that_cannot_judge_leaves_everything_unknown(name: str) -> None:
    """An empty answer for a package that is known to be vulnerable proves that nothing was looked at."""
    answer, why = OSV_ANSWERS[name]
    with serving(answer) as (address, _):
        scan = await ask(OsvApi(address=address), [package()])

    assert (scan.state, scan.coverage.seen, scan.findings) == ("unavailable", 0, ())
    assert why in scan.reason


@pytest.mark.parametrize("kind", [PypiJson, OsvApi], ids=["index", "osv"])
@pytest.mark.parametrize("world", [hanging, closed], ids=["hanging", "closed"])
async def test_a_service_that_does_not_answer_is_given_up_in_time(kind: type[Any], world: Any) -> None:
    """A connection that hangs and one that is refused both end as unavailable."""
    with world() as address:
        began = time.monotonic()
        scan = await ask(kind(address=address), [package()])

    assert (scan.state, scan.coverage.seen) == ("unavailable", 0)
    assert time.monotonic() - began < 6


async def test_a_name_that_does_not_resolve_is_unavailable_at_once() -> None:
    """The top-level domain `invalid` has no names."""
    scan = await ask(OsvApi(address="https://advisories.invalid"), [package()])

    assert (scan.state, scan.reason) == (
        "unavailable",
        "1 of 1 packages are unknown, such as thing 1.0: the name `advisories.invalid` does not resolve",
    )


async def test_an_offline_run_asks_nobody() -> None:
    """Not even whether somebody is there."""
    with serving(osv(RECORDS, KNOWN)) as (address, asked):
        answer = await OsvApi(address=address).ask([package()], Probe(Network(offline=True)), NOW)

    assert (answer.state, answer.reason, asked) == ("unavailable", "the run is offline", [])


async def test_packages_of_other_ecosystems_are_unknown_to_the_python_index() -> None:
    """The one that can be judged is."""
    with serving(pypi(PAGES)) as (address, _):
        scan = await ask(PypiJson(address=address), [package(), package("left-pad", "1.0.0", "npm")])

    assert (scan.state, [one.why for one in scan.coverage.missed]) == (
        "incomplete",
        ["pypi has Python packages only"],
    )


@pytest.mark.parametrize(
    ("index", "address"),
    [
        ("https://example.org/simple", "https://example.org"),
        ("https://example.org/simple/", "https://example.org"),
        ("https://me:pw@example.org/root/pypi/+simple/", "https://me:pw@example.org/root/pypi"),
        ("/srv/wheels", "https://pypi.org"),
    ],
)
def test_the_pages_of_an_index_lie_beside_its_simple_pages(index: str, address: str) -> None:
    """As the settings of the network name it."""
    assert address_of_index(index) == address
