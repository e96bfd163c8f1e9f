"""`container_build`: an image of each Dockerfile of the project."""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.stage import stage
from pipeline.stages.containers import source, stage_env
from pipeline.stages.failures import dockerfile_failure
from pipeline.stages.results import Image, Images, Source

if TYPE_CHECKING:
    from collections.abc import Mapping


@stage(timeout_s=3600)
async def container_build(ctx: Context, checkout: Source) -> Images:
    """Build each Dockerfile into an OCI image with labels; keep the archives `docker load` takes."""
    return Images(images=tuple([await build_image(ctx, table) for table in ctx.options["dockerfiles"]]))


async def build_image(ctx: Context, table: Mapping[str, Any]) -> Image:
    """Build one Dockerfile and keep its archive.

    Args:
        table: `path` of the Dockerfile, `context` folder ("." the root), name of the `image`.

    Raises:
        CheckFailed: The Dockerfile cannot be read or carried out, or one of its commands failed.
    """
    import dagger

    try:
        return await built_image(ctx, table)
    except dagger.QueryError as error:
        path = str(table["path"])
        text = (ctx.root / path).read_text(encoding="utf-8", errors="replace")
        failure = dockerfile_failure(error, path, text)
        if failure is None:
            raise
        raise CheckFailed(failure) from error


async def built_image(ctx: Context, table: Mapping[str, Any]) -> Image:
    """As `build_image`, but raises what the engine says."""
    import dagger

    path, folder, name = str(table["path"]), str(table["context"]), str(table["image"])
    files = await source(ctx)
    context = files if folder == "." else files.directory(folder)
    inside = path if folder == "." else path.removeprefix(folder + "/")
    args = [dagger.BuildArg(name=key, value=value) for key, value in stage_env(ctx).items()]
    container = context.docker_build(dockerfile=inside, build_args=args)
    labels = {"org.opencontainers.image.title": name, **dict(ctx.options.get("labels", {}))}
    own = {await label.name() for label in await container.labels()}
    for label, value in sorted(labels.items()):
        if label not in own:  # what the Dockerfile says itself goes first
            container = container.with_label(label, str(value))
    ctx.log(f"building {name} from {path}\n")
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / f"{name}.tar"
        await container.as_tarball().export(str(archive))
        digest, platform = read_manifest(archive)
        kept = ctx.keep(f"{name}.tar", archive)
    ctx.log(f"{name}@{digest}, {platform}, {kept.size_bytes / 1e6:.1f} MB\n")
    return Image(
        name=name,
        dockerfile=path,
        platform=platform,
        digest=digest,
        size_bytes=kept.size_bytes,
        archive=kept,
    )


def read_manifest(archive: Path) -> tuple[str, str]:
    """Return the manifest's digest and the platform of an OCI archive with one image."""
    with tarfile.open(archive) as tar:
        index = _json_of(tar, "index.json")
        found = index["manifests"][0]
        manifest = _json_of(tar, _blob(found["digest"]))
        config = _json_of(tar, _blob(manifest["config"]["digest"]))
    return str(found["digest"]), f"{config['os']}/{config['architecture']}"


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json_of(tar: tarfile.TarFile, name: str) -> dict[str, Any]:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(name)
    value: dict[str, Any] = json.load(stream)
    return value
