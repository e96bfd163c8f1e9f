"""The stage without containers: images in files, advisories of a project's own, a server that is Trivy's."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.graph.outcome import Outcome
from pipeline.stages.image_scan import image_scan
from pipeline.stages.results import Image, Images
from pipeline.testing import fake_context, kept, run_stage
from tests.unit.scan.advisories.records import between, record
from tests.unit.scan.image.making import DEBIAN, STATUS, archive, layer_tar, metadata, status
from tests.unit.scan.trivy.fake import TOKEN, Fake, advisory, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipeline.testing import StageRun

pytestmark = pytest.mark.anyio
SETTINGS = {"program": False, "mirror": False, "max_age_s": 3 * 86400.0, "max_base_age_s": 180 * 86400.0}
FEDORA = "ID=fedora\nVERSION_ID=40\nPRETTY_NAME='Fedora Linux 40'\n"
OS = "etc/os-release"
META = "srv/Jinja2-2.10.dist-info/METADATA"
SOUND = {"User": "1000"}


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data of scanners but this test's."""
    monkeypatch.setenv("PIPELINE_SCAN_DATA", str(tmp_path / "data"))


@pytest.fixture
def trivy() -> Iterator[Fake]:
    """A server with data of today for Debian 12 and Python."""
    fake = Fake()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fake.version["VulnerabilityDB"] = {"UpdatedAt": now}
    fake.database["debian 12"]["openssl"] = [advisory("CVE-2099-1000", "3.0.1-1")]
    with serving(fake):
        yield fake


class World:
    """A project with built images."""

    def __init__(self, folder: Path, **images: bytes) -> None:
        self.root = folder / "project"
        self.root.mkdir()
        self.folder = folder / "run"
        self.images = images

    async def scan(
        self,
        *,
        environment: str = "release",
        sources: Mapping[str, Any] | None = None,
        private: tuple[str, ...] = (),
        own: str = "",
        **settings: Any,
    ) -> StageRun:
        """Run the stage; the network is this machine."""
        config = {
            "image_scan": {**SETTINGS, **settings},
            "dependency_scan": {"sources": sources or {}, "private": private},
            "network": {"offline": True},
        }
        self.context = fake_context(
            self.folder,
            root=self.root,
            environment=environment,
            config=config,
            options={"own": own} if own else {},
            secrets={"TRIVY_TOKEN": TOKEN},
        )
        images = tuple(
            Image(
                name=name,
                dockerfile=f"{name}/Dockerfile",
                platform="linux/amd64",
                digest="sha256:0",
                size_bytes=len(data),
                archive=self.context.keep(f"{name}.tar", data),
            )
            for name, data in self.images.items()
        )
        return await run_stage(image_scan, self.context, container_build=Images(images=images))

    def scans(self) -> dict[str, tuple[str, int, int]]:
        """Each scanner's state, and how much it saw of what."""
        rows = json.loads(kept(self.context)["findings.json"])["scans"]
        return {
            row["scanner"]: (row["state"], row["coverage"]["seen"], row["coverage"]["expected"])
            for row in rows
        }

    def packages(self) -> dict[str, str]:
        """How each package ended, by path and name."""
        rows = json.loads(kept(self.context)["packages.json"])
        return {f"{row['path']} {row['name']}": row["state"] for row in rows}


def image(*layers: dict[str, Any], config: Mapping[str, Any] | None = None, **more: Any) -> bytes:
    """The archive of an image that runs as a user of its own."""
    return archive([layer_tar(one) for one in layers], config=config or SOUND, more=more)


BASE = {OS: DEBIAN, STATUS: status(bash="5.2-1")}


async def test_two_images_are_told_apart(tmp_path: Path, trivy: Fake) -> None:
    """Each package says which image it is in; what both have is found in both."""
    bad = {STATUS: status(libgcrypt20="1.10.1-3")}
    world = World(
        tmp_path, one=image({**BASE, **bad}), two=image({**BASE, **bad, META: metadata("Jinja2", "2.10")})
    )

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.FAILURE
    assert world.packages() == {
        f"one!/{STATUS} libgcrypt20": "vulnerable",
        f"two!/{STATUS} libgcrypt20": "vulnerable",
        f"two!/{META} Jinja2": "vulnerable",
    }


async def test_a_clean_image_passes_with_who_says_so(tmp_path: Path, trivy: Fake) -> None:
    world = World(tmp_path, app=image(BASE))

    ran = await world.scan(server=trivy.url)

    assert (ran.outcome, ran.value.result) == (Outcome.SUCCESS, "pass"), ran.failure
    assert world.scans() == {
        "advisories": ("complete", 1, 1),
        "image setup": ("complete", 1, 1),
        "end of life": ("complete", 1, 1),
    }
    (row,) = json.loads(kept(world.context)["packages.json"])
    assert (row["state"], row["by"][0].partition(" as of ")[0]) == ("clean", "trivy")


async def test_without_a_source_nothing_goes_out(tmp_path: Path) -> None:
    """Nobody could be asked: in an environment that blocks, and it is no failure of the project."""
    world = World(tmp_path, app=image(BASE))

    ran = await world.scan()

    assert ran.outcome is Outcome.ERROR
    assert world.scans()["advisories"] == ("unavailable", 0, 1)


async def test_a_named_server_that_cannot_do_its_part_is_told(tmp_path: Path, trivy: Fake) -> None:
    """Though a source of the project judged everything."""
    trivy.database["debian 12"].clear()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    canary = record("CVE-1", package="openssl", ecosystem="Debian:12", events=between("0 3.0"), modified=now)
    world = World(tmp_path, app=image(BASE))
    (world.root / "own.json").write_text(json.dumps([canary]))
    sources = {"own": {"kind": "osv-file", "address": "own.json"}}

    ran = await world.scan(server=trivy.url, sources=sources)

    assert ran.outcome is Outcome.ERROR
    assert world.scans()["advisories"] == ("complete", 1, 1)
    assert world.scans()["advisories of trivy"] == ("unavailable", 0, 1)


async def test_a_broken_archive_is_told_and_the_others_are_judged(tmp_path: Path, trivy: Fake) -> None:
    world = World(tmp_path, app=image(BASE), bad=b"no image")

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.ERROR
    assert world.scans() == {
        "advisories": ("incomplete", 1, 2),
        "image setup": ("incomplete", 1, 2),
        "end of life": ("incomplete", 1, 2),
    }


async def test_an_image_in_which_no_package_is_found_is_not_called_clean(tmp_path: Path, trivy: Fake) -> None:
    world = World(tmp_path, app=image({"app": "x"}))

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.ERROR
    assert world.scans()["advisories"] == ("unavailable", 0, 1)


@pytest.mark.parametrize("system", [pytest.param({}, id="scratch"), pytest.param({OS: DEBIAN}, id="removed")])
async def test_an_image_without_a_database_of_packages_is_not_called_clean(
    tmp_path: Path, trivy: Fake, system: dict[str, str]
) -> None:
    """A package of Python was judged; nobody knows what else is in it."""
    world = World(tmp_path, app=image({**system, META: metadata("Jinja2", "3.1.6")}))

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.ERROR
    assert world.scans()["advisories"] == ("incomplete", 1, 2)


async def test_a_distribution_whose_end_nobody_knows_is_told(tmp_path: Path, trivy: Fake) -> None:
    world = World(tmp_path, app=image({**BASE, OS: FEDORA}))

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.ERROR
    assert world.scans()["end of life"] == ("incomplete", 0, 1)


async def test_a_release_that_ended_blocks_and_says_what_to_do(tmp_path: Path, trivy: Fake) -> None:
    old = DEBIAN.replace("12", "9").replace("bookworm", "stretch")
    trivy.database["debian 9"] = {"openssl": [advisory("CVE-2099-1000", "3.0.1-1")]}
    world = World(tmp_path, app=image({**BASE, OS: old}))

    ran = await world.scan(server=trivy.url)

    assert ran.outcome is Outcome.FAILURE
    assert ran.failure is not None
    assert "os-end-of-life" in ran.failure.message
    assert "  mend: build the image on a newer release" in ran.failure.tail


async def test_the_token_and_planted_values_are_nowhere(tmp_path: Path, trivy: Fake) -> None:
    planted = "hunter2-planted"
    config = {"Env": [f"DB_PASSWORD={planted}"], "Labels": {"token": planted}}
    world = World(
        tmp_path, app=image(BASE, config=config, history=[{"created_by": f"ARG API_KEY={planted}"}])
    )
    trivy.token = "another"

    ran = await world.scan(server=trivy.url.replace("://", "://me:pass-planted@"))

    told = repr(ran) + "".join(
        data.decode("utf-8", "replace") for name, data in kept(world.context).items() if name != "app.tar"
    )
    assert ran.outcome is Outcome.FAILURE
    assert [word for word in (planted, TOKEN, "pass-planted") if word in told] == []


async def test_the_projects_own_packages_are_left_out(tmp_path: Path, trivy: Fake) -> None:
    """No public data can know them; a package of the distribution with that name counts."""
    paths = {name: f"srv/{name}-1.dist-info/METADATA" for name in ("My_Shop", "acme-core")}
    layer = {**BASE, STATUS: status(**{"my-shop": "1"})}
    layer |= {path: metadata(name, "1") for name, path in paths.items()}
    world = World(tmp_path, app=image(layer))

    ran = await world.scan(server=trivy.url, own="my-shop", private=("acme-*",))

    assert ran.outcome is Outcome.SUCCESS
    assert world.packages() == {f"app!/{STATUS} my-shop": "clean"}


async def test_a_package_from_a_folder_is_not_called_clean(tmp_path: Path, trivy: Fake) -> None:
    """Its metadata says that no index knows it."""
    origin = json.dumps({"url": "file:///src", "dir_info": {}})
    folder = "srv/other-1.dist-info"
    layer = {**BASE, f"{folder}/METADATA": metadata("other", "1"), f"{folder}/direct_url.json": origin}
    world = World(tmp_path, app=image(layer))

    await world.scan(server=trivy.url)

    assert world.packages()[f"app!/{folder}/METADATA other"] == "unknown"
