"""Images for tests: OCI archives written by the standard library, layer by layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from pipeline.scan.image.layers import read_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.image.layers import ImageRead, Limits


@dataclass(frozen=True, kw_only=True)
class Node:
    """An entry of a layer."""

    data: bytes = b""
    mode: int = 0o644
    type: bytes = tarfile.REGTYPE
    target: str = ""


def folder(mode: int = 0o755) -> Node:
    return Node(type=tarfile.DIRTYPE, mode=mode)


def link(target: str) -> Node:
    return Node(type=tarfile.LNKTYPE, target=target)


def symlink(target: str) -> Node:
    return Node(type=tarfile.SYMTYPE, target=target)


Layer = dict[str, "str | bytes | Node"]
STATUS = "var/lib/dpkg/status"
DEBIAN = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


def status(**packages: str) -> str:
    """A dpkg database with these packages and versions."""
    rows = (
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
        for name, version in packages.items()
    )
    return "\n".join(rows)


def metadata(name: str, version: str) -> str:
    """The head of a Python package's metadata."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n"


def layer_tar(entries: Mapping[str, str | bytes | Node], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A layer's content; entries come in the order they are given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for path, given in entries.items():
            node = (
                given
                if isinstance(given, Node)
                else Node(data=given.encode() if isinstance(given, str) else given)
            )
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.linkname = node.type, node.mode, node.target
            info.size = len(node.data)
            tar.addfile(info, io.BytesIO(node.data))
    return out.getvalue()


def packed(data: bytes, how: str) -> bytes:
    """A layer's content as its blob holds it."""
    if how == "gzip":
        return gzip.compress(data, compresslevel=1)
    return zstandard.compress(data) if how == "zstd" else data


def archive(
    layers: Sequence[bytes],
    *,
    config: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    how: str = "gzip",
    platforms: Sequence[str] = (),
) -> bytes:
    """An OCI archive of layers.

    Args:
        config: What the image says of its process.
        more: What it says besides.
        platforms: Of an index, such as "linux/amd64", each with this image; none: there is no index of them.
    """
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return f"sha256:{digest}"

    diff_ids = ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers]
    told = {"architecture": "amd64", "os": "linux", "config": dict(config or {}), **(more or {})}
    told["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    rows = [{"digest": blob(packed(one, how))} for one in layers]
    manifest = {"schemaVersion": 2, "config": {"digest": blob(json.dumps(told).encode())}, "layers": rows}
    digest = blob(json.dumps(manifest).encode())
    if platforms:
        pairs = [one.split("/") for one in platforms]
        told_of = [{"digest": digest, "platform": {"os": os, "architecture": cpu}} for os, cpu in pairs]
        digest = blob(json.dumps({"schemaVersion": 2, "manifests": told_of}).encode())
    index = {"schemaVersion": 2, "manifests": [{"digest": digest}]}
    return layer_tar({"oci-layout": "{}", "index.json": json.dumps(index), **blobs})


def read(
    *layers: Mapping[str, str | bytes | Node],
    config: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    how: str = "gzip",
    limits: Limits | None = None,
) -> ImageRead:
    """Read an image of these layers, base first."""
    data = archive([layer_tar(one) for one in layers], config=config, more=more, how=how)
    return read_image(io.BytesIO(data), limits)
