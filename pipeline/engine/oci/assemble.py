"""From images to the documents that describe them: configurations, manifests, an index. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.digest import digest_bytes
from pipeline.engine.oci.config import image_json
from pipeline.engine.oci.errors import DuplicatePlatform, FormatRefused
from pipeline.engine.oci.model import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Document,
    index_bytes,
    manifest_bytes,
)
from pipeline.engine.oci.platform import normalise_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.oci.model import ImageToWrite, LayerBlob, MediaTypes


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledImage:
    """One platform's documents."""

    config: Document
    manifest: Document
    layers: tuple[LayerBlob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Everything that is to be written; `root` is the index, or the only manifest."""

    root: Document
    images: tuple[AssembledImage, ...]


def assemble(images: Sequence[ImageToWrite], media_types: MediaTypes = "OCIMediaTypes") -> Assembly:
    """Describe one image, or several as an index in the order given; equal images give equal bytes.

    Raises:
        FormatRefused: There is no image, or the media types cannot name a layer's compression.
        DuplicatePlatform: Two images are for one platform.
    """
    if not images:
        raise FormatRefused("there is no image to write", "give the container a root file system or variants")
    seen: set[str] = set()
    for image in images:
        platform = normalise_platform(image.platform)
        if platform in seen:
            raise DuplicatePlatform(platform)
        seen.add(platform)
    assembled = tuple(_assemble_one(image, media_types) for image in images)
    if len(assembled) == 1:
        return Assembly(root=assembled[0].manifest, images=assembled)
    data = index_bytes([each.manifest.descriptor for each in assembled], media_types)
    root = _document(OCI_INDEX if media_types == "OCIMediaTypes" else DOCKER_INDEX, data)
    return Assembly(root=root, images=assembled)


def _assemble_one(image: ImageToWrite, media_types: MediaTypes) -> AssembledImage:
    is_oci = media_types == "OCIMediaTypes"
    diff_ids = [layer.diff_id for layer in image.layers]
    config = _document(
        OCI_CONFIG if is_oci else DOCKER_CONFIG,
        image_json(image.config, image.platform, diff_ids, image.created, image.history),
    )
    data = manifest_bytes(config.descriptor, image.layers, image.annotations, media_types)
    manifest = _document(
        OCI_MANIFEST if is_oci else DOCKER_MANIFEST, data, platform=normalise_platform(image.platform)
    )
    return AssembledImage(config=config, manifest=manifest, layers=image.layers)


def _document(media_type: str, data: bytes, platform: str = "") -> Document:
    descriptor = Descriptor(
        media_type=media_type, digest=digest_bytes(data), size_bytes=len(data), platform=platform
    )
    return Document(descriptor=descriptor, data=data)
