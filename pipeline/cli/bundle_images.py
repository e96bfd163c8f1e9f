"""Images and tools for a bundle: fetched by way of the engine, carried as it carries its cache."""

from __future__ import annotations

import contextlib
import re
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.cli.output import say
from pipeline.scan.data import DataBroken, Item, digest_and_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import dagger

    from pipeline.cli.project import Project
    from pipeline.engine.settings import EngineSettings

IMAGES: Final = "images"
TOOL_IMAGE: Final = "python:3.11-slim"
MOST_BYTES: Final = 64 * 1024**3  # of one image
WHEELS: Final = "/wheels"
DOWNLOAD: Final = (
    *("python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
    *("--require-hashes", "--only-binary=:all:", "--dest", WHEELS, "-r"),
)


@contextlib.asynccontextmanager
async def session(project: Project) -> AsyncIterator[dagger.Client]:
    """Open a session outside of a run."""
    from pipeline.cli.sessions import say_notice
    from pipeline.config.lock import load_lock
    from pipeline.connect import Target, engine_settings, open_session

    config = project.config
    target = Target(kind=config.engine.kind, address=config.engine.address or "")
    settings = engine_settings(config, load_lock(project.root))
    async with open_session(target, settings, workdir=project.root, observer=say_notice) as client:
        yield client


async def fetch(project: Project, images: Sequence[str], locks: Mapping[str, str], folder: Path) -> list[str]:
    """Get images, and the wheels of locks as the tools' own image takes them; say what the names mean.

    Args:
        folder: Gets the wheels.

    Raises:
        NotFetched: An image or a wheel cannot be had.
    """
    import dagger

    from pipeline.cli.prefetch_command import NotFetched

    found = []
    async with session(project) as client:
        for image in images:
            say(f"fetching {image}")
            try:
                container: Any = await client.container().from_(image).sync()
                found.append(await container.image_ref())
            except dagger.QueryError as error:
                raise NotFetched(image, str(error), act="bundle") from error
        if locks:
            say(f"fetching {len(locks)} tools")
            container = client.container().from_(TOOL_IMAGE)
            container = container.with_mounted_cache("/root/.cache/pip", client.cache_volume("pip"))
            for tool, lock in locks.items():
                container = container.with_new_file(f"/locks/{tool}.txt", lock)
                container = container.with_exec([*DOWNLOAD, f"/locks/{tool}.txt"])
            try:
                await container.directory(WHEELS).export(str(folder))
            except dagger.ExecError as error:
                said = (error.stderr or str(error)).strip().splitlines()[-1]
                raise NotFetched("tools", said, act="bundle") from error
    return found


def pack_images(
    settings: EngineSettings, references: Sequence[str], folder: Path, made_at: str
) -> dict[Path, Item]:
    """Write each image of the engine's store as one file, by what its name led to.

    Raises:
        EngineError: The store or the folder cannot be used.
        DataBroken: An image is not in the store.
    """
    from pipeline.digest import Digest
    from pipeline.engine.store import Store
    from pipeline.engine.travel.pack import packing
    from pipeline.engine.travel.places import write_directory

    store = Store.open(settings.store_path())
    found = {}
    try:
        for reference in references:
            name, _, digest = reference.partition("@")
            target = (
                folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name.removeprefix('docker.io/library/'))}.tar"
            )
            with (
                tempfile.TemporaryDirectory(dir=folder) as layout,
                packing(store, max_bytes=MOST_BYTES, images={Digest(digest)}) as packed,
            ):
                if not packed.carried.snapshots:
                    raise DataBroken(settings.store_path(), f"it does not hold `{reference}`")
                write_directory(Path(layout), store, packed)
                with tarfile.open(target, "w") as tar:
                    tar.add(layout, arcname=".")
            digest_of_file, size_bytes = digest_and_size(target)
            found[target] = Item(
                name=target.name,
                digest=digest_of_file,
                size_bytes=size_bytes,
                as_of=made_at,
                fetched_at=made_at,
                licence="as its packages say",
                address=reference,
            )
    finally:
        store.close()
    return found


def check_image(path: Path) -> None:
    """Refuse a file that carries no image; nothing is taken from it.

    Raises:
        PipelineError: It does not.
    """
    with unpacked(path) as cache:
        cache.read()


def take_images(settings: EngineSettings, paths: Sequence[Path]) -> None:
    """Put carried images into the engine's store.

    Raises:
        EngineError: One is damaged, or the store cannot be used.
    """
    from pipeline.engine.rootless.enter import enter_user_namespace
    from pipeline.engine.store import Store
    from pipeline.engine.travel.unpack import unpack

    enter_user_namespace()
    store = Store.open(settings.store_path())
    try:
        for path in paths:
            with unpacked(path) as cache:
                unpack(store, cache.read(), cache, path.name)
    finally:
        store.close()


@contextlib.contextmanager
def unpacked(path: Path) -> Any:
    """Lend what a carried image holds, as a carried cache."""
    from pipeline.engine.travel.places import Directory

    with tempfile.TemporaryDirectory(dir=path.parent) as layout:
        try:
            with tarfile.open(path) as tar:
                tar.extractall(layout, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataBroken(path, f"it is no image: {error}") from error
        yield Directory(Path(layout))
