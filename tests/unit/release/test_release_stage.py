"""The stage `release`: what was built goes out, once; nothing new to release is a skip."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.graph.context import Skip
from pipeline.release.tag import read_tag
from pipeline.stages.release import release
from pipeline.stages.results import Image, Images, Released, Source, Wheel
from pipeline.testing import fake_context, logs
from tests.unit.release.world import sdist, wheel

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.context import Context
    from tests.unit.release.world import World

IMAGE = "sha256:" + "ab" * 32


def context(world: World, tmp_path: Path, **settings: object) -> Context:
    table = dataclasses.asdict(ReleaseSettings(**settings))  # type: ignore[arg-type]  # as the test says
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    return fake_context(folder, root=world.root, config={"release": table}, environment="production")


def source(world: World) -> Source:
    return Source(commit=world.git("rev-parse", "HEAD"), dirty=False, digest="", files=1)


@pytest.mark.anyio
async def test_what_was_built_is_released_once(world: World, tmp_path: Path) -> None:
    """Wheel, source distribution and image are in the tag by their digests; the evidence is kept."""
    (world.root / ".gitignore").write_text(".pipeline\n", encoding="utf-8")
    sha = world.commit("feat: begin")
    ctx = context(world, tmp_path)
    files = [ctx.keep(path.name, path) for path in (wheel(tmp_path, "0.1.0"), sdist(tmp_path, "0.1.0"))]
    built = Wheel(name="app", version="0.1.0", wheel=files[0], sdist=files[1])
    archive = ctx.keep("app.tar", b"an archive")
    image = Image(
        name="app",
        dockerfile="Dockerfile",
        platform="linux/amd64",
        digest=IMAGE,
        size_bytes=1,
        archive=archive,
    )

    first = await release(ctx, source(world), built, Images(images=(image,)))
    again = await release(ctx, source(world), built, Images(images=(image,)))

    message = read_tag(world.repository, "v0.1.0")
    assert message is not None
    assert message.images == {"app": IMAGE}
    assert {name: message.files[name] for name in (files[0].name, files[1].name)} == {
        one.name: one.digest for one in files
    }
    assert first == Released(
        tag="v0.1.0",
        version="0.1.0",
        commit=sha,
        plan=message.plan,
        steps=dict.fromkeys(["notes", "attestation", "tag", "push", "close"], "done"),
        notes=first.notes,
        attestation=first.attestation,
    )
    assert again == dataclasses.replace(first, steps=dict.fromkeys(first.steps, "found"))
    assert "push: done\n" in logs(ctx)
    assert world.remote_tags() == {"v0.1.0": sha}


@pytest.mark.anyio
async def test_nothing_to_release_is_a_skip(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")
    world.tag("v1.0.0")
    world.commit("docs: words")

    with pytest.raises(Skip) as raised:
        await release(context(world, tmp_path), source(world))

    assert raised.value.reason == (
        "nothing to release: since 1.0.0 there are only changes that release nothing: docs"
    )


@pytest.mark.anyio
async def test_a_token_is_taken_from_the_secrets(world: World, tmp_path: Path) -> None:
    """Without one the forge is not asked, and nothing is changed."""
    from pipeline.errors import UsageError

    world.commit("feat: begin")
    ctx = context(world, tmp_path, forge="github", forge_repository="ann/app", forge_api="http://127.0.0.1:9")

    with pytest.raises(UsageError, match="GITHUB_TOKEN or GH_TOKEN is not set"):
        await release(ctx, source(world))

    assert world.local_tags() == []
