"""Images in and out of the engine: which content a name means, and how containers leave as images.

An image is looked for in the registry (or its mirror), then in the store; where neither has it, a
recipe builds a stand-in if the settings allow that, and the observer is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.digest import Digest
from pipeline.engine import ops
from pipeline.engine.events import ImageEvent, NoticeEvent, current_span
from pipeline.engine.foundimage import FoundImage, NoImage, StoredLayer
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.oci.credentials import Credential
from pipeline.engine.oci.errors import ImagePullFailed, RegistryOffline, RegistryUnreachable
from pipeline.engine.oci.model import ImageToWrite
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.oci.registry import Registry, RegistryLayers
from pipeline.engine.pins import Pins, StandInPinned
from pipeline.engine.threads import in_thread, settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.engine.container import Container
    from pipeline.engine.events import Observer
    from pipeline.engine.files import File
    from pipeline.engine.oci.archive import ArchivedImage
    from pipeline.engine.oci.model import Compression, MediaTypes, ResolvedImage
    from pipeline.engine.oci.reference import Reference
    from pipeline.engine.recipes.recipe import Recipe
    from pipeline.engine.settings import EngineSettings
    from pipeline.engine.solve import Solver
    from pipeline.engine.store import Store
    from pipeline.errors import EngineError

CLOSE_LIMIT_S = 5.0
NOT_THERE = (RegistryUnreachable, RegistryOffline)


def registry_for(store: Store, settings: EngineSettings) -> Registry:
    """Return a client of all registries, as the settings want them spoken to."""
    mirrors: dict[str, list[str]] = {}
    for host, mirror in settings.mirrors:
        mirrors.setdefault(host, []).append(mirror)
    bundle = settings.network.ca_bundle
    return Registry(
        store,
        mirrors=mirrors,
        plain_http=settings.plain_http,
        ca_file=Path(bundle) if bundle else None,
        offline=settings.offline,
    )


class Images:
    """Turns names into images and containers into images; one per session."""

    def __init__(self, store: Store, solver: Solver, settings: EngineSettings, observer: Observer) -> None:
        self.registry = registry_for(store, settings)
        self._store = store
        self._solver = solver
        self._settings = settings
        self._observer = observer
        self._pins = Pins(dict(settings.pins), dict(settings.stand_in_pins), is_locked=settings.is_locked)
        self._found: dict[tuple[str, str], asyncio.Future[FoundImage]] = {}
        self._waiters: Counter[asyncio.Future[FoundImage]] = Counter()
        self._routes: dict[str, int] = {}  # how many need each

    async def close(self) -> None:
        """Give up what is being looked for, and close the connections to registries."""
        for future in self._found.values():
            future.cancel()
        await settled(*self._found.values(), within_s=CLOSE_LIMIT_S)
        await self.registry.aclose()

    def add_credentials(self, address: str, username: str, password: str) -> None:
        """Use these credentials for a registry or repository from now on."""
        self.registry.credentials.add(address, Credential(username=username, password=password))

    @contextlib.contextmanager
    def routed(self, host: str, address: str) -> Iterator[None]:
        """Reach the registry `host` at `address` (`host:port`, with or without TLS) while the body runs."""
        self._routes[host] = self._routes.get(host, 0) + 1
        self.registry.route(host, address)
        try:
            yield
        finally:
            self._routes[host] -= 1
            if not self._routes[host]:
                self.registry.route(host, None)

    # ---- in --------------------------------------------------------------------------------

    async def from_image(self, container: Container, address: str) -> Container:
        """Return `container` on the image `address`; a name is looked up once per session.

        Raises:
            InvalidReference: `address` is no image name.
            NoImage: It is nowhere, and no stand-in is allowed.
            ImagePullFailed: The registry refused.
        """
        found = await self._find_once(parse_reference(address), container.platform)
        return container.from_image(
            config=found.config,
            rootfs=found.rootfs,
            platform=found.platform,
            reference=found.reference,
        )

    async def _find_once(self, reference: Reference, platform: str) -> FoundImage:
        key = (str(reference), platform)
        future = self._found.get(key)
        if future is None or (future.done() and (future.cancelled() or future.exception())):
            future = asyncio.ensure_future(self._find(reference, platform))
            future.add_done_callback(_read_failure)
            self._found[key] = future
        found = await self._wait_for(key, future)
        self._observer(
            ImageEvent(
                reference=key[0],
                digest=found.digest,
                source=found.source,
                span_id=current_span.get(),
                note=found.note,
            )
        )
        return found

    async def _wait_for(self, key: tuple[str, str], future: asyncio.Future[FoundImage]) -> FoundImage:
        """Wait for a lookup that others may share; it is cancelled when the last who waits is."""
        self._waiters[future] += 1
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if self._waiters[future] == 1 and not future.done():
                if self._found.get(key) is future:
                    del self._found[key]  # who asks from now on looks anew
                future.cancel()
                await settled(future, within_s=CLOSE_LIMIT_S)
            raise
        finally:
            self._waiters[future] -= 1
            if not self._waiters[future]:
                del self._waiters[future]

    async def _find(self, reference: Reference, platform: str) -> FoundImage:
        """Find what the name is pinned to; what no lock file speaks of is looked up."""
        name = str(reference)
        if reference.digest is not None:
            return await self._look_up(reference, platform)
        if self._pins.is_stand_in(name):
            found = await self._stand_in(reference, platform, StandInPinned())
            if told := self._pins.check_stand_in(name, found.digest):
                self._observer(NoticeEvent(text=told, span_id=current_span.get()))
            return found
        pinned = self._pins.image(name)
        return await self._look_up(
            reference if pinned is None else reference.with_digest(Digest(pinned)), platform
        )

    async def _look_up(self, reference: Reference, platform: str) -> FoundImage:
        try:
            resolved = await self.registry.resolve(reference, platform)
        except NOT_THERE as error:
            return await self._find_elsewhere(reference, platform, error)
        except ImagePullFailed as error:
            if error.status >= 500 or error.status == 429:
                return await self._find_elsewhere(reference, platform, error)
            if self._may_stand_in:
                return await self._stand_in(reference, platform, error)
            raise
        return self._from_registry(resolved, source="store" if self.registry.offline else "registry")

    def _from_registry(
        self, resolved: ResolvedImage, *, source: Literal["registry", "store"], note: str = ""
    ) -> FoundImage:
        layers = RegistryLayers(self.registry, resolved)
        return FoundImage(
            reference=str(resolved.reference),
            digest=resolved.reference.digest or resolved.manifest.digest,
            config=resolved.image.config,
            platform=resolved.image.platform,
            rootfs=ops.Layers(diff_ids=tuple(resolved.image.diff_ids), source=layers),
            source=source,
            note=note,
        )

    async def _find_elsewhere(self, reference: Reference, platform: str, error: EngineError) -> FoundImage:
        """Where no registry answers, take what the tag last led to, if all of it is here; else a stand-in."""
        known = self.registry.find_known(reference)
        if known is not None and not self.registry.offline:
            try:
                resolved = await self.registry.resolve(known, platform)
            except (*NOT_THERE, ImagePullFailed):
                resolved = None
            if resolved is not None and self._is_here(resolved):
                note = f"what the tag led to last, for {error}"
                return self._from_registry(resolved, source="store", note=note)
        return await self._stand_in(reference, platform, error)

    def _is_here(self, resolved: ResolvedImage) -> bool:
        tree = ops.Layers(
            diff_ids=tuple(resolved.image.diff_ids), source=RegistryLayers(self.registry, resolved)
        )
        if self._store.index.find_result(tree.digest) is not None:
            return True
        return all(self._store.blobs.has(layer.digest) for layer in resolved.layers)

    @property
    def _may_stand_in(self) -> bool:
        return self._settings.image_fallback == "recipe"

    async def _stand_in(self, reference: Reference, platform: str, error: EngineError) -> FoundImage:
        """Build the image from a recipe, if that is allowed and there is one for the platform."""
        from pipeline.engine.recipes.recipe import find_recipe, why_no_recipe

        recipe = find_recipe(str(reference))
        why = why_no_recipe(str(reference))
        if recipe is not None and platform.split("/")[:2] != ["linux", _host_architecture()]:
            recipe, why = None, f"recipes are made for this machine, not for {platform}"
        hint = error.hint or "check the network"
        if not self._may_stand_in:
            if recipe is not None:
                hint += (
                    f"; or build a stand-in from {recipe.distribution.name} packages: --image-fallback recipe"
                )
            raise NoImage(str(reference), str(error), hint=hint) from error
        if recipe is None:
            raise NoImage(str(reference), f"{error}; and no stand-in: {why}", hint=hint) from error
        return await self._from_recipe(reference, recipe)

    async def _from_recipe(self, reference: Reference, recipe: Recipe) -> FoundImage:
        from pipeline.engine.recipes.build import build

        built = await build(recipe, self._store, self._store.root / "recipes")
        config = ImageConfig(
            env=recipe.env,
            cmd=recipe.cmd,
            entrypoint=recipe.entrypoint or None,
            exposed_ports=recipe.ports,
            workdir=recipe.workdir,
        )
        rootfs = ops.Layers(diff_ids=(built.diff_id,), source=StoredLayer(path=built.layer))
        return FoundImage(
            reference=f"{reference.repository}:{reference.tag}@{built.diff_id}",
            digest=built.diff_id,
            config=config,
            platform=f"linux/{_host_architecture()}",
            rootfs=rootfs,
            source="recipe",
            note=f"stand-in `{recipe.name}` from {recipe.distribution.name} {recipe.suite}: {recipe.note}",
        )

    async def import_image(self, container: Container, file: File, tag: str = "") -> Container:
        """Return `container` on the image in an archive (OCI layout or `docker save`).

        Raises:
            ArchiveRejected: It is no such archive, has no such tag, or nothing for the platform.
        """
        from pipeline.engine.oci.archive import read_archive
        from pipeline.engine.read import require_file

        snapshot = await self._solver.tree(file.tree)

        def read() -> Mapping[str, ArchivedImage]:
            with self._store.snapshots.view(snapshot) as root:
                path = require_file(root, file.path)
                return read_archive(path, self._store, tag, container.platform)

        found = await in_thread(read)
        [(platform, archived)] = found.items()
        rootfs = ops.Layers(diff_ids=tuple(archived.image.diff_ids), source=archived.layers)
        return container.from_image(
            config=archived.image.config, rootfs=rootfs, platform=platform, reference=""
        )

    # ---- out -------------------------------------------------------------------------------

    async def image_of(self, container: Container) -> ImageToWrite:
        """Evaluate a container's root file system and return it as an image with layers in the store."""
        from pipeline.engine.oci.image import layers_of

        snapshot = await self._solver.tree(container.rootfs)
        layers = await in_thread(lambda: layers_of(self._store, snapshot))
        return ImageToWrite(
            config=container.config,
            platform=container.platform,
            layers=tuple(layers),
            annotations=container.annotations,
        )

    async def _images(self, container: Container, variants: Sequence[Container]) -> list[ImageToWrite]:
        """Return the images of a container and its variants; an empty receiver with variants is left out."""
        chosen = list(variants)
        if not variants or not isinstance(container.rootfs, ops.Scratch):
            chosen.insert(0, container)
        return [await self.image_of(one) for one in chosen]

    async def publish(
        self,
        container: Container,
        address: str,
        *,
        variants: Sequence[Container] = (),
        compression: Compression | None = None,
        media_types: MediaTypes = "OCIMediaTypes",
    ) -> str:
        """Push a container as an image; return `host/name:tag@sha256:…`.

        Raises:
            ImagePushFailed: The registry refused.
            RegistryUnreachable: It does not answer.
        """
        from pipeline.engine.oci.image import publish

        images = await self._images(container, variants)
        return await publish(
            self.registry,
            self._store,
            address,
            images,
            media_types=media_types,
            compression=compression,
        )

    async def archive(
        self,
        container: Container,
        *,
        variants: Sequence[Container] = (),
        compression: Compression | None = None,
        media_types: MediaTypes = "OCIMediaTypes",
        name: str = "",
    ) -> Path:
        """Write a container as an OCI-layout tar that `docker load` takes too, as an image called `name`.

        Returns a new file (mode 0600) in the store's temporary folder; the caller moves or removes it.
        """
        from pipeline.engine.oci.archive import write_archive

        images = await self._images(container, variants)
        descriptor, path = self.new_archive()
        try:
            with os.fdopen(descriptor, "wb") as out:
                await in_thread(
                    lambda: write_archive(
                        out,
                        self._store,
                        images,
                        media_types=media_types,
                        compression=compression,
                        name=name,
                    )
                )
        except BaseException:
            path.unlink()
            raise
        return path

    def new_archive(self) -> tuple[int, Path]:
        """Make an empty file (mode 0600) in the store's temporary folder; return it open, and its path."""
        folder = self._store.root / "tmp"
        folder.mkdir(exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="image-", suffix=".tar")
        return descriptor, Path(name)


def _read_failure(future: asyncio.Future[FoundImage]) -> None:
    """Read a failure that nobody may be waiting for any more, so that it is not logged."""
    if not future.cancelled():
        future.exception()


def _host_architecture() -> str:
    from pipeline.engine.oci.platform import host_platform

    return host_platform().split("/")[1]
