"""The stage cache on a real disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import Digest
from pipeline.graph.cache import Entry, EntryDamaged, StageCache
from pipeline.graph.context import Artifact
from pipeline.graph.keys import KeyParts

if TYPE_CHECKING:
    from pathlib import Path


def parts(stage: str = "unit", *, version: str = "1") -> KeyParts:
    """Key parts that differ by `version`."""
    return KeyParts(stage=stage, version=version, code={"m:f": "c"}, inputs={"a.py": "1"})


class Kept:
    """A kept file on disk."""

    def __init__(self, folder: Path, name: str, data: bytes) -> None:
        self.path = folder / hashlib.sha256(data + name.encode()).hexdigest()
        self.path.write_bytes(data)
        digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
        self.artifact = Artifact(name=name, digest=digest, size_bytes=len(data))


def put(
    cache: StageCache, folder: Path, *, version: str = "1", data: bytes = b"junit", stage: str = "unit"
) -> Entry:
    """Store an entry with one kept file."""
    kept = Kept(folder, "reports/junit.xml", data)
    entry = Entry(
        parts=parts(stage, version=version), result={"passed": 3}, kept=(kept.artifact,), run_id="r", at=1.5
    )
    cache.put(entry, {kept.artifact.name: kept.path})
    return entry


def blob_path(cache: StageCache, entry: Entry) -> Path:
    """Where the kept file's content is stored."""
    path = cache.blob(entry.kept[0].digest)
    assert path is not None
    return path


def entry_path(cache: StageCache, entry: Entry) -> Path:
    """Where the entry is stored."""
    return cache.folder / "v1/entries" / entry.parts.stage / f"{entry.parts.base[7:]}.json"


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    """An empty cache."""
    return StageCache(tmp_path / "cache")


def test_an_empty_cache_knows_nothing_and_writes_nothing(cache: StageCache) -> None:
    """Asking does not make the directory."""
    assert (cache.find("unit", parts().base), cache.last("unit"), cache.prune()) == (None, None, 0)
    assert not cache.folder.exists()


def test_a_stored_entry_is_found_and_its_files_come_back(cache: StageCache, tmp_path: Path) -> None:
    """With another object, as in another process."""
    entry = put(cache, tmp_path)
    other = StageCache(cache.folder)

    found = other.find("unit", parts().base)
    placed = other.restore(entry, tmp_path / "out")

    assert found == entry
    assert other.last("unit") == entry.parts
    assert placed == {"reports/junit.xml": tmp_path / "out/reports/junit.xml"}
    assert placed["reports/junit.xml"].read_bytes() == b"junit"


def test_the_directory_can_be_carried_elsewhere(cache: StageCache, tmp_path: Path) -> None:
    """Nothing in it names a place."""
    entry = put(cache, tmp_path)
    shutil.move(cache.folder, tmp_path / "elsewhere")

    moved = StageCache(tmp_path / "elsewhere")

    assert moved.find("unit", parts().base) == entry
    assert moved.restore(entry, tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data.replace(b"passed", b"failed"),
        lambda data: b"x" + data[1:],
        lambda data: hashlib.sha256(b"{}").hexdigest().encode() + b"\n{}",
        lambda data: hashlib.sha256(b"[1]").hexdigest().encode() + b"\n[1]",
        lambda data: os.urandom(100),
    ],
    ids=["truncated", "empty", "changed", "digest", "no-fields", "no-object", "noise"],
)
def test_a_damaged_entry_is_a_miss_and_is_removed(cache: StageCache, tmp_path: Path, damage: object) -> None:
    """Also as the last one known."""
    entry = put(cache, tmp_path)
    path = entry_path(cache, entry)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]  # a lambda from above

    assert cache.find("unit", parts().base) is None
    assert not path.exists()
    assert cache.last("unit") is None


def test_an_entry_under_a_wrong_name_is_a_miss_and_is_removed(cache: StageCache, tmp_path: Path) -> None:
    """A good entry of another key must not answer for this one."""
    first = put(cache, tmp_path)
    wrong = parts(version="2").base
    path = entry_path(cache, first)
    path.rename(path.with_name(f"{wrong[7:]}.json"))

    assert cache.find("unit", wrong) is None
    assert list(path.parent.iterdir()) == []


def test_a_kept_name_that_would_escape_is_a_miss(cache: StageCache, tmp_path: Path) -> None:
    """An entry from somewhere else cannot write outside the run folder."""
    kept = Kept(tmp_path, "../../evil", b"x")
    cache.put(Entry(parts=parts(), result=None, kept=(kept.artifact,)), {"../../evil": kept.path})

    assert cache.find("unit", parts().base) is None


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_a_damaged_blob_removes_entry_and_blob(cache: StageCache, tmp_path: Path, damage: str) -> None:
    """Nothing is left in the run folder; the next store heals it."""
    entry = put(cache, tmp_path)
    blob = blob_path(cache, entry)
    blob.unlink() if damage == "missing" else blob.write_bytes(b"jUnit" if damage == "changed" else b"j")

    with pytest.raises(EntryDamaged, match=r"cannot restore `reports/junit.xml` of `unit`"):
        cache.restore(entry, tmp_path / "out")

    assert (cache.find("unit", parts().base), blob.exists()) == (None, False)
    assert list((tmp_path / "out/reports").iterdir()) == []
    put(cache, tmp_path)
    assert cache.restore(entry, tmp_path / "again")


LARGE = bytes(2 << 20)


def test_a_large_file_is_linked_and_not_hashed_again_while_it_is_the_same(
    cache: StageCache, tmp_path: Path
) -> None:
    """It takes no second place on the disk, however many runs have it."""
    entry = put(cache, tmp_path, data=LARGE)

    first = cache.restore(entry, tmp_path / "one")["reports/junit.xml"]
    second = cache.restore(entry, tmp_path / "two")["reports/junit.xml"]

    assert first.stat().st_ino == second.stat().st_ino == blob_path(cache, entry).stat().st_ino
    assert second.read_bytes() == LARGE


@pytest.mark.parametrize("where", ["in the cache", "in a run folder"])
def test_a_large_file_that_was_changed_is_damaged_wherever_that_was(
    cache: StageCache, tmp_path: Path, where: str
) -> None:
    """The two are one file, so whoever edits what a run kept costs the next run its hit, never its truth."""
    entry = put(cache, tmp_path, data=LARGE)
    restored = cache.restore(entry, tmp_path / "one")["reports/junit.xml"]
    changed = blob_path(cache, entry) if where == "in the cache" else restored
    with open(changed, "r+b") as file:
        file.write(b"x")

    with pytest.raises(EntryDamaged):
        cache.restore(entry, tmp_path / "two")

    assert cache.find("unit", parts().base) is None


def test_the_least_recently_used_go_first_when_it_is_full(tmp_path: Path) -> None:
    """A hit counts as use; a blob that two entries share stays while one of them does."""
    cache = StageCache(tmp_path / "cache", max_bytes=50_000)
    for number in range(4):
        put(cache, tmp_path, version=str(number), data=bytes([number]) * 10_000)
        path = entry_path(cache, Entry(parts=parts(version=str(number)), result=None))
        os.utime(path, (number + 1000, number + 1000))
    assert cache.find("unit", parts(version="0").base) is not None

    put(cache, tmp_path, version="4", data=b"4" * 10_000)
    cache.shrink()

    have = [number for number in range(5) if cache.find("unit", parts(version=str(number)).base)]
    assert have == [0, 2, 3, 4]
    assert cache.state().size_bytes < 50_000
    assert cache.state().entries == 4


def test_pruning_to_nothing_removes_all_and_other_formats(cache: StageCache, tmp_path: Path) -> None:
    """Bytes freed are counted; what a dead writer left goes when it is old."""
    put(cache, tmp_path)
    (cache.folder / "v0/x").mkdir(parents=True)
    old, new = cache.folder / "v1/blobs/.old.tmp", cache.folder / "v1/blobs/.new.tmp"
    for path in (old, new):
        path.write_text("draft")
    os.utime(old, (1, 1))

    freed = cache.prune(0)

    assert freed > 0
    assert (cache.state().entries, (cache.folder / "v0").exists()) == (0, False)
    assert (old.exists(), new.exists()) == (False, True)


def test_what_is_larger_than_the_cache_is_not_stored(tmp_path: Path) -> None:
    """It would only push out everything else."""
    cache = StageCache(tmp_path / "cache", max_bytes=10)

    put(cache, tmp_path, data=b"x" * 11)

    assert cache.find("unit", parts().base) is None


def test_a_file_that_changed_before_it_was_stored_is_refused(cache: StageCache, tmp_path: Path) -> None:
    """Its digest would be a lie."""
    kept = Kept(tmp_path, "a", b"one")
    kept.path.write_bytes(b"two")

    with pytest.raises(EntryDamaged):
        cache.put(Entry(parts=parts(), result=None, kept=(kept.artifact,)), {"a": kept.path})

    assert cache.find("unit", parts().base) is None


def test_writers_readers_and_pruners_do_not_harm_each_other(tmp_path: Path) -> None:
    """What is found can be restored, or is a miss; never an error, never wrong content."""
    cache = StageCache(tmp_path / "cache", max_bytes=30_000)
    until = time.monotonic() + 1.5
    problems: list[BaseException] = []
    hits: list[str] = []

    def work(number: int) -> None:
        own = StageCache(cache.folder, max_bytes=30_000)
        folder = tmp_path / f"w{number}"
        folder.mkdir()
        step = 0
        try:
            while time.monotonic() < until:
                step += 1
                version = str(step % 7)
                entry = put(own, folder, version=version, data=version.encode() * 5000)
                found = own.find("unit", entry.parts.base)
                if found is not None:
                    try:
                        placed = own.restore(found, folder / "out")
                    except EntryDamaged:
                        continue
                    assert placed["reports/junit.xml"].read_bytes() == version.encode() * 5000
                    hits.append(version)
                if step % 5 == 0:
                    own.prune()
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []
    assert hits


def test_an_entry_that_cannot_be_read_is_a_miss(cache: StageCache, tmp_path: Path) -> None:
    """Whatever stands in its place."""
    entry = put(cache, tmp_path)
    path = entry_path(cache, entry)
    path.unlink()
    path.mkdir()

    assert cache.find("unit", parts().base) is None
    assert cache.last("unit") is None
