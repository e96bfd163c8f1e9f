"""The plan of a release: one hash over all it is, the same for the same world; and what may not be in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pipeline.config.release import ReleaseSettings
from pipeline.digest import digest_file
from pipeline.release.plan import Delivered, ReleasePlan, Unfit, floating_tags
from pipeline.release.sbom import BillUnreadable, difference
from pipeline.release.version import Tagged, Version, find_version
from tests.unit.release.world import BEGAN_S, DAY_S, sdist, wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.release.world import World

IMAGE = "sha256:" + "ab" * 32


def test_a_plan_is_everything_that_is_released(world: World, tmp_path: Path) -> None:
    """Files and images with their digests, the bill of materials among them."""
    sha = world.commit("feat: begin")
    files = [wheel(tmp_path / "dist", "0.1.0", requires=("httpx>=1",)), sdist(tmp_path / "dist", "0.1.0")]

    plan = world.plan(files=files, images={"team/app": IMAGE})

    bill = plan.files[2]
    assert plan == ReleasePlan(
        name="app",
        version=Version(major=0, minor=1, patch=0),
        why="it is the first release",
        tag="v0.1.0",
        commit=sha,
        time_s=BEGAN_S + DAY_S,
        branch="main",
        previous=None,
        files=(
            Delivered(
                name="app-0.1.0-py3-none-any.whl",
                digest=digest_file(files[0]),
                size_bytes=files[0].stat().st_size,
                source=files[0],
            ),
            Delivered(
                name="app-0.1.0.tar.gz",
                digest=digest_file(files[1]),
                size_bytes=files[1].stat().st_size,
                source=files[1],
            ),
            bill,
        ),
        images=(("team/app", IMAGE),),
        notes=f"## Features\n- begin ({sha[:8]})\n\n## Images\n- `team/app` {IMAGE}\n\n"
        "## Contributors\n- Ann\n",
        changelog="## [0.1.0] - 2026-01-02\n\n### Added\n- begin\n",
        floating=(),
        source="",
    )
    assert bill.name == "sbom.cdx.json"


def test_the_hash_stands_for_the_plan(world: World, tmp_path: Path) -> None:
    """The same world gives the same one, in another clone and on another day; any difference another."""
    world.commit("feat: begin")
    world.push()
    clone = tmp_path / "clone"
    world.git("clone", "-q", str(world.remote), str(clone))
    dist, elsewhere = tmp_path / "dist", tmp_path / "elsewhere"
    file = wheel(dist, "0.1.0")

    plan = world.plan(files=[file])
    world.root = clone
    again = world.plan(files=[wheel(elsewhere, "0.1.0")])
    others = [
        world.plan(files=[wheel(elsewhere, "0.1.0", content="x = 1\n")]),
        world.plan(files=[wheel(elsewhere, "0.1.0"), sdist(elsewhere, "0.1.0")]),
        world.plan(files=[file], images={"app": IMAGE}),
        world.plan(files=[wheel(elsewhere, "0.2.0")], version="0.2.0"),
    ]
    world.commit("fix: a")
    others.append(world.plan(files=[file]))

    assert again.digest == plan.digest
    assert len({plan.digest, *(one.digest for one in others)}) == 6


def test_the_bill_of_materials_fits_its_schema(world: World, tmp_path: Path) -> None:
    """Wheel, source distribution and image are in it with their hashes, and what the wheel needs."""
    world.commit("feat: begin")
    requires = ("httpx>=1", "Rich", "pytest; extra == 'test'", "uvloop; sys_platform != 'win32'")
    files = [wheel(tmp_path, "0.1.0", requires=requires), sdist(tmp_path, "0.1.0")]

    plan = world.plan(files=files, images={"team/app": IMAGE})

    text = plan.files[2].read().decode()
    bill = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert {
        (one["type"], one["name"], one.get("hashes", [{}])[0].get("content")) for one in bill["components"]
    } == {
        ("file", files[0].name, plan.files[0].digest[7:]),
        ("file", files[1].name, plan.files[1].digest[7:]),
        ("container", "team/app", "ab" * 32),
        ("library", "httpx", None),
        ("library", "rich", None),
        ("library", "uvloop", None),
    }
    assert bill["metadata"]["timestamp"] == "2026-01-02T00:00:00+00:00"


def test_a_bill_that_was_made_is_taken(world: World, tmp_path: Path) -> None:
    """Its difference to that of the last release is in the notes."""

    def bill(**packages: str) -> bytes:
        components = [{"type": "library", "name": n, "version": v} for n, v in packages.items()]
        return json.dumps({"bomFormat": "CycloneDX", "components": components}).encode()

    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.commit("fix: a")
    (tmp_path / "made.json").write_bytes(bill(a="2", c="1"))
    asked: list[str] = []

    def previous(tag: str) -> bytes:
        asked.append(tag)
        return bill(a="1", b="1")

    plan = world.plan(sbom=tmp_path / "made.json", previous_sbom=previous)

    assert plan.files[0].read() == bill(a="2", c="1")
    assert asked == ["v1.0.0"]
    assert "## Packages\n- `a` 1 → 2\n- `c` 1 is new\n- `b` 1 is gone\n" in plan.notes


def test_the_changelog_of_the_commit_comes_first(world: World) -> None:
    """What lies in the working tree does not count; a file that is not there is said."""
    settings = ReleaseSettings(changelog="CHANGELOG.md")
    world.commit("feat: begin")

    with pytest.raises(Unfit, match="the setting `changelog` names it, and the commit does not have it"):
        world.plan(settings)

    (world.root / "CHANGELOG.md").write_text("## [Unreleased]\n- A house.\n", encoding="utf-8")
    world.commit("docs: a changelog")
    assert world.plan(settings).notes.startswith("- A house.\n\n## Features\n- begin (")


def no_zip(folder: Path) -> list[Path]:
    (folder / "app-0.1.0-py3-none-any.whl").write_bytes(b"not a zip")
    return [folder / "app-0.1.0-py3-none-any.whl"]


UNFIT: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "version": (lambda f: [wheel(f, "0.2.0")], "it says that it is version 0.2.0, not 0.1.0"),
    "sdist": (lambda f: [sdist(f, "0.0.9")], "it says that it is version 0.0.9, not 0.1.0"),
    "gone": (lambda f: [f / "gone.txt"], "no such file or directory"),
    "name": (lambda f: [f / "-rf"], "its name does not fit into a tag"),
    "line": (lambda f: [f / "a\nFile: b"], "its name does not fit into a tag"),
    "reserved": (lambda f: [f / "sbom.cdx.json"], "another file of the release has that name"),
    "twice": (lambda f: [wheel(f, "0.1.0"), wheel(f / "b", "0.1.0")], "another file of the release has"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "why"), UNFIT.values(), ids=UNFIT.keys())
def test_a_file_that_does_not_fit_is_refused(
    world: World, tmp_path: Path, make: Callable[[Path], list[Path]], why: str
) -> None:
    world.commit("feat: begin")

    with pytest.raises(Unfit) as raised:
        world.plan(files=make(tmp_path))

    assert why in str(raised.value)
    assert raised.value.exit_code == 3


def test_a_damaged_package_is_said(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")

    with pytest.raises(BillUnreadable, match=r"cannot read `app-0\.1\.0-py3-none-any\.whl`: it is damaged"):
        world.plan(files=no_zip(tmp_path))


@pytest.mark.parametrize(
    ("name", "digest"),
    [("app", "latest"), ("app", "sha256:123"), ("-app", IMAGE), ("a b", IMAGE), ("app\nPlan: x", IMAGE)],
    ids=["tag", "short", "option", "space", "line"],
)
def test_an_image_is_named_by_its_digest(world: World, name: str, digest: str) -> None:
    world.commit("feat: begin")

    with pytest.raises(Unfit):
        world.plan(images={name: digest})


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"components": [1]}', b'{"components": 3}', b"\xff"])
def test_a_bill_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(BillUnreadable):
        difference(text, b"{}")


@pytest.mark.parametrize(
    ("version", "there", "tags"),
    [
        ("1.2.3", ["1.2.2", "1.1.9"], ("v1", "v1.2")),
        ("1.2.3", ["1.3.0"], ("v1.2",)),
        ("1.2.3", ["1.2.4", "2.0.0"], ()),
        ("1.2.3", ["2.0.0"], ("v1", "v1.2")),
        ("1.2.3", ["1.3.0-rc.1"], ("v1", "v1.2")),
        ("1.2.3-rc.1", [], ()),
    ],
    ids=["newest", "older line", "old", "other line", "pre-release", "is one"],
)
def test_floating_tags_never_go_back(version: str, there: list[str], tags: tuple[str, ...]) -> None:
    """They follow the newest release of their line, and no pre-release."""
    settings = ReleaseSettings(floating=("major", "minor"))
    made = find_version(version)
    versions = [find_version(one) for one in there]
    assert made is not None

    found = floating_tags(settings, made, [Tagged(version=v, tag=None) for v in versions if v])  # type: ignore[arg-type]  # not looked at

    assert found == tags


def test_ten_thousand_commits_are_read_in_one_go(world: World) -> None:
    """The plan is made with a few calls of git, whatever the number of commits."""
    stream = ["\n".join(["blob", "mark :1", "data 1", "x"])]
    for number in range(10_000):
        message = (
            f"{'fix' if number % 3 else 'feat'}(part{number % 7}): change number {number}\n\nBody of it.\n"
        )
        stream.append(
            f"commit refs/heads/main\ncommitter A{number % 50} <a{number % 50}@b> {BEGAN_S + number} +0000\n"
            f"data {len(message)}\n{message}M 100644 :1 f{number % 10}"
        )
    world.git("fast-import", "--quiet", given="\n".join([*stream, ""]).encode())
    world.git("reset", "-q", "--hard")

    plan = world.plan()

    assert str(plan.version) == "0.1.0"
    assert plan.notes.count("\n- **part") == 400
    assert "- and 6466 more" in plan.notes
