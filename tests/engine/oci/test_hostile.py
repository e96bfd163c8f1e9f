"""Hostile and damaged archives and documents: refused or contained, in bounded memory, never outside."""

from __future__ import annotations

import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.digest import digest_bytes
from pipeline.engine import actions, edit, ops
from pipeline.engine.oci.credentials import Credentials
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.layer import apply_layer
from pipeline.engine.oci.model import OCI_MANIFEST
from pipeline.engine.oci.registry import Registry
from pipeline.errors import EngineError
from tests.engine.oci.hostile import BLOCK, hostile_document, hostile_tar, packed_zeros
from tests.engine.oci.samples import directory, entry, put_snapshot, symlink, tar
from tests.engine.oci.servers import Answer, Request, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.store import Store

pytestmark = pytest.mark.root

ARCHIVES = 200
DOCUMENTS = 200
LAYER = {"digest": digest_bytes(b"z"), "size": 3, "mediaType": "application/vnd.oci.image.layer.v1.tar"}


def look(root: Path) -> dict[str, tuple[int, int, int]]:
    """Tell of everything below `root` what any write would change."""

    def walk() -> Iterator[str]:
        for folder, folders, files in os.walk(root):
            yield folder
            yield from (os.path.join(folder, name) for name in [*folders, *files])

    found = {path: os.lstat(path) for path in walk()}
    return {path: (info.st_ctime_ns, info.st_nlink, info.st_mode) for path, info in found.items()}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that the archives try to reach."""
    outside = tmp_path / "outside"
    (outside / "a" / "b").mkdir(parents=True)
    (outside / "kept").write_bytes(b"kept")
    return outside


def test_hostile_layers_are_refused_or_contained(store: Store, tmp_path: Path, outside: Path) -> None:
    """Hundreds from a seed, over a layer with links: the only error is the one that says what is wrong."""
    base = put_snapshot(store, symlink("l", str(outside)), directory("b"), entry("b/a", b"below"))
    lowers = store.snapshots.lowers(base)
    before = look(outside), {str(lower): look(lower) for lower in lowers}
    outcomes = {"kept": 0, "refused": 0}

    for seed in range(ARCHIVES):
        blob, upper = tmp_path / "blob", tmp_path / f"upper-{seed}"
        blob.write_bytes(hostile_tar(seed, str(outside)))
        upper.mkdir()
        try:
            apply_layer(blob, upper, lowers)
        except LayerRejected:
            outcomes["refused"] += 1
        else:
            outcomes["kept"] += 1

    assert (look(outside), {str(lower): look(lower) for lower in lowers}) == before
    assert sum(outcomes.values()) == ARCHIVES
    assert min(outcomes.values()) > ARCHIVES // 40, outcomes


def test_hostile_archives_are_refused_or_contained(tmp_path: Path, outside: Path) -> None:
    """The same for archives that are unpacked into a directory, which takes links as it finds them."""
    before = look(outside)
    outcomes = {"kept": 0, "refused": 0}

    for seed in range(ARCHIVES):
        source, root = tmp_path / f"source-{seed}", tmp_path / f"root-{seed}"
        source.mkdir()
        root.mkdir()
        (source / "archive").write_bytes(hostile_tar(seed, str(outside)))
        (root / "l").symlink_to(outside)
        action = actions.Unpack(source=ops.Scratch(), source_path="archive", path="/", owner="")
        try:
            edit.apply(action, root, lambda _tree, source=source: source)  # type: ignore[misc]
        except (EngineError, OSError):
            outcomes["refused"] += 1
        else:
            outcomes["kept"] += 1

    assert look(outside) == before
    assert sum(outcomes.values()) == ARCHIVES
    assert min(outcomes.values()) > ARCHIVES // 40, outcomes


def test_a_link_in_the_place_of_a_directory_saves_what_it_leads_to(tmp_path: Path, outside: Path) -> None:
    """Directories get their times at the end; by then one above may be a link."""
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir()
    root.mkdir()
    (source / "archive").write_bytes(tar(directory("d/a"), directory("d/a/b"), symlink("d", str(outside))))
    before = look(outside)

    edit.apply(
        actions.Unpack(source=ops.Scratch(), source_path="archive", path="/", owner=""),
        root,
        lambda _: source,
    )

    assert look(outside) == before
    assert os.readlink(root / "d") == str(outside)


def _sparse(size_bytes: int) -> bytes:
    """Return an archive whose one file is sparse and has no content."""
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.map": f"{size_bytes},0", "GNU.sparse.size": str(size_bytes)}
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(2 * BLOCK)


def _globals() -> bytes:
    """Return an archive of global headers with names of their own each."""
    heads = []
    for number in range(300):
        info = tarfile.TarInfo("x")
        info.type = tarfile.XGLTYPE
        record = f"{20} key-{number:04}=value-1\n".encode()
        info.size = len(record)
        heads.append(info.tobuf() + record + bytes(BLOCK - len(record)))
    return b"".join(heads) + tar(entry("a", b"x"))


@pytest.mark.parametrize(
    ("data", "limit_bytes", "said"),
    [
        pytest.param(packed_zeros(64 << 20), 32 << 20, "it unpacks to more than 33554432 bytes", id="ratio"),
        pytest.param(_sparse(1 << 50), None, "it unpacks to more than 4294967296 bytes", id="sparse"),
        pytest.param(_globals(), None, "its global headers are longer than any archive needs", id="globals"),
        pytest.param(
            tar(entry("a", b"x", pax_headers={"mtime": "nan"})),
            None,
            "entry `a` of a layer: it cannot be made (cannot convert float NaN to integer)",
            id="time",
        ),
        pytest.param(
            tar(entry("x", pax_headers={"path": "a\0b"})),
            None,
            "entry `a\\0b` of a layer: there is a zero byte in its name",
            id="zero-byte",
        ),
    ],
)
def test_claims_that_no_archive_needs_are_refused(
    tmp_path: Path, data: bytes, limit_bytes: int | None, said: str
) -> None:
    """Before the disk or the memory is full of them."""
    (tmp_path / "blob").write_bytes(data)
    (tmp_path / "upper").mkdir()

    with pytest.raises(LayerRejected) as caught:
        apply_layer(tmp_path / "blob", tmp_path / "upper", (), limit_bytes=limit_bytes)

    assert said in str(caught.value)


def test_holes_of_sparse_files_stay_holes(tmp_path: Path) -> None:
    """A file of a gigabyte that holds nothing takes no room."""
    (tmp_path / "blob").write_bytes(_sparse(1 << 30))
    (tmp_path / "upper").mkdir()

    apply_layer(tmp_path / "blob", tmp_path / "upper", ())

    found = os.stat(tmp_path / "upper" / "sparse")
    assert (found.st_size, found.st_blocks) == (1 << 30, 0)


def test_replacing_every_directory_costs_no_more_than_making_them(tmp_path: Path) -> None:
    """What is kept of directories is not gone through for each that is removed: this would take minutes."""
    count = 5_000
    dirs = [directory(f"d{number}") for number in range(count)]
    (tmp_path / "blob").write_bytes(tar(*dirs, *(entry(f"d{number}") for number in range(count))))
    (tmp_path / "upper").mkdir()

    apply_layer(tmp_path / "blob", tmp_path / "upper", ())

    assert all(each.is_file() for each in os.scandir(tmp_path / "upper"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_entries_pass_in_bounded_memory(tmp_path: Path) -> None:
    """What is remembered of an entry goes with it."""
    import resource

    info = tarfile.TarInfo()
    with open(tmp_path / "blob", "wb") as out:
        for number in range(1_000_000):
            info.name = f"d/.wh.{number:07}"
            out.write(info.tobuf(tarfile.USTAR_FORMAT))
        out.write(bytes(2 * BLOCK))
    (tmp_path / "upper").mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    apply_layer(tmp_path / "blob", tmp_path / "upper", ())

    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert os.listdir(tmp_path / "upper" / "d") == []
    assert grown_mib < 64


@pytest.mark.anyio
async def test_hostile_documents_are_refused_in_a_sentence(store: Store) -> None:
    """Hundreds of manifests, indexes and configurations from a seed, each with the digest that names it."""
    settings = {"Env": ["A=b"], "Healthcheck": {"Test": ["CMD"]}}
    root = {"type": "layers", "diff_ids": [digest_bytes(b"x")]}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": settings,
        "rootfs": root,
        "history": [{"a": "b"}],
    }
    served: dict[str, bytes] = {}

    def keep(data: bytes) -> dict[str, Any]:
        digest = digest_bytes(data)
        served[digest] = data
        return {"digest": digest, "size": len(data), "mediaType": "application/vnd.oci.image.config.v1+json"}

    def answer(request: Request) -> Answer:
        data = served.get(request.path.rpartition("/")[2])
        return Answer(status=404) if data is None else Answer(body=data)

    refused = 0
    registry = Registry(store, credentials=Credentials({"XDG_RUNTIME_DIR": "/nowhere"}), backoff_s=0.001)
    with serve(answer) as server:
        for seed in range(DOCUMENTS):
            kind = seed % 3
            about = keep(hostile_document(seed, config) if kind == 0 else json.dumps(config).encode())
            manifest = {"schemaVersion": 2, "config": about, "layers": [LAYER], "annotations": {"a": "b"}}
            inner = keep(hostile_document(seed, manifest) if kind == 1 else json.dumps(manifest).encode())
            inner |= {"mediaType": OCI_MANIFEST, "platform": {"os": "linux", "architecture": "amd64"}}
            index = {"schemaVersion": 2, "manifests": [inner]}
            served["tag"] = hostile_document(seed, index) if kind == 2 else json.dumps(index).encode()
            try:
                await registry.resolve(f"{server.address}/app:tag", "linux/amd64")
            except EngineError:
                refused += 1
        await registry.aclose()

    assert refused > DOCUMENTS // 3
