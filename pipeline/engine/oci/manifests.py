"""What a manifest or an index says. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipeline.engine.oci.config import InvalidImage
from pipeline.engine.oci.errors import PlatformNotOffered
from pipeline.engine.oci.model import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
)
from pipeline.engine.oci.platform import find_best

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.engine.oci.model import Descriptor
    from pipeline.engine.oci.reference import Reference


def choose_manifest(ref: Reference, platform: str, images: Sequence[Descriptor]) -> Descriptor:
    """Return the one of an index's manifests that suits `platform` best.

    Raises:
        PlatformNotOffered: None does.
    """
    offered = [each for each in images if each.platform and not each.platform.startswith("unknown/")]
    if not offered and len(images) == 1:
        return images[0]  # its own configuration tells the platform
    best = find_best(platform, [each.platform for each in offered])
    if best is None:
        raise PlatformNotOffered(str(ref), platform, tuple(sorted(each.platform for each in offered)))
    return offered[best]


def parse_document(data: bytes) -> dict[str, Any]:
    """Return the JSON object.

    Raises:
        InvalidImage: It is none.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidImage("its manifest is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidImage("its manifest is no JSON object")
    return document


def list_in(document: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list of the document; empty when it is not there.

    Raises:
        InvalidImage: It is something else.
    """
    value = document.get(name)
    if value is not None and not isinstance(value, list):
        raise InvalidImage(f"its `{name}` is no list")
    return value or []


def table_in(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of the document; empty when it is not there.

    Raises:
        InvalidImage: It is something else.
    """
    value = document.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidImage(f"its `{name}` is no object")
    return value or {}


def media_type_of(document: Mapping[str, Any]) -> str:
    """Tell what a document is; OCI lets it leave that out.

    Raises:
        InvalidImage: It is malformed.
    """
    if told := document.get("mediaType"):
        return str(told)
    if "manifests" in document:
        return OCI_INDEX
    if document.get("schemaVersion") == 1:
        return "application/vnd.docker.distribution.manifest.v1+json"
    config_type = str(table_in(document, "config").get("mediaType") or "")
    return DOCKER_MANIFEST if "docker" in config_type else OCI_MANIFEST
