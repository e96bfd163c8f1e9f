"""Taking a carried cache into a store: what is there already stays as it is.

Blobs are compared with their digests and layers with their content. That a result is what its key says
cannot be checked: a cache is to be taken only from where one would take a program.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from pipeline.engine.oci.compress import BLOCK_BYTES, decompressed, open_layer
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.image import add_layer
from pipeline.engine.oci.model import check_digest, compression_of
from pipeline.engine.oci.unpack import apply_layer
from pipeline.engine.store.values import BlobCorrupt, StoredResult
from pipeline.engine.travel.manifest import CacheRejected

if TYPE_CHECKING:
    from pipeline.digest import Digest
    from pipeline.engine.store import Snapshot, Store
    from pipeline.engine.travel.manifest import Carried, CarriedLayer, CarriedResult, CarriedVolume

_RECORD_NAME_LENGTH: Final = len(".json") + 64


class Blobs(Protocol):
    """Where the blobs of a carried cache are read from."""

    def path(self, digest: Digest) -> Path:
        """Return the file of a blob, whose content nobody has checked.

        Raises:
            OSError: It is not there.
        """


@dataclass(slots=True, kw_only=True)
class Imported:
    """What an import added."""

    snapshots: int = 0
    results: int = 0
    volumes: int = 0
    known: list[Snapshot] = field(default_factory=list, repr=False)


def needed(store: Store, carried: Carried) -> set[Digest]:
    """Return the blobs that importing takes: of snapshots and volumes that are not there, and the files."""
    there = store.index.identities()
    found = {each.carried.blob.digest for each in carried.snapshots if each.identity not in there}
    found |= {each.layer.digest for each in carried.volumes if not _is_filled(store, each)}
    return found | ({carried.files.digest} if carried.files is not None else set())


def _is_filled(store: Store, volume: CarriedVolume) -> bool:
    path, _ = store.index.volume_path(volume.identity)
    return any(path.iterdir())


def unpack(store: Store, carried: Carried, blobs: Blobs, source: str) -> Imported:
    """Add what the store does not have. Blocks; what was added before an error stays, and is whole.

    Raises:
        CacheRejected: A blob is missing, damaged, or not what the list says.
        StoreUnusable: The disk is full or cannot be written.
    """
    imported = Imported()
    try:
        _add_snapshots(store, carried, blobs, imported)
        if carried.files is not None:
            _add_files(store, blobs.path(carried.files.digest))
        _add_facts(store, carried, imported)
        for volume in carried.volumes:
            imported.volumes += _add_volume(store, volume, blobs)
    except (LayerRejected, BlobCorrupt, tarfile.TarError) as error:
        raise CacheRejected(source, str(error)) from error
    except OSError as error:
        raise CacheRejected(source, f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
    store.flush()
    return imported


def _add_snapshots(store: Store, carried: Carried, blobs: Blobs, imported: Imported) -> None:
    there = store.index.identities()
    for each in carried.snapshots:
        parent = store.snapshots.empty if each.parent < 0 else imported.known[each.parent]
        number = there.get(each.identity)
        if number is not None:
            imported.known.append(store.snapshots.get(number))
            continue
        blob = _take(store, each.carried, blobs)
        layer = each.carried.layer
        made = add_layer(store, parent, blob, layer.diff_id, each.identity, kind=each.kind)
        imported.known.append(made)
        imported.snapshots += 1


def _take(store: Store, carried: CarriedLayer, blobs: Blobs) -> Path:
    """Bring a layer's own blob into the store."""
    wanted = carried.layer.digest
    if not store.blobs.has(wanted):
        is_compressed_for_travel = wanted != carried.blob.digest
        with open(blobs.path(carried.blob.digest), "rb") as raw, contextlib.ExitStack() as stack:
            stream: BinaryIO = raw
            if is_compressed_for_travel:
                stream = stack.enter_context(decompressed(raw, compression_of(carried.blob.media_type)))
            with store.blobs.writer(expected=wanted) as writer:
                while data := stream.read(BLOCK_BYTES):
                    writer.write(data)
    return store.blobs.path(wanted)


def _add_files(store: Store, path: Path) -> None:
    """Take small blobs in, each checked against the digest it is named by."""
    with open_layer(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            if content is None:
                raise LayerRejected(f"`{entry.name}` among its files is no file")
            with store.blobs.writer(expected=check_digest(f"sha256:{entry.name}")) as writer:
                while data := content.read(BLOCK_BYTES):
                    writer.write(data)


def _add_facts(store: Store, carried: Carried, imported: Imported) -> None:
    """Write what leads to the snapshots, which are there by now."""
    index = store.index
    for name, text in carried.stand_ins.items():
        _add_record(store.root / "recipes" / "built", name, text)
    for digest, place in carried.contents.items():
        if place >= 0 and index.find_content(digest) is None:
            index.save_content(digest, imported.known[place])
    for recipe, text in carried.recipes.items():
        if index.find_recipe(recipe) is None:
            index.save_recipe(recipe, text)
    for kind, key, value in carried.notes:
        if index.find_note(kind, key) is None:
            index.save_note(kind, key, value)
    for result in carried.results:
        imported.results += _add_result(store, result, imported.known)


def _add_result(store: Store, result: CarriedResult, known: list[Snapshot]) -> bool:
    missing = {key for key in result.keys if store.index.find_result(key) is None}
    if not missing or not all(store.blobs.has(digest) for digest in result.blobs):
        return False
    trees = {name: known[place].id if place >= 0 else 0 for name, place in result.trees.items()}
    store.index.save_results(missing, StoredResult(trees=trees, data=result.data, blobs=result.blobs))
    return True


def _add_record(folder: Path, name: str, text: str) -> None:
    """Write the record of a built recipe, unless there is one; a name that is no digest is left out."""
    stem = name.removesuffix(".json")
    if len(name) != _RECORD_NAME_LENGTH or not stem.isalnum() or (folder / name).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / name, text.encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file in one step, on the disk when this returns."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".new", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _add_volume(store: Store, volume: CarriedVolume, blobs: Blobs) -> bool:
    """Fill a cache volume that is new or empty here; tell whether it was filled."""
    if _is_filled(store, volume):
        return False
    path, _ = store.index.volume_path(volume.identity)
    temporary = store.root / "tmp"
    temporary.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="volume-", dir=temporary))
    try:
        if apply_layer(blobs.path(volume.layer.digest), folder, ()) != volume.layer.diff_id:
            raise LayerRejected("the content of a cache volume is not what the list says")
        folder.chmod(path.stat().st_mode)
        os.rename(folder, path)  # takes the place of an empty directory in one step
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # somebody else filled it meanwhile
            raise
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True
