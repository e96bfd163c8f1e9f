"""An image in a file: an OCI layout in a tar file, as `docker load` and skopeo take it.

The tar file's members are found once; blobs are read where they lie.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.image.tar import BLOCK, TarBroken, read_entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

MOST_JSON_BYTES: Final = 8 * 1024**2
MOST_MEMBERS: Final = 100_000
MOST_LAYERS: Final = 1000
_DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,}")


class ImageBroken(PipelineError):
    """A file is no image that can be read."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot read the image: {why}")
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Where the bytes of a blob lie in the file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """One layer, as the image lists it."""

    diff_id: str  # digest of its content, unpacked
    blob: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says of itself and of the process it starts."""

    architecture: str = ""
    os: str = ""
    created: str = ""
    user: str = ""
    env: tuple[str, ...] = ()  # "NAME=VALUE"
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    has_healthcheck: bool = False
    history: tuple[tuple[str, str], ...] = ()  # when and by which command, of each step; base first


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image whose layers can be read."""

    config: ImageConfig
    layers: tuple[LayerBlob, ...]  # base first
    others: tuple[str, ...] = ()  # platforms of the same image that are not read


def open_image(file: BinaryIO) -> ImageFile:
    """Read what an archive says of its one image.

    Raises:
        ImageBroken: It is no OCI archive, names what it does not hold, or more than one image.
    """
    try:
        return _open(file, _members(file))
    except TarBroken as error:
        raise ImageBroken(error.why) from error
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError) as error:
        raise ImageBroken(f"{type(error).__name__}: {str(error)[:200]}") from error


def read_config(path: Path) -> ImageConfig:
    """The configuration of the image in an archive.

    Raises:
        ImageBroken: As `open_image`.
    """
    with path.open("rb") as file:
        return open_image(file).config


def _members(file: BinaryIO) -> dict[str, Blob]:
    """Where each member's content lies; their bodies are passed over, not read."""
    found: dict[str, Blob] = {}
    at = 0
    while len(found) <= MOST_MEMBERS:
        file.seek(at)
        given = next(read_entries(file), None)  # type: ignore[arg-type]
        if given is None:
            return found
        entry, body = given
        start = file.tell()
        if entry.kind == "file":
            found[entry.path] = Blob(offset=start, size=body.left)
        at = start + body.left + -body.left % BLOCK
    raise ImageBroken(f"the archive has more than {MOST_MEMBERS} members")


def _open(file: BinaryIO, members: Mapping[str, Blob]) -> ImageFile:
    if "index.json" not in members:
        raise ImageBroken("it is no OCI archive: there is no index.json")
    listed = _json(file, members["index.json"])["manifests"]
    if len(listed) != 1:
        raise ImageBroken(f"it holds {len(listed)} images")
    manifest = _json(file, members[_place(listed[0]["digest"])])
    others: tuple[str, ...] = ()
    if "manifests" in manifest:  # an index of platforms
        platforms = [one for one in manifest["manifests"] if is_image(one)]
        if not platforms:
            raise ImageBroken("it is an index without an image")
        manifest = _json(file, members[_place(platforms[0]["digest"])])
        others = tuple(_platform(one) for one in platforms[1:])
    config = _json(file, members[_place(manifest["config"]["digest"])])
    diff_ids = [str(one) for one in config["rootfs"]["diff_ids"]]
    blobs = [members[_place(one["digest"])] for one in manifest["layers"]]
    if len(diff_ids) != len(blobs) or len(blobs) > MOST_LAYERS:
        raise ImageBroken(f"it lists {len(blobs)} layers and the digests of {len(diff_ids)}")
    layers = [LayerBlob(diff_id=name, blob=blob) for name, blob in zip(diff_ids, blobs, strict=True)]
    return ImageFile(config=_config(config), layers=tuple(layers), others=others)


def is_image(descriptor: Mapping[str, Any]) -> bool:
    """Whether an entry of an index is an image; a builder's attestation about one has no platform."""
    return (descriptor.get("platform") or {}).get("os") != "unknown"


def _platform(descriptor: Mapping[str, Any]) -> str:
    told = descriptor.get("platform") or {}
    parts = (told.get("os"), told.get("architecture"), told.get("variant"))
    return "/".join(str(one) for one in parts if one) or "a platform that is not named"


def _place(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ImageBroken(f"`{digest[:80]}` is no digest")
    return "blobs/" + digest.replace(":", "/")


def _json(file: BinaryIO, blob: Blob) -> dict[str, Any]:
    if blob.size > MOST_JSON_BYTES:
        raise ImageBroken(f"a description of {blob.size} bytes is larger than is read")
    file.seek(blob.offset)
    table = json.loads(file.read(blob.size))
    if not isinstance(table, dict):
        raise ImageBroken("a description is no table")
    return table


def _config(table: Mapping[str, Any]) -> ImageConfig:
    inner = table.get("config") or {}
    check = inner.get("Healthcheck") or {}
    steps = table.get("history") or ()
    return ImageConfig(
        architecture=str(table.get("architecture") or ""),
        os=str(table.get("os") or ""),
        created=str(table.get("created") or ""),
        user=str(inner.get("User") or ""),
        env=tuple(str(one) for one in inner.get("Env") or ()),
        labels={str(name): str(value) for name, value in (inner.get("Labels") or {}).items()},
        ports=tuple(sorted(str(one) for one in inner.get("ExposedPorts") or {})),
        has_healthcheck=bool(check.get("Test")) and check.get("Test") != ["NONE"],
        history=tuple((str(one.get("created") or ""), str(one.get("created_by") or "")) for one in steps),
    )


class Part:
    """A stretch of a file, read as if it were one."""

    def __init__(self, file: BinaryIO, blob: Blob) -> None:
        self._file = file
        self._blob = blob
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes of the stretch."""
        left = self._blob.size - self._at
        self._file.seek(self._blob.offset + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay the next ones."""
        data = self.read(size)
        self._at -= len(data)
        return data
