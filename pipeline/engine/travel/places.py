"""Where carried caches are kept: an OCI layout in a directory, or a repository of a registry.

Both hold one manifest whose configuration is the list and whose layers are the blobs. The manifest is
written last and replaces the one before: what can be seen is always whole.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.compress import BLOCK_BYTES, open_layer
from pipeline.engine.oci.config import InvalidImage, canonical_json
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.model import OCI_MANIFEST, Descriptor, descriptor_document, parse_descriptor
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.threads import together
from pipeline.engine.travel.manifest import ARTIFACT_TYPE, LIST_TYPE, CacheRejected, from_json
from pipeline.engine.travel.unpack import needed, write_file
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pipeline.engine.oci.model import LayerBlob
    from pipeline.engine.oci.registry import Registry
    from pipeline.engine.store import Store
    from pipeline.engine.travel.manifest import Carried
    from pipeline.engine.travel.pack import Packed

LIST_LIMIT_BYTES: Final = 1 << 28
"""Longest list that is read, uncompressed."""

_LAYOUT: Final = canonical_json({"imageLayoutVersion": "1.0.0"})


class CacheExportFailed(EngineError):
    """A cache cannot be written."""

    def __init__(self, target: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot export the cache to `{target}`: {reason}")
        self.hint = hint


def manifest_of(packed: Packed) -> bytes:
    """Return the manifest of a carried cache; equal caches have equal bytes."""
    blobs = packed.carried.blobs().values()
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": _described(packed.document, LIST_TYPE),
            "layers": [_described(each, each.media_type) for each in blobs],
        }
    )


def _described(blob: LayerBlob, media_type: str) -> dict[str, Any]:
    return descriptor_document(
        Descriptor(media_type=media_type, digest=blob.digest, size_bytes=blob.size_bytes)
    )


# ---- a directory ---------------------------------------------------------------------------


def write_directory(folder: Path, store: Store, packed: Packed) -> None:
    """Make `folder` hold this cache; blobs that are there already stay, others are removed at the end.

    Raises:
        CacheExportFailed: It is no cache's directory, or cannot be written.
    """
    try:
        blobs = folder / "blobs" / "sha256"
        if folder.exists() and any(folder.iterdir()) and not (folder / "oci-layout").is_file():
            hint = "name a new directory, or one that a cache was exported to before"
            raise CacheExportFailed(str(folder), "it holds something else", hint=hint)
        blobs.mkdir(parents=True, exist_ok=True)
        write_file(folder / "oci-layout", _LAYOUT)
        manifest = manifest_of(packed)
        wanted = {each.digest: each.size_bytes for each in packed.carried.blobs().values()}
        wanted[packed.document.digest] = packed.document.size_bytes
        for digest, size_bytes in wanted.items():
            target = blobs / digest.removeprefix("sha256:")
            if not target.exists() or target.stat().st_size != size_bytes:
                _copy(store.blobs.path(digest), target)
        digest = digest_bytes(manifest)
        write_file(blobs / digest.removeprefix("sha256:"), manifest)
        entry = Descriptor(media_type=OCI_MANIFEST, digest=digest, size_bytes=len(manifest))
        index = {
            "schemaVersion": 2,
            "manifests": [{**descriptor_document(entry), "artifactType": ARTIFACT_TYPE}],
        }
        write_file(folder / "index.json", canonical_json(index))
        for path in blobs.iterdir():
            if f"sha256:{path.name}" not in {*wanted, digest}:
                path.unlink()
    except OSError as error:
        raise CacheExportFailed(str(folder), (error.strerror or str(error)).lower()) from error


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class Directory:
    """A carried cache in a directory, to be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"

    def read(self) -> Carried:
        """Return the list.

        Raises:
            CacheRejected: There is no cache here, or it is damaged.
        """
        try:
            index = json.loads((self._folder / "index.json").read_bytes())
            manifest = parse_descriptor(index["manifests"][0])
            config = parse_manifest(self.path(manifest.digest).read_bytes(), manifest.digest)[0]
            return from_json(read_list(self.path(config.digest)), str(self._folder))
        except FileNotFoundError as error:
            raise CacheRejected(str(self._folder), f"`{Path(error.filename).name}` is missing") from error
        except OSError as error:
            raise CacheRejected(str(self._folder), (error.strerror or str(error)).lower()) from error
        except (InvalidImage, LayerRejected, LookupError, TypeError, ValueError) as error:
            raise CacheRejected(str(self._folder), str(error)) from error

    def path(self, digest: Digest) -> Path:
        """Return the file of a blob, whether it is there or not."""
        return self._blobs / digest.removeprefix("sha256:")


def parse_manifest(data: bytes, digest: Digest) -> tuple[Descriptor, list[Descriptor]]:
    """Return the list and the blobs of a manifest.

    Raises:
        InvalidImage: It is damaged, or no carried cache's.
        ValueError: It is no JSON.
    """
    if digest_bytes(data) != digest:
        raise InvalidImage("its manifest is damaged")
    table = json.loads(data)
    if not isinstance(table, dict) or table.get("artifactType") != ARTIFACT_TYPE:
        raise InvalidImage("it is no carried cache")
    return parse_descriptor(table.get("config")), [parse_descriptor(one) for one in table.get("layers") or ()]


def read_list(path: Path) -> bytes:
    """Return the uncompressed list.

    Raises:
        LayerRejected: It is longer than any list.
        OSError: It is damaged or missing.
    """
    data = bytearray()
    with open_layer(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            data += block
            if len(data) > LIST_LIMIT_BYTES:
                raise LayerRejected("its list is longer than any list")
    return bytes(data)


# ---- a registry ----------------------------------------------------------------------------


async def push(registry: Registry, address: str, packed: Packed) -> str:
    """Push a carried cache and return `host/name:tag@sha256:…`; blobs that are there are not sent.

    Raises:
        InvalidReference: `address` is not well-formed.
        ImagePushFailed, RegistryUnreachable, RegistryOffline: The registry refused or was not there.
    """
    reference = parse_reference(address)
    digests = sorted({*packed.carried.blobs(), packed.document.digest})
    await together([functools.partial(registry.push_blob, reference, digest) for digest in digests])
    manifest = manifest_of(packed)
    digest = await registry.push_manifest(reference, reference.tag, OCI_MANIFEST, manifest)
    return str(reference.with_digest(digest))


class Repository:
    """A carried cache in a registry, its blobs fetched into the store; made by `pull`."""

    def __init__(self, store: Store, carried: Carried) -> None:
        self._store = store
        self.carried = carried

    def path(self, digest: Digest) -> Path:
        """Return the file of a blob."""
        return self._store.blobs.path(digest)


async def pull(registry: Registry, store: Store, address: str) -> Repository:
    """Fetch what the store lacks of a carried cache.

    Raises:
        CacheRejected: It is no carried cache.
        InvalidReference: `address` is not well-formed.
        ImagePullFailed, RegistryUnreachable, RegistryOffline: The registry refused or was not there.
    """
    reference = parse_reference(address)
    digest, data = await registry.find_manifest(reference)
    try:
        config, layers = parse_manifest(data, digest)
        await registry.fetch_blob(reference, config)
        carried = from_json(read_list(store.blobs.path(config.digest)), address)
    except (InvalidImage, LayerRejected, ValueError, OSError) as error:
        raise CacheRejected(address, str(error)) from error
    wanted = needed(store, carried)
    await together(
        [functools.partial(registry.fetch_blob, reference, one) for one in layers if one.digest in wanted]
    )
    return Repository(store, carried)
