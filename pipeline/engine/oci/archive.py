"""Images as files: reading OCI layouts (directory or tar) and docker-archives, writing an OCI layout tar.

The tar that is written also has Docker's `manifest.json`, so `docker load` takes it.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from pipeline.engine.oci import tarformat
from pipeline.engine.oci.assemble import assemble
from pipeline.engine.oci.compress import BLOCK_BYTES, decompressed, sniff_compression
from pipeline.engine.oci.config import InvalidImage, canonical_json, parse_image
from pipeline.engine.oci.errors import ArchiveRejected, LayerRejected, PlatformNotOffered
from pipeline.engine.oci.image import convert_images
from pipeline.engine.oci.indexes import NESTING_LIMIT
from pipeline.engine.oci.model import INDEXES, MANIFESTS, descriptor_document, parse_descriptor
from pipeline.engine.oci.platform import find_best, host_platform
from pipeline.engine.store.values import BlobCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.oci.assemble import Assembly
    from pipeline.engine.oci.compress import Sink
    from pipeline.engine.oci.config import ParsedImage
    from pipeline.engine.oci.model import Compression, Descriptor, ImageToWrite, MediaTypes
    from pipeline.engine.store import Store

_DOCUMENT_LIMIT_BYTES: Final = 8 << 20
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_IMAGE_NAME: Final = "io.containerd.image.name"


class ArchiveLayers:
    """An archive's layers, which are in the store; a `LayerSource`."""

    def __init__(self, store: Store, blobs: Mapping[Digest, Digest]) -> None:
        """Map layers' uncompressed digests to their blobs."""
        self._store = store
        self._blobs = dict(blobs)

    async def fetch(self, diff_id: Digest) -> Path:
        """Return the path of the layer's blob in the store.

        Raises:
            BlobNotFound: It was pruned since.
        """
        return self._store.blobs.path(self._blobs[diff_id])


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedImage:
    """An image that was read from an archive."""

    image: ParsedImage
    layers: ArchiveLayers


class _Files(Protocol):
    """The files of a layout, by their names in it."""

    def open(self, name: str) -> BinaryIO:
        """Raise `KeyError` when it is not there."""


def read_archive(path: Path, store: Store, tag: str = "", platform: str = "") -> dict[str, ArchivedImage]:
    """Bring an archive's images into the store and return them by platform. Blocks.

    Args:
        tag: The image to take, where the archive names several.
        platform: Take only the image that suits this platform best; all when empty.

    Raises:
        ArchiveRejected: It is no image archive, is damaged, lacks the tag, or the choice is not clear.
        PlatformNotOffered: None of its images suits `platform`.
    """
    try:
        with _opened(path, store.root) as files:
            return _Loader(path=path, store=store, files=files).load(tag, platform)
    except (tarfile.TarError, InvalidImage, BlobCorrupt, LayerRejected) as error:
        raise ArchiveRejected(str(path), str(error)) from error
    except OSError as error:
        raise ArchiveRejected(str(path), (error.strerror or str(error)).lower()) from error


def write_archive(
    out: Sink,
    store: Store,
    images: Sequence[ImageToWrite],
    media_types: MediaTypes = "OCIMediaTypes",
    compression: Compression | None = None,
    name: str = "",
) -> Digest:
    """Write an OCI layout tar of images (several as an index); return its manifest's or index's digest.

    Equal images give equal bytes. `compression` None keeps what layers have; `name` is what the image is
    called where the archive is loaded. Blocks.

    Raises:
        FormatRefused, DuplicatePlatform: The images cannot be written so.
        BlobNotFound: A layer's blob is not in the store.
    """
    assembly = assemble(convert_images(store, images, compression), media_types)
    root = descriptor_document(assembly.root.descriptor)
    if name:
        root["annotations"] = {_IMAGE_NAME: name, _REF_NAME: name}
    index = {"schemaVersion": 2, "manifests": [root]}
    _write_file(out, "oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
    _write_file(out, "index.json", canonical_json(index))
    _write_file(out, "manifest.json", canonical_json(_docker_manifest(assembly, name)))
    for folder in ("blobs/", "blobs/sha256/"):
        entry = tarformat.Entry(name=folder.encode(), kind=tarformat.DIRECTORY, mode=0o755)
        out.write(tarformat.encode_header(entry))
    documents = {assembly.root.descriptor.digest: assembly.root.data}
    for image in assembly.images:
        documents |= {each.descriptor.digest: each.data for each in (image.config, image.manifest)}
    layers = {layer.digest for image in assembly.images for layer in image.layers}
    for digest in sorted(documents.keys() | layers):
        if digest in documents:
            _write_file(out, _blob_name(digest), documents[digest])
        else:
            _write_blob(out, _blob_name(digest), store.blobs.path(digest))
    out.write(tarformat.END)
    return assembly.root.descriptor.digest


def _docker_manifest(assembly: Assembly, name: str) -> list[dict[str, Any]]:
    # Docker loads one platform: this machine's when it is there.
    platforms = [image.manifest.descriptor.platform for image in assembly.images]
    image = assembly.images[find_best(host_platform(), platforms) or 0]
    return [
        {
            "Config": _blob_name(image.config.descriptor.digest),
            "RepoTags": [name] if name else [],
            "Layers": [_blob_name(layer.digest) for layer in image.layers],
        }
    ]


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _write_file(out: Sink, name: str, data: bytes) -> None:
    entry = tarformat.Entry(name=name.encode(), kind=tarformat.REGULAR, mode=0o644, size_bytes=len(data))
    out.write(tarformat.encode_header(entry) + data + tarformat.padding(len(data)))


def _write_blob(out: Sink, name: str, path: Path) -> None:
    size = os.path.getsize(path)
    entry = tarformat.Entry(name=name.encode(), kind=tarformat.REGULAR, mode=0o644, size_bytes=size)
    out.write(tarformat.encode_header(entry))
    with open(path, "rb", buffering=0) as stream:
        while data := stream.read(BLOCK_BYTES):
            out.write(data)
    out.write(tarformat.padding(size))


# ---- reading -------------------------------------------------------------------------------


class _FolderFiles:
    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str) -> BinaryIO:
        path = self._root / name
        # Names come from the archive; a link in it must not lead to other files of this machine.
        if ".." in path.parts or not path.resolve().is_relative_to(self._root.resolve()):
            raise KeyError(name)
        try:
            return open(path, "rb")
        except (FileNotFoundError, IsADirectoryError):
            raise KeyError(name) from None


class _TarFiles:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {os.path.normpath(each.name): each for each in archive.getmembers()}

    def open(self, name: str) -> BinaryIO:
        stream = self._archive.extractfile(self._members[os.path.normpath(name)])
        if stream is None:
            raise KeyError(name)
        return stream  # type: ignore[return-value]


@contextmanager
def _opened(path: Path, scratch: Path) -> Iterator[_Files]:
    if path.is_dir():
        yield _FolderFiles(path)
        return
    with open(path, "rb") as raw, ExitStack() as stack:
        compression = sniff_compression(raw.read(8))
        raw.seek(0)
        source: BinaryIO = raw
        if compression != "Uncompressed":  # files in it are looked up by name, so it has to be on the disk
            source = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            with decompressed(raw, compression) as stream:
                while data := stream.read(BLOCK_BYTES):
                    source.write(data)
            source.seek(0)
        yield _TarFiles(stack.enter_context(tarfile.open(fileobj=source, mode="r:")))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loader:
    path: Path
    store: Store
    files: _Files

    def load(self, tag: str, platform: str) -> dict[str, ArchivedImage]:
        if (index := self._find_document("index.json")) is not None:
            return self._load_layout(index, tag, platform)
        if (manifest := self._find_document("manifest.json")) is not None:
            return self._load_docker(manifest, tag, platform)
        raise self._rejected("it holds neither index.json nor manifest.json")

    # ---- OCI layout ----

    def _load_layout(self, index: Any, tag: str, platform: str) -> dict[str, ArchivedImage]:
        top = [parse_descriptor(each) for each in index.get("manifests") or ()]
        if tag:
            named = [each for each in top if _is_named(each, tag)]
            if not named:
                names = sorted(filter(None, (_name_of(each) for each in top)))
                raise self._no_tag(tag, names)
            top = named
        found: dict[str, tuple[ParsedImage, list[Descriptor]]] = {}
        for descriptor in self._manifests(top, NESTING_LIMIT, set()):
            document = json.loads(self._blob(descriptor))
            config = parse_descriptor(document.get("config"))
            image = parse_image(self._blob(config))
            layers = [parse_descriptor(each) for each in document.get("layers") or ()]
            if len(layers) != len(image.diff_ids):
                raise InvalidImage("it lists another number of layers than of layer digests")
            if image.platform in found:
                raise self._unclear(sorted(filter(None, (_name_of(each) for each in top))))
            found[image.platform] = (image, layers)
        chosen = self._chosen(list(found), platform)
        return {each: self._keep_layout(*found[each]) for each in chosen}

    def _manifests(
        self, descriptors: Sequence[Descriptor], depth: int, seen: set[Digest]
    ) -> Iterator[Descriptor]:
        for descriptor in descriptors:
            if descriptor.digest in seen:  # else a few indexes that list each other often would never end
                continue
            seen.add(descriptor.digest)
            if descriptor.media_type in MANIFESTS:
                if not descriptor.platform.startswith("unknown/"):  # an attestation, no image
                    yield descriptor
            elif descriptor.media_type in INDEXES and depth:
                document = json.loads(self._blob(descriptor))
                inner = [parse_descriptor(each) for each in document.get("manifests") or ()]
                yield from self._manifests(inner, depth - 1, seen)

    def _keep_layout(self, image: ParsedImage, layers: Sequence[Descriptor]) -> ArchivedImage:
        kept: dict[Digest, Digest] = {}
        for diff_id, layer in zip(image.diff_ids, layers, strict=True):
            if not self.store.blobs.has(layer.digest):
                self._copy(_blob_name(layer.digest), layer.digest)
            kept[diff_id] = layer.digest
        return ArchivedImage(image=image, layers=ArchiveLayers(self.store, kept))

    def _blob(self, descriptor: Descriptor) -> bytes:
        data = self._read(_blob_name(descriptor.digest))
        self.store.blobs.put_bytes(data)
        if not self.store.blobs.has(descriptor.digest):
            raise InvalidImage(f"its document {descriptor.digest} has another digest")
        return data

    # ---- docker-archive ----

    def _load_docker(self, manifest: Any, tag: str, platform: str) -> dict[str, ArchivedImage]:
        entries = manifest if isinstance(manifest, list) else []
        names = sorted(name for each in entries for name in each.get("RepoTags") or ())
        if tag:
            entries = [
                each for each in entries if any(_fits(name, tag) for name in each.get("RepoTags") or ())
            ]
            if not entries:
                raise self._no_tag(tag, names)
        found: dict[str, tuple[ParsedImage, list[str]]] = {}
        for entry in entries:
            image = parse_image(self._read(str(entry.get("Config"))))
            layers = [str(name) for name in entry.get("Layers") or ()]
            if len(layers) != len(image.diff_ids):
                raise InvalidImage("it lists another number of layers than of layer digests")
            if image.platform in found:
                raise self._unclear(names)
            found[image.platform] = (image, layers)
        chosen = self._chosen(list(found), platform)
        return {each: self._keep_docker(*found[each]) for each in chosen}

    def _keep_docker(self, image: ParsedImage, layers: Sequence[str]) -> ArchivedImage:
        kept: dict[Digest, Digest] = {}
        for diff_id, name in zip(image.diff_ids, layers, strict=True):
            # Layers of this format are mostly not compressed; their digest then is known beforehand.
            kept[diff_id] = diff_id if self.store.blobs.has(diff_id) else self._copy(name, None)
        return ArchivedImage(image=image, layers=ArchiveLayers(self.store, kept))

    # ---- files ----

    def _copy(self, name: str, expected: Digest | None) -> Digest:
        with self._open(name) as stream, self.store.blobs.writer(expected) as writer:
            while data := stream.read(BLOCK_BYTES):
                writer.write(data)
        if writer.digest is None:
            raise InvalidImage(f"`{name}` could not be kept")
        return writer.digest

    def _read(self, name: str) -> bytes:
        with self._open(name) as stream:
            data = stream.read(_DOCUMENT_LIMIT_BYTES + 1)
        if len(data) > _DOCUMENT_LIMIT_BYTES:
            raise InvalidImage(f"`{name}` is longer than any document of an image")
        return data

    def _open(self, name: str) -> BinaryIO:
        try:
            return self.files.open(name)
        except KeyError:
            raise InvalidImage(f"`{name}` is not in it") from None

    def _find_document(self, name: str) -> Any:
        try:
            with self.files.open(name) as stream:
                return json.loads(stream.read(_DOCUMENT_LIMIT_BYTES))
        except KeyError:
            return None
        except ValueError as error:
            raise self._rejected(f"its `{name}` is not JSON") from error

    # ---- choosing and refusing ----

    def _chosen(self, offered: list[str], platform: str) -> list[str]:
        if not offered:
            raise self._rejected("it holds no image")
        if not platform:
            return offered
        best = find_best(platform, offered)
        if best is None:
            raise PlatformNotOffered(str(self.path), platform, tuple(sorted(offered)))
        return [offered[best]]

    def _rejected(self, what: str) -> ArchiveRejected:
        return ArchiveRejected(str(self.path), what)

    def _no_tag(self, tag: str, names: Sequence[str]) -> ArchiveRejected:
        there = ", ".join(names) or "no names at all"
        return ArchiveRejected(str(self.path), f"it has no image `{tag}`, but {there}")

    def _unclear(self, names: Sequence[str]) -> ArchiveRejected:
        there = ", ".join(names) or "without names"
        return ArchiveRejected(
            str(self.path), f"it holds several images for one platform ({there})", hint="name the tag to take"
        )


def _name_of(descriptor: Descriptor) -> str:
    annotations = dict(descriptor.annotations)
    return annotations.get(_IMAGE_NAME) or annotations.get(_REF_NAME) or ""


def _is_named(descriptor: Descriptor, tag: str) -> bool:
    annotations = dict(descriptor.annotations)
    return any(_fits(annotations.get(key, ""), tag) for key in (_REF_NAME, _IMAGE_NAME))


def _fits(name: str, tag: str) -> bool:
    return name == tag or name.endswith((f":{tag}", f"/{tag}"))
