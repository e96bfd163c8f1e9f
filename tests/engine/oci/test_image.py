"""Snapshots become layers, each once, and pulled layers keep their digests."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from random import Random
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.oci.image import add_layer, convert_layer, layers_of
from pipeline.engine.oci.layer import write_layer
from pipeline.engine.store import Store, StoreUnusable
from tests.engine.oci.samples import entry, listing, put_layer, put_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.oci.model import LayerBlob
    from pipeline.engine.store import Snapshot

pytestmark = pytest.mark.root


def change(store: Store, parent: Snapshot, name: str, text: str) -> Snapshot:
    """Make a snapshot as an exec does: write a file through a mount."""
    draft = store.snapshots.prepare(parent)
    with store.snapshots.writable(draft) as root:
        (root / name).write_text(text)
    return store.snapshots.commit(draft, identity=parent.identity)


def test_layers_that_were_pulled_keep_their_digests(store: Store) -> None:
    """Only what was made here is compressed; it is compressed once."""
    pulled = put_layer(store, entry("base", b"1"))
    base = add_layer(
        store, store.snapshots.empty, store.blobs.path(pulled.digest), pulled.diff_id, pulled.diff_id
    )
    top = change(store, base, "new", "2")

    first = layers_of(store, top)
    again = layers_of(store, top)

    assert first[0] == pulled
    assert first[1].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert again == first
    assert layers_of(store, store.snapshots.empty) == []


def test_layers_made_here_give_the_snapshot_back(store: Store, other_store: Store) -> None:
    """On another machine the layers unpack to the same tree, and to the same layers."""
    base = put_snapshot(store, entry("a", b"1"), entry("b", b"1"))
    draft = store.snapshots.prepare(base)
    with store.snapshots.writable(draft) as root:
        (root / "a").unlink()
        (root / "b").write_text("2")
        (root / "d").mkdir()
        (root / "d/c").write_text("3")
    top = store.snapshots.commit(draft, identity=base.identity)

    layers = layers_of(store, top)
    there = other_store.snapshots.empty
    for layer in layers:
        digest = other_store.blobs.put_bytes(store.blobs.read(layer.digest))
        there = add_layer(other_store, there, other_store.blobs.path(digest), layer.diff_id, layer.diff_id)

    with store.snapshots.view(top) as here_root, other_store.snapshots.view(there) as there_root:
        assert listing(here_root) == listing(there_root)
    assert layers_of(other_store, there) == layers


def test_two_builds_of_the_same_give_the_same_layers(store: Store, other_store: Store) -> None:
    """Neither the store nor the time shows, unless times are to be kept."""
    found: list[list[LayerBlob]] = []
    for each in (store, other_store):
        base = put_snapshot(each, entry("a", b"1"))
        found.append(layers_of(each, change(each, base, "new", "2")))

    assert found[0] == found[1]
    assert layers_of(store, store.snapshots.get(2), keep_mtimes=True)[1] != found[0][1]


def test_a_forced_compression_reaches_all_layers_and_is_done_once(store: Store) -> None:
    """The uncompressed digests stay; the conversion is noted."""
    top = change(store, put_snapshot(store, entry("a", b"1")), "new", "2")
    plain = layers_of(store, top)

    forced = layers_of(store, top, compression="Zstd")
    blobs = [usage.count for usage in store.usage() if usage.kind == "images"]
    again = [convert_layer(store, layer, "Zstd") for layer in plain]

    assert [layer.diff_id for layer in forced] == [layer.diff_id for layer in plain]
    assert {layer.media_type for layer in forced} == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert again == forced
    assert [usage.count for usage in store.usage() if usage.kind == "images"] == blobs


def test_a_layer_whose_blob_was_lost_is_made_again(store: Store) -> None:
    """A note about a blob that is gone is a miss."""
    pulled = put_layer(store, entry("base", b"1"))
    base = add_layer(
        store, store.snapshots.empty, store.blobs.path(pulled.digest), pulled.diff_id, pulled.diff_id
    )
    store.blobs.delete(pulled.digest)

    (made,) = layers_of(store, base)

    assert store.blobs.has(made.digest)


def scramble(root: Path, random: Random) -> None:
    """Do what programs do to a file tree, thirty times."""
    for number in range(30):
        folders = [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]
        names = sorted(path for path in root.rglob("*"))
        new = random.choice(sorted(folders)) / f"{random.choice('abcdef')}{random.choice('xy')}"
        old = random.choice(names) if names else new
        act = random.randrange(9)
        if act in (0, 1) and not new.is_dir():
            new.unlink(missing_ok=True)
            new.write_text(f"{random.random()}")
        elif act in (2, 3) and not os.path.lexists(new):
            new.mkdir(mode=random.choice([0o755, 0o700, 0o1777]))
        elif act == 4 and not os.path.lexists(new):
            new.symlink_to(random.choice(["ax", "../bx", "/cx", "."]))
        elif act == 5 and old.is_file() and not old.is_symlink() and not os.path.lexists(new):
            os.link(old, new)
        elif act == 6 and os.path.lexists(old):
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        elif act == 7 and os.path.lexists(old) and not old.is_symlink():
            os.chown(old, number, 0)
        elif act == 8 and old.is_file() and not old.is_symlink() and not os.path.lexists(new):
            old.rename(new)


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_arrive_on_another_machine(store: Store, other_store: Store, seed: int) -> None:
    """Whatever was done in three steps, the three layers give the same tree there, and the same layers."""
    random = Random(seed)  # noqa: S311
    here = store.snapshots.empty
    for _ in range(3):
        draft = store.snapshots.prepare(here)
        with store.snapshots.writable(draft) as root:
            scramble(root, random)
        here = store.snapshots.commit(draft, identity=here.identity)

    layers = layers_of(store, here)
    there = other_store.snapshots.empty
    for layer in layers:
        digest = other_store.blobs.put_bytes(store.blobs.read(layer.digest))
        there = add_layer(other_store, there, other_store.blobs.path(digest), layer.diff_id, layer.diff_id)
    repacked = [
        write_layer(
            other_store.snapshots.changes(each),
            other_store.snapshots.lowers(other_store.snapshots.get(each.parent or 0)),
            io.BytesIO(),
        )
        for each in chain(other_store, there)
    ]

    with store.snapshots.view(here) as here_root, other_store.snapshots.view(there) as there_root:
        assert listing(here_root) == listing(there_root)
    assert repacked == layers


def chain(store: Store, snapshot: Snapshot) -> list[Snapshot]:
    """Return a snapshot and its ancestors, bottom first, without the empty one."""
    found: list[Snapshot] = []
    while snapshot.parent is not None:
        found.insert(0, snapshot)
        snapshot = store.snapshots.get(snapshot.parent)
    return found


def test_a_layer_that_does_not_fit_on_the_disk_is_told_so(tmp_path: Path) -> None:
    """In the sentence of every full disk; the draft is gone and its room is free again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        store = Store.open(disk / "store")
        layer = put_layer(store, entry("big", bytes(8 << 20)))
        path = store.blobs.path(layer.digest)
        before = shutil.disk_usage(disk).used

        with pytest.raises(StoreUnusable) as caught:
            add_layer(store, store.snapshots.empty, path, layer.diff_id, layer.diff_id)

        assert "no space left on device" in str(caught.value)
        assert caught.value.hint == "prune the store, or free space on its disk"
        assert shutil.disk_usage(disk).used - before < 1 << 20
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)
