"""`push` to real registries: by digest, under several tags, once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config import Config
from pipeline.connect import Target, engine_settings, open_session
from pipeline.stages.container_build import read_manifest
from pipeline.stages.push import PushFailed, push
from pipeline.stages.results import Image, Images, PushedImage, PushedImages, Source
from pipeline.testing import fake_context, logs
from tests.engine.oci.servers import PASSWORD, USER, RealRegistry, real_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import dagger

    from pipeline.engine.events import EngineEvent
    from pipeline.graph.context import Artifact, Context

pytestmark = [pytest.mark.anyio, pytest.mark.root]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = Source(commit=COMMIT, dirty=False, digest="sha256:00", files=1, version="1.2.0+7.gabc")
TAGS = ("sha-0123456789ab", "1.2.0-7.gabc")


@pytest.fixture(params=[False, True], ids=["open", "with a password"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealRegistry]:
    """A registry that lets everybody in, and one that asks who it is."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if request.param:
        monkeypatch.setenv("PIPELINE_REGISTRY_USER", USER)
    with real_registry(tmp_path / "registry", users=request.param) as running:
        yield running


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dagger.Client]:
    """A session of the embedded engine with a store of its own."""

    def observe(event: EngineEvent) -> None:
        """Tell nobody."""

    monkeypatch.setenv("PIPELINE_STORE", str(tmp_path / "store"))
    settings = engine_settings(Config())
    async with open_session(Target(kind="embedded"), settings, workdir=tmp_path, observer=observe) as client:
        yield client


async def built(ctx: Context, client: dagger.Client, rootfs: Path, folder: Path) -> Images:
    """An image with busybox, as `container_build` returns it."""
    archive = folder / "app.tar"
    await (
        client.container().with_rootfs(client.host().directory(str(rootfs))).as_tarball().export(str(archive))
    )
    digest, platform = read_manifest(archive)
    artifact: Artifact = ctx.keep("app.tar", archive)
    image = Image(
        name="app",
        dockerfile="Dockerfile",
        platform=platform,
        digest=digest,
        size_bytes=artifact.size_bytes,
        archive=artifact,
    )
    return Images(images=(image,))


def context(folder: Path, client: Any, address: str | None, **secrets: str) -> Context:
    return fake_context(
        folder,
        stage="push",
        environment="staging",
        config={"registry": {"address": address}},
        secrets=secrets,
        client=client,
    )


async def test_an_image_is_pushed_once_by_digest_under_all_its_tags(
    registry: RealRegistry, client: dagger.Client, rootfs: Path, tmp_path: Path
) -> None:
    """The digest is that of the archive; the second time it is there already."""
    ctx = context(tmp_path, client, f"{registry.address}/team", PIPELINE_REGISTRY_PASSWORD=PASSWORD)
    images = await built(ctx, client, rootfs, tmp_path)
    digest = images.images[0].digest

    first = await push(ctx, checkout=SOURCE, container_build=images)
    second = await push(ctx, checkout=SOURCE, container_build=images)

    expected = PushedImage(
        name="app", reference=f"{registry.address}/team/app@{digest}", digest=digest, tags=TAGS
    )
    assert first == PushedImages(images=(expected,), commit=COMMIT, version="1.2.0+7.gabc")
    assert second.images[0].was_there
    assert logs(ctx)[-1] == f"{expected.reference} is there already, as {', '.join(TAGS)}\n"
    assert PASSWORD not in "".join(logs(ctx))


async def test_a_registry_that_knows_us_not_is_said_with_what_helps(
    client: dagger.Client, rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pushed."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with real_registry(tmp_path / "registry", users=True) as registry:
        ctx = context(tmp_path, client, registry.address)
        images = await built(ctx, client, rootfs, tmp_path)

        with pytest.raises(PushFailed) as refused:
            await push(ctx, checkout=SOURCE, container_build=images)

    assert str(refused.value).startswith(f"cannot push `{registry.address}/app:{TAGS[0]}`: ")
    assert refused.value.hint == (
        "log in with `docker login`, or set PIPELINE_REGISTRY_USER and PIPELINE_REGISTRY_PASSWORD"
    )


async def test_without_a_registry_images_stay_in_their_archives(
    client: dagger.Client, rootfs: Path, tmp_path: Path
) -> None:
    """They are named by digest all the same."""
    ctx = context(tmp_path, client, None)
    images = await built(ctx, client, rootfs, tmp_path)
    digest = images.images[0].digest

    pushed = await push(ctx, checkout=SOURCE, container_build=images)

    assert pushed.images == (PushedImage(name="app", reference=f"app@{digest}", digest=digest),)
