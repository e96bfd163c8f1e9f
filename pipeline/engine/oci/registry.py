"""Images in registries: finding, fetching and pushing them (the OCI distribution protocol, version 2).

Every byte that is taken is compared with the digest that names it.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.blobs import download
from pipeline.engine.oci.config import InvalidImage, parse_image
from pipeline.engine.oci.credentials import Credentials
from pipeline.engine.oci.errors import (
    ImagePullFailed,
    ImagePushFailed,
    PlatformNotOffered,
    RegistryOffline,
    RegistryUnreachable,
)
from pipeline.engine.oci.model import (
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_MANIFEST,
    Descriptor,
    ResolvedImage,
    parse_descriptor,
)
from pipeline.engine.oci.platform import find_best
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.oci.transport import Call, CallFailed, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import httpx

    from pipeline.engine.oci.reference import Reference
    from pipeline.engine.store import Store

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_DOCUMENT_LIMIT_BYTES: Final = 8 << 20
_PARALLEL: Final = 4
_UPLOAD_ATTEMPTS: Final = 4
_UPLOAD_BYTES: Final = 1 << 20
_ACCEPT: Final = ", ".join(sorted(MANIFESTS | INDEXES))
_TAG_NOTES: Final = "tag"
_ORIGIN_NOTES: Final = "blob-origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A repository at one server: the registry itself, or a mirror of it."""

    host: str
    name: str

    @property
    def pull_scope(self) -> str:
        return f"repository:{self.name}:pull"

    @property
    def push_scope(self) -> str:
        return f"repository:{self.name}:pull,push"


class Registry:
    """All registries, as one client; `aclose` it when the session ends.

    What was fetched is kept in `store`: manifests and configurations by digest are asked for once.
    """

    def __init__(
        self,
        store: Store,
        *,
        credentials: Credentials | None = None,
        mirrors: Mapping[str, Sequence[str]] | None = None,
        plain_http: Collection[str] = (),
        ca_file: Path | None = None,
        offline: bool = False,
        backoff_s: float = 0.25,
    ) -> None:
        """Configure the client; nothing is sent.

        Args:
            mirrors: For a registry host (or `*`), the hosts to ask before it, each with an optional
                path that is put before the image's name.
            plain_http: Hosts that are spoken to without TLS; this machine's need not be listed.
            ca_file: Certificates (PEM) to trust besides the system's.
            offline: Never ask a registry; a tag then means what it last led to.
            backoff_s: The first pause before a request is repeated; it doubles each time.
        """
        self.credentials = credentials or Credentials()
        self.offline = offline
        self._store = store
        self._mirrors = dict(mirrors or {})
        self._transport = Transport(
            self.credentials, plain_http=plain_http, ca_file=ca_file, backoff_s=backoff_s
        )
        self._slots = anyio.CapacityLimiter(_PARALLEL)
        self._locks: dict[Digest, anyio.Lock] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    # ---- pull ----

    async def resolve(self, reference: Reference | str, platform: str) -> ResolvedImage:
        """Return the image that `reference` leads to for `platform`; layers are not fetched.

        A tag is asked for at every call; what is named by digest comes from the store when it is there.

        Raises:
            InvalidReference, InvalidPlatform: A text is not well-formed.
            ImagePullFailed: The registry refused, or what it gave is no image; `status` 404 = not there.
            PlatformNotOffered: The image is not made for `platform`.
            RegistryUnreachable, RegistryOffline: It could not be asked.
            CredentialsUnreadable: The credentials for it could not be read.
        """
        ref = parse_reference(reference) if isinstance(reference, str) else reference
        digest, data = await self._find_manifest(ref)
        pinned = ref.with_digest(digest)
        try:
            return await self._resolve_document(pinned, platform, digest, data)
        except InvalidImage as error:
            raise ImagePullFailed(str(ref), f"it is no image ({error})") from error

    async def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> Path:
        """Return a blob's file in the store; fetch it, four at a time, when it is not there.

        Raises:
            ImagePullFailed: The registry refused, or sent other bytes.
            RegistryUnreachable, RegistryOffline: It could not be asked.
        """
        lock = self._locks.setdefault(descriptor.digest, anyio.Lock())
        async with lock:
            if self._store.blobs.has(descriptor.digest):
                return self._store.blobs.path(descriptor.digest)
            self._check_online(reference)
            async with self._slots:
                await self._from_any(reference, lambda place: self._download(reference, place, descriptor))
            origin = f"{reference.host} {descriptor.digest}"
            self._store.index.save_note(_ORIGIN_NOTES, origin, reference.name)
            return self._store.blobs.path(descriptor.digest)

    async def _resolve_document(
        self, ref: Reference, platform: str, digest: Digest, data: bytes
    ) -> ResolvedImage:
        document = _parse_document(data)
        if _media_type(document) in INDEXES:
            chosen = _choose(ref, platform, document)
            digest, data = await self._manifest_by_digest(ref, chosen.digest)
            document = _parse_document(data)
        media_type = _media_type(document)
        if media_type not in MANIFESTS:
            raise InvalidImage(f"manifests of type `{media_type}` are not supported")
        config = parse_descriptor(document.get("config"))
        image = parse_image(await self._small_blob(ref, config))
        layers = tuple(parse_descriptor(each) for each in document.get("layers") or ())
        if len(layers) != len(image.diff_ids):
            raise InvalidImage(f"it lists {len(layers)} layers but {len(image.diff_ids)} layer digests")
        return ResolvedImage(
            reference=ref,
            manifest=Descriptor(
                media_type=media_type, digest=digest, size_bytes=len(data), platform=image.platform
            ),
            image=image,
            layers=layers,
            annotations=tuple(sorted((document.get("annotations") or {}).items())),
        )

    async def _find_manifest(self, ref: Reference) -> tuple[Digest, bytes]:
        if ref.digest is not None:
            return await self._manifest_by_digest(ref, ref.digest)
        if self.offline:
            known = self._store.index.find_note(_TAG_NOTES, str(ref))
            if known is None:
                raise RegistryOffline(str(ref))
            return await self._manifest_by_digest(ref, Digest(known))
        data = await self._from_any(ref, lambda place: self._get_manifest(place, ref.tag))
        digest = self._store.blobs.put_bytes(data)
        self._store.index.save_note(_TAG_NOTES, str(ref), digest)
        return digest, data

    async def _manifest_by_digest(self, ref: Reference, digest: Digest) -> tuple[Digest, bytes]:
        if self._store.blobs.has(digest):
            return digest, self._store.blobs.read(digest)
        self._check_online(ref)
        data = await self._from_any(ref, lambda place: self._get_manifest(place, digest))
        self._check_digest(ref, digest, data)
        return self._store.blobs.put_bytes(data), data

    async def _get_manifest(self, place: _Place, target: str) -> bytes:
        response = await self._transport.send(
            Call(
                host=place.host,
                method="GET",
                path=f"{place.name}/manifests/{target}",
                scopes=(place.pull_scope,),
                repository=place.name,
                headers={"Accept": _ACCEPT},
            )
        )
        data = await _read_document(response, place.host)
        told = response.headers.get("Docker-Content-Digest", "")
        if told.startswith("sha256:") and told != digest_bytes(data):
            raise CallFailed("its manifest does not have the digest that the registry told", 0, place.host)
        return data

    async def _small_blob(self, ref: Reference, descriptor: Descriptor) -> bytes:
        if descriptor.size_bytes > _DOCUMENT_LIMIT_BYTES:
            raise InvalidImage(f"its configuration is {descriptor.size_bytes} bytes long")
        await self.fetch_blob(ref, descriptor)
        return self._store.blobs.read(descriptor.digest)

    async def _download(self, ref: Reference, place: _Place, descriptor: Descriptor) -> None:
        call = Call(
            host=place.host,
            method="GET",
            path=f"{place.name}/blobs/{descriptor.digest}",
            scopes=(place.pull_scope,),
            repository=place.name,
        )
        await download(self._transport, call, descriptor, self._store.blobs)

    async def _from_any(self, ref: Reference, get: Callable[[_Place], Awaitable[_T]]) -> _T:
        """Ask the mirrors in their order, then the registry itself, whose answer decides."""
        for mirror in self._mirrors.get(ref.host, self._mirrors.get("*", ())):
            host, _, prefix = mirror.partition("/")
            try:
                return await get(_Place(host=host, name=f"{prefix.strip('/')}/{ref.name}".lstrip("/")))
            except (CallFailed, RegistryUnreachable) as error:
                _log.info("mirror %s of %s cannot serve %s: %s", host, ref.host, ref.name, error)
        try:
            return await get(_Place(host=ref.host, name=ref.name))
        except CallFailed as error:
            hint = _pull_hint(error.status, ref)
            raise ImagePullFailed(str(ref), error.what, status=error.status, hint=hint) from error

    def _check_online(self, ref: Reference) -> None:
        if self.offline:
            raise RegistryOffline(str(ref))

    @staticmethod
    def _check_digest(ref: Reference, expected: Digest, data: bytes) -> None:
        if digest_bytes(data) != expected:
            raise ImagePullFailed(str(ref), "the registry sent a manifest with another digest")

    # ---- push ----

    async def push_blob(self, reference: Reference, digest: Digest) -> bool:
        """Bring a blob of the store to the repository; tell whether its bytes had to be sent.

        What is there already, or can be mounted from a repository it was pulled from, is not sent.

        Raises:
            ImagePushFailed: The registry refused.
            RegistryUnreachable, RegistryOffline: It could not be asked.
        """
        self._check_online(reference)
        place = _Place(host=reference.host, name=reference.name)
        async with self._slots:
            try:
                return await self._push_blob(place, digest)
            except CallFailed as error:
                raise _push_failed(reference, error) from error

    async def push_manifest(self, reference: Reference, target: str, media_type: str, data: bytes) -> Digest:
        """Store a manifest or an index under `target` (a tag or its digest); return its digest.

        Raises:
            ImagePushFailed: The registry refused.
            RegistryUnreachable, RegistryOffline: It could not be asked.
        """
        self._check_online(reference)
        place = _Place(host=reference.host, name=reference.name)
        try:
            await self._finished(
                Call(
                    host=place.host,
                    method="PUT",
                    path=f"{place.name}/manifests/{target}",
                    scopes=(place.push_scope,),
                    repository=place.name,
                    headers={"Content-Type": media_type},
                    body=data,
                )
            )
        except CallFailed as error:
            raise _push_failed(reference, error) from error
        return digest_bytes(data)

    async def _push_blob(self, place: _Place, digest: Digest) -> bool:
        if await self._has_blob(place, digest):
            return False
        path = self._store.blobs.path(digest)
        size_bytes = _size_of(path)
        attempt = 0
        while True:
            attempt += 1
            location = await self._begin_upload(place, digest, may_mount=attempt == 1)
            if location is None:
                return False
            try:
                await self._upload(place, location, digest, path, size_bytes)
            except (CallFailed, RegistryUnreachable) as error:
                status = error.status if isinstance(error, CallFailed) else 503
                # 404: the registry has forgotten the upload, as it does when it was restarted.
                if attempt >= _UPLOAD_ATTEMPTS or not (status >= 500 or status in {404, 408, 416, 429}):
                    raise
                await self._transport.pause(attempt)
            else:
                origin = f"{place.host} {digest}"
                self._store.index.save_note(_ORIGIN_NOTES, origin, place.name)
                return True

    async def _has_blob(self, place: _Place, digest: Digest) -> bool:
        try:
            await self._finished(
                Call(
                    host=place.host,
                    method="HEAD",
                    path=f"{place.name}/blobs/{digest}",
                    scopes=(place.push_scope,),
                    repository=place.name,
                )
            )
        except CallFailed as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _begin_upload(self, place: _Place, digest: Digest, *, may_mount: bool) -> str | None:
        """Return where to upload to; None when the registry could mount the blob from elsewhere."""
        origin = self._store.index.find_note(_ORIGIN_NOTES, f"{place.host} {digest}") if may_mount else None
        scopes: tuple[str, ...] = (place.push_scope,)
        params: dict[str, str] = {}
        if origin is not None and origin != place.name:
            scopes = (place.push_scope, f"repository:{origin}:pull")
            params = {"mount": digest, "from": origin}
        call = Call(
            host=place.host,
            method="POST",
            path=f"{place.name}/blobs/uploads/",
            scopes=scopes,
            repository=place.name,
            params=params,
        )
        try:
            response = await self._finished(call)
        except CallFailed as error:
            if not params or error.status not in {400, 401, 403, 404, 405}:
                raise
            return await self._begin_upload(place, digest, may_mount=False)
        if response.status_code == 201:
            return None
        location = response.headers.get("Location", "")
        if not location:
            raise CallFailed("it did not tell where to upload to", response.status_code, place.host)
        return str(response.request.url.join(location))

    async def _upload(
        self, place: _Place, location: str, digest: Digest, path: Path, size_bytes: int
    ) -> None:
        await self._finished(
            Call(
                host=place.host,
                method="PUT",
                path=location,
                scopes=(place.push_scope,),
                repository=place.name,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(size_bytes),
                },
                params={"digest": digest},
                body=lambda: _file_chunks(path),
                may_repeat=False,
            )
        )

    async def _finished(self, call: Call) -> httpx.Response:
        response = await self._transport.send(call)
        await response.aclose()
        return response


def _choose(ref: Reference, platform: str, document: Mapping[str, Any]) -> Descriptor:
    entries = [parse_descriptor(each) for each in document.get("manifests") or ()]
    images = [each for each in entries if each.media_type in MANIFESTS]
    offered = [each for each in images if each.platform and not each.platform.startswith("unknown/")]
    if not offered and len(images) == 1:
        return images[0]  # its own configuration tells the platform
    best = find_best(platform, [each.platform for each in offered])
    if best is None:
        raise PlatformNotOffered(str(ref), platform, tuple(sorted(each.platform for each in offered)))
    return offered[best]


def _parse_document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise InvalidImage("its manifest is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidImage("its manifest is no JSON object")
    return document


def _media_type(document: Mapping[str, Any]) -> str:
    """Tell what a document is; OCI lets it leave that out."""
    if told := document.get("mediaType"):
        return str(told)
    if "manifests" in document:
        return next(iter(sorted(INDEXES)))
    if document.get("schemaVersion") == 1:
        return "application/vnd.docker.distribution.manifest.v1+json"
    config_type = str((document.get("config") or {}).get("mediaType") or "")
    return DOCKER_MANIFEST if "docker" in config_type else OCI_MANIFEST


async def _read_document(response: httpx.Response, host: str) -> bytes:
    import httpx

    data = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > _DOCUMENT_LIMIT_BYTES:
                raise CallFailed("its manifest is longer than any manifest", 0, host)
    except httpx.HTTPError as error:
        raise RegistryUnreachable(host, f"its answer broke off ({type(error).__name__})") from error
    finally:
        await response.aclose()
    return bytes(data)


def _size_of(path: Path) -> int:
    return os.path.getsize(path)


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    with open(path, "rb") as stream:  # noqa: ASYNC230 (a megabyte from the page cache takes less than a thread switch)
        while data := stream.read(_UPLOAD_BYTES):
            yield data


def _pull_hint(status: int, ref: Reference) -> str | None:
    if status in {401, 403}:
        return (
            f"log in with `docker login {ref.host}`, give the stage's container registry credentials, "
            "or check the name: registries also answer so for images that do not exist"
        )
    if status == 404:
        return "check the image's name and tag"
    if status == 429:
        return f"log in with `docker login {ref.host}` to get a higher limit, or configure a mirror"
    return None


def _push_failed(ref: Reference, error: CallFailed) -> ImagePushFailed:
    hint = None
    if error.status == 401:
        hint = f"log in with `docker login {ref.host}`, or give the stage's container registry credentials"
    elif error.status == 403:
        hint = f"the user that is logged in may not write to `{ref.repository}`"
    return ImagePushFailed(str(ref), error.what, status=error.status, hint=hint)


class RegistryLayers:
    """Gives an image's layers, each fetched when it is first asked for; a `LayerSource`."""

    def __init__(self, registry: Registry, image: ResolvedImage) -> None:
        self._registry = registry
        self._reference = image.reference
        self._layers = dict(zip(image.image.diff_ids, image.layers, strict=True))

    def descriptor(self, diff_id: Digest) -> Descriptor:
        """Return what the registry calls the layer.

        Raises:
            KeyError: It is none of this image's layers.
        """
        return self._layers[diff_id]

    async def fetch(self, diff_id: Digest) -> Path:
        """Return the path of the layer's blob in the store, fetched when it is not there.

        Raises:
            ImagePullFailed: The registry refused, or sent other bytes.
            RegistryUnreachable, RegistryOffline: It could not be asked.
        """
        return await self._registry.fetch_blob(self._reference, self._layers[diff_id])
