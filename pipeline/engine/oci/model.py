"""Values shared by everything that reads or writes images: descriptors, layers, media types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.digest import Digest
from pipeline.engine.oci.config import History, ImageConfig, InvalidImage, ParsedImage, canonical_json
from pipeline.engine.oci.errors import FormatRefused
from pipeline.engine.oci.platform import make_platform, parse_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.oci.reference import Reference

Compression = Literal["Gzip", "Zstd", "EStarGZ", "Uncompressed"]
MediaTypes = Literal["OCIMediaTypes", "DockerMediaTypes"]

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
_SUFFIXES: Final = {"Gzip": "+gzip", "Zstd": "+zstd", "Uncompressed": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points to a blob; `platform` ("" = not told) is in normal form."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """A layer as a blob in the store; `media_type` is the OCI one and tells the compression."""

    diff_id: Digest
    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageToWrite:
    """Everything an image consists of; `layers` bottom first, their blobs in the store."""

    config: ImageConfig
    platform: str
    layers: tuple[LayerBlob, ...]
    annotations: tuple[tuple[str, str], ...] = ()
    created: str | None = None
    history: tuple[History, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """An image for one platform, as a registry describes it.

    `reference` is pinned to the digest of what its tag pointed to (an index, where there is one);
    `manifest` is the platform's own. `layers` are bottom first, in the order of `image.diff_ids`.
    """

    reference: Reference
    manifest: Descriptor
    image: ParsedImage
    layers: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON blob to be written, with what points to it."""

    descriptor: Descriptor
    data: bytes


def parse_descriptor(table: Any) -> Descriptor:
    """Read a descriptor.

    Raises:
        InvalidImage: A field is missing or has the wrong shape.
    """
    try:
        platform = table.get("platform") or {}
        named = platform.get("os") and platform.get("architecture")
        return Descriptor(
            media_type=str(table.get("mediaType") or ""),
            digest=check_digest(table["digest"]),
            size_bytes=int(table["size"]),
            platform=_platform_text(platform) if named else "",
            annotations=tuple(sorted((table.get("annotations") or {}).items())),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InvalidImage(f"a descriptor has the wrong shape ({error!r})") from error


def check_digest(text: object) -> Digest:
    """Return `text` when it is a sha256 digest.

    Raises:
        InvalidImage: It is not; such a name must never become a part of a path.
    """
    if isinstance(text, str) and text.startswith("sha256:") and len(text) == 71:
        digits = text[7:]
        if all(character in "0123456789abcdef" for character in digits):
            return Digest(text)
    raise InvalidImage(f"`{text}` is no sha256 digest")


def descriptor_document(descriptor: Descriptor) -> dict[str, Any]:
    """Return the JSON form of a descriptor."""
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size_bytes,
    }
    if descriptor.platform:
        target = parse_platform(descriptor.platform)
        document["platform"] = {"os": target.os, "architecture": target.architecture}
        if target.variant:
            document["platform"]["variant"] = target.variant
    if descriptor.annotations:
        document["annotations"] = dict(sorted(descriptor.annotations))
    return document


def manifest_bytes(
    config: Descriptor,
    layers: Sequence[LayerBlob],
    annotations: Sequence[tuple[str, str]],
    media_types: MediaTypes,
) -> bytes:
    """Return the canonical JSON of an image manifest.

    Raises:
        FormatRefused: The Docker media types cannot name the compression of a layer.
    """
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST if media_types == "OCIMediaTypes" else DOCKER_MANIFEST,
        "config": descriptor_document(config),
        "layers": [
            {
                "mediaType": layer_media_type(layer.media_type, media_types),
                "digest": layer.digest,
                "size": layer.size_bytes,
            }
            for layer in layers
        ],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations))
    return canonical_json(document)


def index_bytes(manifests: Sequence[Descriptor], media_types: MediaTypes) -> bytes:
    """Return the canonical JSON of an index, in the order given."""
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX if media_types == "OCIMediaTypes" else DOCKER_INDEX,
            "manifests": [descriptor_document(each) for each in manifests],
        }
    )


def compression_of(media_type: str) -> Compression:
    """Tell a layer's compression by its media type; unknown types count as uncompressed."""
    if media_type.endswith(("+gzip", ".gzip")):
        return "Gzip"
    return "Zstd" if media_type.endswith(("+zstd", ".zstd")) else "Uncompressed"


def oci_layer_type(compression: Compression) -> str:
    """Return the OCI media type of a layer.

    Raises:
        FormatRefused: eStargz, which is not written here.
    """
    if compression == "EStarGZ":
        raise FormatRefused("eStargz layers are not supported", "use Gzip or Zstd compression")
    return OCI_LAYER + _SUFFIXES[compression]


def layer_media_type(media_type: str, media_types: MediaTypes) -> str:
    """Return a layer's media type in the family asked for.

    Raises:
        FormatRefused: Docker's family has no name for zstd.
    """
    compression = compression_of(media_type)
    if media_types == "OCIMediaTypes":
        return oci_layer_type(compression)
    if compression == "Zstd":
        raise FormatRefused(
            "Docker media types have no name for zstd layers",
            "use OCI media types, or force Gzip compression",
        )
    return DOCKER_LAYER + {"Gzip": ".gzip", "Uncompressed": ""}.get(compression, "")


def _platform_text(table: dict[str, Any]) -> str:
    variant = str(table.get("variant") or "")
    return str(make_platform(str(table["os"]), str(table["architecture"]), variant))
