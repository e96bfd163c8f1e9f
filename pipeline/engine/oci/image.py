"""Between snapshots and images: a layer becomes a snapshot, snapshots become layers, images are pushed.

What is known of a snapshot's layer is noted in the store's index, so that a layer that was pulled keeps its
digest and nothing is compressed twice. All functions but `publish` block; call them in a thread.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from pipeline.digest import Digest
from pipeline.engine.oci.assemble import assemble
from pipeline.engine.oci.compress import BLOCK_BYTES, LayerSink, open_layer, sniff_compression
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.layer import REPRODUCIBLE_EPOCH_S, apply_layer, write_layer
from pipeline.engine.oci.model import LayerBlob, compression_of, oci_layer_type
from pipeline.engine.oci.reference import InvalidReference, parse_reference
from pipeline.engine.store.values import told_when_full
from pipeline.engine.threads import together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.engine.oci.model import Compression, ImageToWrite, MediaTypes
    from pipeline.engine.oci.registry import Registry
    from pipeline.engine.store import Snapshot, Store
    from pipeline.engine.store.values import SnapshotKind

_LAYER_NOTES: Final = "layer"
_CONVERTED_NOTES: Final = "layer-as"


def add_layer(
    store: Store,
    parent: Snapshot,
    blob: Path,
    diff_id: Digest,
    identity: Digest,
    *,
    kind: SnapshotKind = "images",
) -> Snapshot:
    """Unpack a layer blob of the store over `parent` and commit it; a layer without a change gives `parent`.

    Raises:
        LayerRejected: It is damaged, hostile, or its content is not what `diff_id` says.
        StoreUnusable: The disk is full.
    """
    draft = store.snapshots.prepare(parent)
    try:
        with told_when_full(store.root):
            actual = apply_layer(blob, draft.upper, store.snapshots.lowers(parent))
        if actual != diff_id:
            raise LayerRejected(f"its content is {actual}, not {diff_id}")
        snapshot = store.snapshots.commit(draft, identity=identity, kind=kind)
    except BaseException:
        store.snapshots.discard(draft)
        raise
    if snapshot.id != parent.id:
        note_layer(store, snapshot, describe_blob(blob, diff_id))
    return snapshot


def describe_blob(blob: Path, diff_id: Digest) -> LayerBlob:
    """Describe a layer blob of the store, which is named by its digest."""
    with open(blob, "rb") as stream:
        compression = sniff_compression(stream.read(8))
    return LayerBlob(
        diff_id=diff_id,
        digest=Digest(f"sha256:{blob.name}"),
        size_bytes=os.path.getsize(blob),
        media_type=oci_layer_type(compression),
    )


def note_layer(store: Store, snapshot: Snapshot, layer: LayerBlob) -> None:
    """Note that `layer` is what `snapshot` changes over its parent."""
    store.index.save_note(_LAYER_NOTES, str(snapshot.id), _note(layer))


def layers_of(
    store: Store,
    snapshot: Snapshot,
    *,
    compression: Compression | None = None,
    epoch_s: int = REPRODUCIBLE_EPOCH_S,
    keep_mtimes: bool = False,
) -> list[LayerBlob]:
    """Return one layer for each snapshot from the bottom up, their blobs in the store.

    Args:
        compression: What all layers must have; None keeps what a layer has, and makes new ones gzip.
        epoch_s: The latest modification time (seconds) in layers that are made here.
        keep_mtimes: Keep the true times instead; digests then differ from run to run.

    Raises:
        FormatRefused: eStargz was asked for.
        LayerRejected: A file's name cannot be in a layer.
    """
    chain: list[Snapshot] = []
    current = snapshot
    while current.parent is not None:
        chain.append(current)
        current = store.snapshots.get(current.parent)
    times = "kept" if keep_mtimes else str(epoch_s)
    found = [_layer_of(store, each, compression or "Gzip", times) for each in reversed(chain)]
    return found if compression is None else [convert_layer(store, each, compression) for each in found]


def convert_layer(store: Store, layer: LayerBlob, compression: Compression) -> LayerBlob:
    """Return the same layer with the compression asked for; each is made once.

    Raises:
        FormatRefused: eStargz was asked for.
        LayerRejected: The blob is damaged.
    """
    media_type = oci_layer_type(compression)
    if compression_of(layer.media_type) == compression:
        return replace(layer, media_type=media_type)
    key = f"{layer.diff_id} {compression}"
    known = _find_noted(store, _CONVERTED_NOTES, key)
    if known is not None:
        return known
    try:
        with open_layer(store.blobs.path(layer.digest)) as stream, store.blobs.writer() as writer:
            sink = LayerSink(writer, compression)
            while data := stream.read(BLOCK_BYTES):
                sink.write(data)
            made = sink.finish()
            if made.diff_id != layer.diff_id:
                raise LayerRejected(f"its content is {made.diff_id}, not {layer.diff_id}")
    except OSError as error:
        raise LayerRejected(f"its compressed stream is damaged ({error})") from error
    store.index.save_note(_CONVERTED_NOTES, key, _note(made))
    return made


async def publish(
    registry: Registry,
    store: Store,
    address: str,
    images: Sequence[ImageToWrite],
    media_types: MediaTypes = "OCIMediaTypes",
    compression: Compression | None = None,
) -> str:
    """Push images (several as an index) and return `host/name:tag@sha256:…`.

    Layers go first, four at a time, then configurations, manifests and the index: what can be seen in the
    registry is always whole.

    Raises:
        InvalidReference: `address` is not well-formed, or names a digest.
        FormatRefused, DuplicatePlatform: The images cannot be written so.
        ImagePushFailed, RegistryUnreachable, RegistryOffline: The registry refused or was not there.
    """
    reference = parse_reference(address)
    if reference.digest is not None:
        raise InvalidReference(address, "an image cannot be pushed to a digest", "name a tag instead")
    ready = await anyio.to_thread.run_sync(convert_images, store, images, compression)
    assembly = assemble(ready, media_types)
    needed = {layer.digest for image in assembly.images for layer in image.layers}
    needed |= {store.blobs.put_bytes(image.config.data) for image in assembly.images}
    await together([functools.partial(registry.push_blob, reference, digest) for digest in sorted(needed)])
    if len(assembly.images) > 1:
        for image in assembly.images:
            found = image.manifest.descriptor
            await registry.push_manifest(reference, found.digest, found.media_type, image.manifest.data)
    root = assembly.root
    await registry.push_manifest(reference, reference.tag, root.descriptor.media_type, root.data)
    return str(reference.with_digest(root.descriptor.digest))


def convert_images(
    store: Store, images: Sequence[ImageToWrite], compression: Compression | None
) -> list[ImageToWrite]:
    """Return the images with all layers in `compression`; unchanged when it is None.

    Raises:
        FormatRefused: eStargz was asked for.
        LayerRejected: A blob is damaged.
    """
    if compression is None:
        return list(images)
    return [
        replace(image, layers=tuple(convert_layer(store, layer, compression) for layer in image.layers))
        for image in images
    ]


def _layer_of(store: Store, snapshot: Snapshot, compression: Compression, times: str) -> LayerBlob:
    # A pulled layer is noted under the snapshot alone; one made here also under its idea of time.
    for key in (str(snapshot.id), f"{snapshot.id} {times}"):
        known = _find_noted(store, _LAYER_NOTES, key)
        if known is not None:
            return known
    parent = store.snapshots.get(snapshot.parent or 0)
    keep_mtimes = times == "kept"
    with store.blobs.writer() as writer:
        layer = write_layer(
            store.snapshots.changes(snapshot),
            store.snapshots.lowers(parent),
            writer,
            compression,
            epoch_s=0 if keep_mtimes else int(times),
            keep_mtimes=keep_mtimes,
        )
    store.index.save_note(_LAYER_NOTES, f"{snapshot.id} {times}", _note(layer))
    return layer


def _note(layer: LayerBlob) -> str:
    return json.dumps(asdict(layer), sort_keys=True)


def _find_noted(store: Store, kind: str, key: str) -> LayerBlob | None:
    text = store.index.find_note(kind, key)
    if text is None:
        return None
    layer = LayerBlob(**json.loads(text))
    return layer if store.blobs.has(layer.digest) else None
