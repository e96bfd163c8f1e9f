"""The stage without containers: what the lock files name, by sources that know, and by those that do not."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.graph.outcome import Outcome
from pipeline.scan.advisories.fetch import SECTION, Wanted, gather
from pipeline.scan.bundle import import_bundle, write_bundle
from pipeline.scan.packages.package import Package
from pipeline.scan.probe import Network
from pipeline.stages.dependency_scan import combine, dependency_scan
from pipeline.stages.results import Source
from pipeline.testing import fake_context, kept, run_stage
from tests.unit.scan.advisories.records import between, record
from tests.unit.scan.advisories.worlds import as_json, closed, hanging, osv, pypi, serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.testing import StageRun

pytestmark = pytest.mark.anyio

NO_INDEX = "http://127.0.0.1:9/simple"  # nothing listens there
SOURCE = Source(commit="", dirty=False, digest="", files=0)
V3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def records(modified: str) -> list[dict[str, Any]]:
    """A canary, and a vulnerable package."""
    severity = [{"type": "CVSS_V3", "score": V3}]
    return [
        record("GHSA-canary", package="django", events=between("0 2.2.3"), modified=modified),
        record("CVE-2026-1", events=between("0 1.5"), severity=severity, modified=modified, summary="bad"),
    ]


def today() -> str:
    """Now, as advisories write it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data of scanners in a folder of this test."""
    data = tmp_path / "data"
    monkeypatch.setenv("PIPELINE_SCAN_DATA", str(data))
    return data


class World:
    """A project with lock files."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self.root = root / "project"
        self.kept = root / "run"
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.files = tuple(files)

    async def scan(
        self, sources: Mapping[str, Any] | None = None, *, environment: str = "release", **settings: Any
    ) -> StageRun:
        """Run the stage."""
        network = {"offline": sources is None, "index_url": NO_INDEX, **settings.pop("network", {})}
        config = {"dependency_scan": {"sources": sources or {}, **settings}, "network": network}
        context = fake_context(
            self.kept, root=self.root, environment=environment, config=config, files=self.files
        )
        self.context = dataclasses.replace(context, run_id=str(self.kept))
        return await run_stage(dependency_scan, self.context, checkout=SOURCE)

    def packages(self) -> list[tuple[str, str, str]]:
        """How each package ended: its name, state and why."""
        rows = json.loads(kept(self.context)["packages.json"])
        return [(f"{row['name']} {row['version']}", row["state"], row["why"]) for row in rows]


def file_source(world: World, told: object) -> dict[str, Any]:
    """A source of a file in the project."""
    (world.root / "own.json").write_text(told if isinstance(told, str) else json.dumps(told))
    return {"own": {"kind": "osv-file", "address": "own.json"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project with two pins."""
    return World(tmp_path, {"requirements.txt": "thing==1.0\nother==3.0\n"})


async def test_a_vulnerable_pin_blocks_and_says_how_to_mend_it(world: World) -> None:
    """Each package's end is in the evidence."""
    ran = await world.scan(file_source(world, records(today())))

    assert ran.outcome is Outcome.FAILURE
    assert ran.failure is not None
    assert "thing 1.0: CVE-2026-1 in thing [CVE-2026-1]" in ran.failure.tail
    assert "  mend: update thing to 1.5" in ran.failure.tail
    assert world.packages() == [("thing 1.0", "vulnerable", ""), ("other 3.0", "clean", "")]


async def test_a_clean_project_passes_and_tells_by_whom(tmp_path: Path) -> None:
    """With the date of the data."""
    world = World(tmp_path, {"requirements.txt": "thing==1.5\n"})
    day = today()

    ran = await world.scan(file_source(world, records(day)))

    assert ran.outcome is Outcome.SUCCESS
    assert [(one.name, one.state, one.seen, one.expected) for one in ran.value.scanners] == [
        ("advisories", "complete", 1, 1)
    ]
    (row,) = json.loads(kept(world.context)["packages.json"])
    assert (row["state"], row["by"], row["purl"]) == ("clean", [f"own as of {day}"], "pkg:pypi/thing@1.5")


UNUSABLE: dict[str, tuple[object, str]] = {
    "empty": ([], "it holds no advisories"),
    "of-another-ecosystem": (
        [record("X", ecosystem="npm", events=between("0 -"), modified=today())],
        "own has no",
    ),
    "old": (records("2024-10-10T17:22:00Z"), "days old; at most 3 days are allowed"),
    "html": ("<html></html>", "own has no advisories for PyPI"),
    "cut-off": ('[{"id": "X", "affec', "own has no advisories for PyPI"),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_data_that_cannot_judge_is_no_pass_in_a_release(tmp_path: Path, name: str) -> None:
    """Nothing was found, because nothing could be looked at: the release stops."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n"})
    told, why = UNUSABLE[name]

    ran = await world.scan(file_source(world, told))

    assert ran.outcome is Outcome.ERROR
    assert ran.failure is not None
    assert why in ran.failure.message


@pytest.mark.parametrize("name", UNUSABLE)
async def test_data_that_cannot_judge_is_not_green_in_development_either(tmp_path: Path, name: str) -> None:
    """The stage is skipped with the reason."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n"})

    ran = await world.scan(file_source(world, UNUSABLE[name][0]), environment="")

    assert ran.outcome is Outcome.SKIP
    assert UNUSABLE[name][1] in ran.reason


@pytest.mark.parametrize("kind", ["osv-api", "pypi"])
async def test_a_service_that_hangs_or_is_not_there_is_unavailable(tmp_path: Path, kind: str) -> None:
    """Both at once share the one bounded wait of the run."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n"})
    with hanging() as slow, closed() as gone:
        sources = {"a": {"kind": kind, "address": slow}, "b": {"kind": kind, "address": gone}}
        ran = await world.scan(sources)

    assert ran.outcome is Outcome.ERROR
    assert ran.failure is not None
    assert "1 of 1 packages are unknown" in ran.failure.message


async def test_a_mirror_without_pages_of_releases_is_unavailable(world: World) -> None:
    """As a plain mirror answers."""
    with serving(pypi({})) as (address, _):
        ran = await world.scan({"index": {"kind": "pypi", "address": address}})

    assert ran.outcome is Outcome.ERROR
    assert ran.failure is not None
    assert "it has no page for each release" in ran.failure.message


async def test_a_named_source_that_fails_is_told_beside_one_that_judged_everything(tmp_path: Path) -> None:
    """Who names a source wants to hear of it."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n"})
    sources = file_source(world, records(today()))
    with closed() as gone:
        ran = await world.scan({**sources, "osv": {"kind": "osv-api", "address": gone}}, environment="")

    assert ran.outcome is Outcome.SUCCESS
    assert [(one.name, one.state) for one in ran.value.scanners] == [
        ("advisories", "complete"),
        ("advisories of osv", "unavailable"),
    ]


async def test_names_of_private_packages_are_told_to_nobody(tmp_path: Path) -> None:
    """Neither those of the settings nor those of a repository; the user vouches for the former."""
    text = "thing==1.5\nacme-secret==1.0\nours @ git+https://example.org/ours.git\n"
    world = World(tmp_path, {"requirements.txt": text})
    bodies: list[bytes] = []
    service = osv(records(today()), {"django 2.2": ["GHSA-canary"]})

    def answer(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        bodies.append(body)
        return service(method, path, body)

    with serving(answer) as (address, _):
        await world.scan({"osv": {"kind": "osv-api", "address": address}}, private=["acme-*"])

    assert b"thing" in bodies[0]
    assert not any(b"acme" in body or b"ours" in body for body in bodies)
    assert [(name, state) for name, state, _ in world.packages()] == [
        ("thing 1.5", "clean"),
        ("ours ", "unknown"),
    ]


async def test_a_damaged_lock_file_is_no_pass(tmp_path: Path) -> None:
    """The other one was judged: incomplete, which stops a release."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n", "uv.lock": "[[package]\n"})

    ran = await world.scan(file_source(world, records(today())))

    assert ran.outcome is Outcome.ERROR
    assert ran.failure is not None
    assert "`uv.lock` cannot be read: it is not valid TOML" in ran.failure.message


async def test_a_project_without_packages_is_skipped(tmp_path: Path) -> None:
    """With the reason; nothing was checked."""
    world = World(tmp_path, {"requirements.txt": "# nothing\n"})

    ran = await world.scan(file_source(world, records(today())))

    assert (ran.outcome, ran.reason) == (Outcome.SKIP, "no lock file names a package, and none is installed")


async def test_imported_advisories_judge_an_offline_run(world: World, tmp_path: Path, own_data: Path) -> None:
    """Gathered into a bundle, verified, imported; the result depends on the day and on what was imported."""
    source, bundle = tmp_path / "own.json", tmp_path / "data.bundle"
    source.write_text(json.dumps(records(today())))
    now = datetime.datetime.now(datetime.UTC)
    items = await gather([Wanted(name="own", address=str(source))], tmp_path / "cache", Network(), now)
    write_bundle(bundle, {SECTION: items}, made_at=today())
    import_bundle(bundle, own_data)

    ran = await world.scan()

    assert ran.outcome is Outcome.FAILURE
    assert world.packages() == [("thing 1.0", "vulnerable", ""), ("other 3.0", "clean", "")]
    manifest = f"value file {own_data}/advisories/manifest.json"
    assert {"value day", manifest} <= set(ran.observed)
    assert ran.observed[manifest].startswith("sha256:")


async def test_a_release_newer_than_the_data_is_no_pass(tmp_path: Path) -> None:
    """The package index tells when it came out; the data is fresh, and older than that."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n"})
    day = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
    sources = file_source(world, records(day.strftime("%Y-%m-%dT%H:%M:%SZ")))
    files = [{"filename": "other-3.0.tar.gz", "upload-time": today()}]

    with serving(lambda *_: as_json({"files": files})) as (address, _):
        ran = await world.scan(sources, network={"index_url": f"{address}/simple"})

    assert ran.outcome is Outcome.ERROR
    assert ran.failure is not None
    assert "1 of 1 packages are newer than the data, such as other 3.0" in ran.failure.message


async def test_development_packages_can_be_left_out(tmp_path: Path) -> None:
    """By the settings only."""
    world = World(tmp_path, {"requirements.txt": "other==3.0\n", "requirements-dev.txt": "thing==1.0\n"})

    ran = await world.scan(file_source(world, records(today())), dev=False)

    assert ran.outcome is Outcome.SUCCESS
    assert [name for name, _, _ in world.packages()] == ["other 3.0"]


def test_what_is_locked_and_installed_is_one_package() -> None:
    """A name without a version takes the installed one; what only is installed stands for itself."""

    def python(name: str, version: str, **more: Any) -> Package:
        return Package(name=name, version=version, ecosystem="PyPI", **more)

    locked = [python("A.b", "1.0", path="x.lock", direct=True), python("c", ""), python("d", "1.0")]
    installed = [python(name, "1.0", is_installed=True) for name in ("a-b", "c")]
    installed += [python("d", "2.0", is_installed=True)]

    told = combine(locked, installed)

    assert [(str(one), one.path, one.is_installed) for one in told] == [
        ("A.b 1.0", "x.lock", True),
        ("c 1.0", "", True),
        ("d 1.0", "", False),
        ("d 2.0", "", True),
    ]
