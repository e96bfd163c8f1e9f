"""Images in registries: finding, fetching and pushing them (the OCI distribution protocol, version 2).

Every byte that is taken is compared with the digest that names it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import anyio

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.blobs import download
from pipeline.engine.oci.config import InvalidImage, parse_image
from pipeline.engine.oci.credentials import Credentials
from pipeline.engine.oci.errors import (
    ImagePullFailed,
    RegistryOffline,
    RegistryUnreachable,
)
from pipeline.engine.oci.indexes import find_offered
from pipeline.engine.oci.manifests import choose_manifest, list_in, media_type_of, parse_document, table_in
from pipeline.engine.oci.model import (
    INDEXES,
    MANIFESTS,
    Descriptor,
    ResolvedImage,
    parse_descriptor,
)
from pipeline.engine.oci.push import ORIGIN_NOTES, Uploader, push_failed
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.oci.transport import Call, CallFailed, Place, Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    import httpx

    from pipeline.engine.oci.reference import Reference
    from pipeline.engine.store import Store

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_DOCUMENT_LIMIT_BYTES: Final = 8 << 20
_DOCUMENT_ATTEMPTS: Final = 3
_PARALLEL: Final = 4
_ACCEPT: Final = ", ".join(sorted(MANIFESTS | INDEXES))
_TAG_NOTES: Final = "tag"


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
        silence_limit_s: float = 60.0,
    ) -> None:
        """Configure the client; nothing is sent.

        Args:
            mirrors: For a registry host (or `*`), the hosts to ask before it, each with an optional
                path that is put before the image's name.
            plain_http: Hosts that are spoken to without TLS; this machine's need not be listed.
            ca_file: Certificates (PEM) to trust besides the system's.
            offline: Never ask a registry; a tag then means what it last led to.
            backoff_s: The first pause before a request is repeated; it doubles each time.
            silence_limit_s: How long a registry may say nothing, or less than 1 kB a second of a blob, or
                take for the next 256 KiB of an upload.
        """
        self.credentials = credentials or Credentials()
        self.offline = offline
        self._store = store
        self._mirrors = dict(mirrors or {})
        self._transport = Transport(
            self.credentials,
            plain_http=plain_http,
            ca_file=ca_file,
            backoff_s=backoff_s,
            silence_limit_s=silence_limit_s,
        )
        self._uploader = Uploader(transport=self._transport, store=store)
        self._slots = anyio.CapacityLimiter(_PARALLEL)
        self._locks: dict[Digest, anyio.Lock] = {}

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def route(self, host: str, address: str | None) -> None:
        """Reach registry `host` at `address` (`host:port`, with or without TLS); None ends that.

        For registries that run as a service: only the engine knows where they are.
        """
        self._transport.route(host, address)

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
        digest, data = await self.find_manifest(ref)
        pinned = ref.with_digest(digest)
        try:
            return await self._resolve_document(pinned, platform, digest, data)
        except InvalidImage as error:
            raise ImagePullFailed(str(ref), f"it is no image ({error.what})") from error

    def find_known(self, reference: Reference) -> Reference | None:
        """Return, with its digest, what a tag led to when a registry last said so; None when it never did."""
        known = self._store.index.find_note(_TAG_NOTES, str(reference))
        return None if known is None else reference.with_digest(Digest(known))

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
            self._store.index.save_note(ORIGIN_NOTES, origin, reference.name)
            return self._store.blobs.path(descriptor.digest)

    async def _resolve_document(
        self, ref: Reference, platform: str, digest: Digest, data: bytes
    ) -> ResolvedImage:
        async def read(named: Digest) -> bytes:
            return (await self._manifest_by_digest(ref, named))[1]

        document = parse_document(data)
        if media_type_of(document) in INDEXES:
            chosen = choose_manifest(ref, platform, await find_offered(document, read))
            digest, data = await self._manifest_by_digest(ref, chosen.digest)
            document = parse_document(data)
        media_type = media_type_of(document)
        if media_type not in MANIFESTS:
            raise InvalidImage(f"manifests of type `{media_type}` are not supported")
        config = parse_descriptor(document.get("config"))
        image = parse_image(await self._small_blob(ref, config))
        layers = tuple(parse_descriptor(each) for each in list_in(document, "layers"))
        if len(layers) != len(image.diff_ids):
            raise InvalidImage(f"it lists {len(layers)} layers but {len(image.diff_ids)} layer digests")
        return ResolvedImage(
            reference=ref,
            manifest=Descriptor(
                media_type=media_type, digest=digest, size_bytes=len(data), platform=image.platform
            ),
            image=image,
            layers=layers,
            annotations=tuple(sorted(table_in(document, "annotations").items())),
        )

    async def find_manifest(self, ref: Reference) -> tuple[Digest, bytes]:
        """Return what `ref` leads to, of whatever type, with its digest; errors as of `resolve`."""
        if ref.digest is not None:
            return await self._manifest_by_digest(ref, ref.digest)
        if self.offline:
            known = self._store.index.find_note(_TAG_NOTES, str(ref))
            if known is None:
                raise RegistryOffline(str(ref))
            return await self._manifest_by_digest(ref, Digest(known))
        if (known := await self._find_unchanged(ref)) is not None:
            return known, self._store.blobs.read(known)
        data = await self._from_any(ref, lambda place: self._get_manifest(place, ref.tag))
        digest = self._store.blobs.put_bytes(data)
        self._store.index.save_note(_TAG_NOTES, str(ref), digest)
        return digest, data

    async def _find_unchanged(self, ref: Reference) -> Digest | None:
        """Ask whether a tag still leads to what we have; registries do not count that as a pull."""
        known = self._store.index.find_note(_TAG_NOTES, str(ref))
        if known is None or not self._store.blobs.has(Digest(known)):
            return None
        try:
            response = await self._from_any(ref, lambda place: self._ask_manifest(place, "HEAD", ref.tag))
        except ImagePullFailed as error:
            if error.status in {400, 405, 501}:
                return None  # it does not know this way to ask
            raise
        await response.aclose()
        return Digest(known) if response.headers.get("Docker-Content-Digest") == known else None

    async def _manifest_by_digest(self, ref: Reference, digest: Digest) -> tuple[Digest, bytes]:
        if self._store.blobs.has(digest):
            return digest, self._store.blobs.read(digest)
        self._check_online(ref)
        data = await self._from_any(ref, lambda place: self._get_manifest(place, digest))
        self._check_digest(ref, digest, data)
        return self._store.blobs.put_bytes(data), data

    async def _get_manifest(self, place: Place, target: str) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            response = await self._ask_manifest(place, "GET", target)
            try:
                data = await _read_document(response, place.host, 2 * self._transport.silence_limit_s)
            except RegistryUnreachable:
                if attempt >= _DOCUMENT_ATTEMPTS:
                    raise
                await self._transport.pause(attempt)
            else:
                break
        told = response.headers.get("Docker-Content-Digest", "")
        if told.startswith("sha256:") and told != digest_bytes(data):
            raise CallFailed("its manifest does not have the digest that the registry told", 0, place.host)
        return data

    async def _ask_manifest(
        self, place: Place, method: Literal["GET", "HEAD"], target: str
    ) -> httpx.Response:
        return await self._transport.send(
            Call(
                host=place.host,
                method=method,
                path=f"{place.name}/manifests/{target}",
                scopes=(place.pull_scope,),
                repository=place.name,
                headers={"Accept": _ACCEPT},
            )
        )

    async def _small_blob(self, ref: Reference, descriptor: Descriptor) -> bytes:
        if descriptor.size_bytes > _DOCUMENT_LIMIT_BYTES:
            raise InvalidImage(f"its configuration is {descriptor.size_bytes} bytes long")
        await self.fetch_blob(ref, descriptor)
        return self._store.blobs.read(descriptor.digest)

    async def _download(self, ref: Reference, place: Place, descriptor: Descriptor) -> None:
        call = Call(
            host=place.host,
            method="GET",
            path=f"{place.name}/blobs/{descriptor.digest}",
            scopes=(place.pull_scope,),
            repository=place.name,
        )
        await download(self._transport, call, descriptor, self._store.blobs)

    async def _from_any(self, ref: Reference, get: Callable[[Place], Awaitable[_T]]) -> _T:
        """Ask the mirrors in their order, then the registry itself, whose answer decides."""
        for mirror in self._mirrors.get(ref.host, self._mirrors.get("*", ())):
            host, _, prefix = mirror.partition("/")
            try:
                return await get(Place(host=host, name=f"{prefix.strip('/')}/{ref.name}".lstrip("/")))
            except (CallFailed, RegistryUnreachable) as error:
                _log.info("mirror %s of %s cannot serve %s: %s", host, ref.host, ref.name, error)
        try:
            return await get(Place(host=ref.host, name=ref.name))
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
        place = Place(host=reference.host, name=reference.name)
        async with self._slots:
            try:
                return await self._uploader.push_blob(place, digest)
            except CallFailed as error:
                raise push_failed(reference, error) from error

    async def push_manifest(self, reference: Reference, target: str, media_type: str, data: bytes) -> Digest:
        """Store a manifest or an index under `target` (a tag or its digest); return its digest.

        Raises:
            ImagePushFailed: The registry refused.
            RegistryUnreachable, RegistryOffline: It could not be asked.
        """
        self._check_online(reference)
        place = Place(host=reference.host, name=reference.name)
        try:
            return await self._uploader.push_manifest(place, target, media_type, data)
        except CallFailed as error:
            raise push_failed(reference, error) from error


async def _read_document(response: httpx.Response, host: str, limit_s: float) -> bytes:
    import httpx

    data = bytearray()
    try:
        with anyio.fail_after(limit_s):
            async for chunk in response.aiter_raw():  # as it was sent: nothing unpacks to more than was read
                data += chunk
                if len(data) > _DOCUMENT_LIMIT_BYTES:
                    raise CallFailed("its manifest is longer than any manifest", 0, host)
    except httpx.HTTPError as error:
        raise RegistryUnreachable(host, f"its answer broke off ({type(error).__name__})") from error
    except TimeoutError as error:
        raise RegistryUnreachable(host, f"its answer did not end within {limit_s:g} s") from error
    finally:
        await response.aclose()
    return bytes(data)


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
