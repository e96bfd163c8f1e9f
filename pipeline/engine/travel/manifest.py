"""What a carried cache consists of, and its form as JSON.

Snapshots are named by their place in the list, parents first; a parent of -1 is the empty tree. All that
another engine can use is in it, and nothing that only means something on this machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from pipeline.engine.oci.config import InvalidImage
from pipeline.engine.oci.model import LayerBlob, check_digest
from pipeline.engine.store.values import SnapshotKind
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.digest import Digest

VERSION: Final = 1
ARTIFACT_TYPE: Final = "application/vnd.dagger-pipeline.cache.v1"
LIST_TYPE: Final = "application/vnd.dagger-pipeline.cache.list.v1+json"


class CacheRejected(EngineError):
    """What should be a carried cache is none, is damaged, or is of another version."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"cannot import the cache `{source}`: {reason}")
        self.source = source


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedLayer:
    """A layer, and the blob it travels as: itself, or compressed when it is not."""

    layer: LayerBlob
    blob: LayerBlob


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedSnapshot:
    """A snapshot: what it changes over its parent."""

    identity: Digest
    parent: int
    kind: SnapshotKind
    carried: CarriedLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedResult:
    """What an op left, under all its keys; `trees` are places in the list of snapshots, -1 the empty tree."""

    keys: tuple[Digest, ...]
    trees: Mapping[str, int]
    data: Mapping[str, Any]
    blobs: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedVolume:
    """A cache volume by its identity."""

    identity: Digest
    layer: LayerBlob


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The list of a carried cache."""

    snapshots: tuple[CarriedSnapshot, ...] = ()
    results: tuple[CarriedResult, ...] = ()
    contents: Mapping[Digest, int] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[tuple[str, str, str], ...] = ()
    stand_ins: Mapping[str, str] = field(default_factory=dict)  # records of built recipes, by file name
    files: LayerBlob | None = None  # a tar of small blobs, each under its digest
    volumes: tuple[CarriedVolume, ...] = ()

    def blobs(self) -> dict[Digest, LayerBlob]:
        """Return the blobs that travel, by digest, each once."""
        found = [each.carried.blob for each in self.snapshots]
        found += [each.layer for each in self.volumes]
        found += [self.files] if self.files is not None else []
        return {each.digest: each for each in found}


def to_json(carried: Carried) -> bytes:
    """Return the list as canonical JSON."""
    document = {"version": VERSION, **asdict(carried)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def from_json(data: bytes, source: str) -> Carried:
    """Read a list.

    Raises:
        CacheRejected: It is none, of another version, or points to what it does not have.
    """
    try:
        table = json.loads(data)
        version = table.pop("version", None)
        if version != VERSION:
            raise CacheRejected(source, f"it is of version {version}, this engine reads version {VERSION}")
        carried = Carried(
            snapshots=tuple(_snapshot(each) for each in table["snapshots"]),
            results=tuple(_result(each) for each in table["results"]),
            contents={check_digest(digest): int(place) for digest, place in table["contents"].items()},
            recipes={str(number): str(text) for number, text in table["recipes"].items()},
            notes=tuple((str(kind), str(key), str(value)) for kind, key, value in table["notes"]),
            stand_ins={str(name): str(text) for name, text in table["stand_ins"].items()},
            files=None if table["files"] is None else _layer(table["files"]),
            volumes=tuple(
                CarriedVolume(identity=check_digest(each["identity"]), layer=_layer(each["layer"]))
                for each in table["volumes"]
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError, InvalidImage) as error:
        raise CacheRejected(source, f"its list is damaged ({error!r})") from error
    _check_places(carried, source)
    return carried


def _check_places(carried: Carried, source: str) -> None:
    count = len(carried.snapshots)
    is_sound = all(-1 <= each.parent < place for place, each in enumerate(carried.snapshots))
    places = [place for each in carried.results for place in each.trees.values()]
    places += carried.contents.values()
    if not is_sound or not all(-1 <= place < count for place in places):
        raise CacheRejected(source, "its list names a snapshot that it does not have")


def _snapshot(table: Any) -> CarriedSnapshot:
    carried = table["carried"]
    return CarriedSnapshot(
        identity=check_digest(table["identity"]),
        parent=int(table["parent"]),
        kind=_kind(table["kind"]),
        carried=CarriedLayer(layer=_layer(carried["layer"]), blob=_layer(carried["blob"])),
    )


def _kind(text: Any) -> SnapshotKind:
    if text not in get_args(SnapshotKind):
        raise ValueError(f"snapshots of kind {text!r} are unknown")
    kind: SnapshotKind = text
    return kind


def _result(table: Any) -> CarriedResult:
    return CarriedResult(
        keys=tuple(check_digest(key) for key in table["keys"]),
        trees={str(name): int(place) for name, place in table["trees"].items()},
        data=dict(table["data"]),
        blobs=tuple(check_digest(digest) for digest in table["blobs"]),
    )


def _layer(table: Any) -> LayerBlob:
    return LayerBlob(
        diff_id=check_digest(table["diff_id"]),
        digest=check_digest(table["digest"]),
        size_bytes=int(table["size_bytes"]),
        media_type=str(table["media_type"]),
    )
