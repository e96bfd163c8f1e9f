"""Choosing what of a store travels, within a budget, and making the blobs it travels as.

What was used last goes first: results with all that they stand on, facts about images and sources, then
cache volumes. Layers that were made for an earlier export are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from pipeline.digest import Digest
from pipeline.engine import ops
from pipeline.engine.foundimage import StoredLayer
from pipeline.engine.oci.compress import LayerSink
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.image import convert_layer, layers_of
from pipeline.engine.oci.layer import write_layer
from pipeline.engine.oci.model import compression_of
from pipeline.engine.store.values import BlobCorrupt, BlobNotFound, SnapshotNotFound
from pipeline.engine.travel.manifest import (
    Carried,
    CarriedLayer,
    CarriedResult,
    CarriedSnapshot,
    CarriedVolume,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from pipeline.engine.oci.model import LayerBlob
    from pipeline.engine.store import Store
    from pipeline.engine.store.values import Snapshot, SnapshotKind, StoredResult

SMALL_BYTES: Final = 1 << 20
"""Blobs of at most this size may be documents, which are looked through for what they name."""

_LOCAL_NOTES: Final = frozenset({"layer", "layer-as", "blob-origin"})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_GONE: Final = (SnapshotNotFound, BlobNotFound, BlobCorrupt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What an export carries, and what did not fit or could not be carried."""

    carried: Carried
    document: LayerBlob  # the list itself, as a blob of the store
    size_bytes: int
    left_out: int  # results and volumes


@dataclass(slots=True, kw_only=True)
class _Packer:
    store: Store
    max_bytes: int
    kinds: Mapping[int, SnapshotKind]
    size_bytes: int = 0
    left_out: int = 0
    snapshots: list[CarriedSnapshot] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=lambda: {0: -1})  # of snapshots, by id
    results: list[CarriedResult] = field(default_factory=list)
    small: dict[Digest, None] = field(default_factory=dict)

    def add_result(self, keys: tuple[Digest, ...], result: StoredResult) -> None:
        """Add a result and all it stands on, when that fits."""
        try:
            sizes = {blob: self._size_of(blob) for blob in result.blobs if blob not in self.small}
        except _GONE:
            self.left_out += 1
            return
        if not self.fits(sum(sizes.values())) or not all(map(self.add_snapshot, result.trees.values())):
            self.left_out += 1
            return
        self.small |= dict.fromkeys(sizes)
        self.size_bytes += sum(sizes.values())
        self.results.append(
            CarriedResult(
                keys=keys,
                trees={name: self.places[number] for name, number in result.trees.items()},
                data=result.data,
                blobs=result.blobs,
            )
        )

    def add_snapshot(self, number: int) -> bool:
        """Add a snapshot and those below it; False when they do not fit or are gone."""
        try:
            stack = self._missing(self.store.snapshots.get(number))
            # Files shrink to a fifth at best: what cannot fit is not packed to find that out.
            if not self.fits(sum(each.size_bytes for each in stack) // 5):
                return False
            carried = self._carry(stack)
        except (LayerRejected, *_GONE):  # a name that layers cannot hold, or pruned meanwhile
            return False
        taken = sum(each.blob.size_bytes for each in carried)
        if not self.fits(taken):
            return False
        self.size_bytes += taken
        for snapshot, layer in zip(stack, carried, strict=True):
            parent = self.places[snapshot.parent or 0]
            self.places[snapshot.id] = len(self.snapshots)
            self.snapshots.append(
                CarriedSnapshot(
                    identity=snapshot.identity, parent=parent, kind=self.kinds[snapshot.id], carried=layer
                )
            )
        return True

    def add_small(self, digest: Digest) -> None:
        """Add a document and the documents that it names."""
        if digest in self.small or not self.store.blobs.has(digest):
            return
        size_bytes = self._size_of(digest)
        if size_bytes > SMALL_BYTES or not self.fits(size_bytes):
            return
        data = self.store.blobs.read(digest)
        try:
            json.loads(data)
        except ValueError:
            return  # no document
        self.size_bytes += size_bytes
        self.small[digest] = None
        for named in _DIGEST.findall(data.decode("utf-8", "replace")):
            self.add_small(Digest(named))

    def _missing(self, snapshot: Snapshot) -> list[Snapshot]:
        """Return what of a stack is not carried yet, bottom first."""
        found = []
        while snapshot.id not in self.places and snapshot.parent is not None:
            found.append(snapshot)
            snapshot = self.store.snapshots.get(snapshot.parent)
        return found[::-1]

    def _carry(self, stack: list[Snapshot]) -> list[CarriedLayer]:
        if not stack:
            return []
        layers = layers_of(self.store, stack[-1], keep_mtimes=True)[-len(stack) :]
        plain = [compression_of(layer.media_type) == "Uncompressed" for layer in layers]
        return [
            CarriedLayer(layer=layer, blob=convert_layer(self.store, layer, "Zstd") if is_plain else layer)
            for layer, is_plain in zip(layers, plain, strict=True)
        ]

    def fits(self, more_bytes: int) -> bool:
        """Whether so much more is within the budget."""
        return self.size_bytes + more_bytes <= self.max_bytes

    def _size_of(self, blob: Digest) -> int:
        return os.path.getsize(self.store.blobs.path(blob))


@contextlib.contextmanager
def packing(
    store: Store, *, max_bytes: int, with_volumes: bool = True, images: Collection[Digest] | None = None
) -> Iterator[Packed]:
    """Lend a carried cache of at most about `max_bytes`, its blobs in the store. Blocks.

    Layers stay in the store for the next export; what only this one needed is removed.

    Args:
        images: Carry these images and nothing else; by what their names led to, which is the digest of a
            manifest, or of the layer of a stand-in.

    Raises:
        StoreUnusable: The disk is full or cannot be written.
    """
    made: list[Digest] = []
    try:
        yield _pack(store, max_bytes, made, with_volumes=with_volumes and images is None, images=images)
    finally:
        for digest in made:
            store.blobs.delete(digest)


def _pack(
    store: Store,
    max_bytes: int,
    made: list[Digest],
    *,
    with_volumes: bool,
    images: Collection[Digest] | None,
) -> Packed:
    packer = _Packer(store=store, max_bytes=max_bytes, kinds=store.index.kinds())
    trees = None if images is None else {_tree_of(diff_ids) for diff_ids in _layers_of(packer, images)}
    for keys, result in store.index.results():
        if trees is None or not trees.isdisjoint(keys):
            packer.add_result(keys, result)
    notes = tuple(_notes(packer, images))
    volumes = []
    for identity in store.index.volumes() if with_volumes else ():
        layer = _pack_volume(packer, identity)
        if layer is None:
            packer.left_out += 1
        else:
            made.append(layer.digest)
            volumes.append(CarriedVolume(identity=identity, layer=layer))
    places = packer.places
    carried = Carried(
        snapshots=tuple(packer.snapshots),
        results=tuple(packer.results),
        contents={d: places[number] for d, number in store.index.contents().items() if number in places},
        recipes=store.index.recipes() if images is None else {},
        notes=notes,
        stand_ins=_stand_ins(packer),
        files=_pack_small(store, sorted(packer.small)) if packer.small else None,
        volumes=tuple(volumes),
    )
    document = _write(store, lambda sink: sink.write(to_json(carried)))
    made += [document.digest, *([carried.files.digest] if carried.files is not None else [])]
    return Packed(
        carried=carried,
        document=document,
        size_bytes=sum(each.size_bytes for each in carried.blobs().values()) + document.size_bytes,
        left_out=packer.left_out,
    )


def _layers_of(packer: _Packer, images: Collection[Digest]) -> Iterator[tuple[Digest, ...]]:
    """Give the layers of images, by their uncompressed digests, and take the images' documents along."""
    for digest in images:
        packer.add_small(digest)
    for digest in list(packer.small):
        document = json.loads(packer.store.blobs.read(digest))
        if isinstance(document, dict) and "rootfs" in document:
            yield tuple(Digest(each) for each in document["rootfs"]["diff_ids"])
    yield from ((digest,) for digest in images if digest not in packer.small)  # a stand-in is its layer


def _tree_of(diff_ids: tuple[Digest, ...]) -> Digest:
    return ops.Layers(diff_ids=diff_ids, source=StoredLayer(path=Path())).digest


def _notes(packer: _Packer, images: Collection[Digest] | None) -> Iterator[tuple[str, str, str]]:
    """Give the facts whose subjects travel: what tags led to, trees of repositories, downloads."""
    contents = packer.store.index.contents()
    for kind, key, value in packer.store.index.notes():
        if kind in _LOCAL_NOTES or not (images is None or value in images):
            continue
        named = [Digest(text) for text in _DIGEST.findall(value)]
        trees = [contents[digest] for digest in named if digest in contents]
        if not all(map(packer.add_snapshot, trees)):
            continue
        for digest in named:
            packer.add_small(digest)
        yield kind, key, value


def _stand_ins(packer: _Packer) -> dict[str, str]:
    """Return the records of built recipes whose layer travels."""
    layers = {each.carried.layer.digest for each in packer.snapshots}
    folder = packer.store.root / "recipes" / "built"
    texts = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.json"))}
    return {name: text for name, text in texts.items() if layers.intersection(_DIGEST.findall(text))}


def _pack_volume(packer: _Packer, identity: Digest) -> LayerBlob | None:
    """Pack a cache volume; None when it does not fit, is in use alone, or holds names that layers cannot."""
    store = packer.store
    path, _ = store.index.volume_path(identity)
    with contextlib.ExitStack() as stack:
        lock = store.root / "locks" / f"{path.name}.use"
        try:
            if lock.exists():
                fcntl.flock(stack.enter_context(open(lock, "rb")), fcntl.LOCK_SH | fcntl.LOCK_NB)
            with store.blobs.writer() as writer:
                layer = write_layer(path, (), writer, "Zstd", keep_mtimes=True)
        except (BlockingIOError, FileNotFoundError, LayerRejected):  # the second: changed while it was read
            return None
    if not packer.fits(layer.size_bytes):
        store.blobs.delete(layer.digest)
        return None
    packer.size_bytes += layer.size_bytes
    return layer


def _pack_small(store: Store, digests: list[Digest]) -> LayerBlob:
    def fill(sink: LayerSink) -> None:
        stream = cast("IO[bytes]", sink)  # a stream in mode `w|` is only written to
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for digest in digests:
                with open(store.blobs.path(digest), "rb") as blob:
                    entry = tarfile.TarInfo(digest.removeprefix("sha256:"))
                    entry.size = os.fstat(blob.fileno()).st_size
                    tar.addfile(entry, blob)

    return _write(store, fill)


def _write(store: Store, fill: Callable[[LayerSink], object]) -> LayerBlob:
    with store.blobs.writer() as writer:
        sink = LayerSink(writer, "Zstd")
        fill(sink)
        return sink.finish()
