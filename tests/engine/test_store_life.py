"""A store through kills, crashes, damage, several engines at once, and pruning."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import mounts
from pipeline.engine.store import Store, StoredResult, StoreUnusable
from pipeline.engine.store.database import MIGRATIONS
from tests.engine.store_helpers import commit, key, opened, read, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

# Commits chains of five snapshots with a result and a blob each, for ever or `count` times.
_WORKER = """
import itertools, sys
from pathlib import Path
from pipeline.digest import digest_text
from pipeline.engine import mounts
from pipeline.engine.store import Store, StoredResult

mounts.enter_private_mount_namespace()
store = Store.open(Path(sys.argv[1]))
name, count = sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
for number in range(count) if count else itertools.count():
    made = store.snapshots.empty
    for step in range(5):
        draft = store.snapshots.prepare(made)
        with store.snapshots.writable(draft) as root:
            (root / f"f{step}").write_text(f"{name} {number}")
        made = store.snapshots.commit(draft, identity=digest_text(f"{name} {number} {step}"))
    blob = store.blobs.put_bytes(f"{name} {number}".encode())
    result = StoredResult(trees={"": made.id}, data={"text": f"{name} {number}"}, blobs=(blob,))
    store.index.save_result(digest_text(f"{name} {number}"), result)
store.close()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mounts.enter_private_mount_namespace()
    return tmp_path / "store"


def _start(root: Path, name: str, count: int = 0) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _WORKER, os.fspath(root), name, str(count)]
    worker = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    worker.stdout.close()
    return worker


def _rows(root: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(root / "engine.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _change(root: Path, *statements: str) -> None:
    connection = sqlite3.connect(root / "engine.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def _assert_consistent(store: Store) -> int:
    """Every row has its files, every file its row, and every result is right; return how many."""
    named = {str(number) for (number,) in _rows(store.root, "SELECT id FROM snapshots")} | {"0"}
    assert set(os.listdir(store.root / "snapshots")) == named
    blobs = {str(digest)[7:] for (digest,) in _rows(store.root, "SELECT digest FROM blobs")}
    assert set(os.listdir(store.root / "blobs" / "sha256")) == blobs
    assert os.listdir(store.root / "blobs" / "new") == []
    assert _rows(store.root, "SELECT * FROM drafts") == []
    results = _rows(store.root, "SELECT key, json_extract(data, '$.text') FROM results")
    for digest, text in results:
        found = store.index.find_result(str(digest))  # type: ignore[arg-type]
        assert found is not None
        assert read(store, store.snapshots.get(found.trees[""])) == {f"f{step}": text for step in range(5)}
        assert store.blobs.read(found.blobs[0]) == str(text).encode()
    return len(results)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_killing_an_engine_at_any_moment_loses_only_the_work_in_flight(tmp_path: Path, kills: int) -> None:
    """Engines are killed while they commit; the next one finds a consistent store each time.

    Each store sees twenty: everything in it is looked at after each.
    """
    mounts.enter_private_mount_namespace()
    chance = random.Random(4)  # noqa: S311 - moments, not secrets
    total = 0
    for attempt in range(kills):
        root = tmp_path / f"store {attempt // 20}"
        total = total if attempt % 20 else 0
        worker = _start(root, f"run {attempt}")
        time.sleep(chance.uniform(0.0, 0.08))
        worker.send_signal(signal.SIGKILL)
        worker.wait()

        with opened(root) as store:
            found = _assert_consistent(store)
            assert found >= total
            total = found
            assert [path.name for path in (root / "owners").iterdir()] == [store._owner.path.name]
    assert total > 0


def test_engines_at_once_share_one_store(root: Path) -> None:
    """Two others commit beside this one, and a third is killed; nothing is mixed up or lost."""
    with opened(root) as store:
        workers = [_start(root, name, 30) for name in ("one", "two")]
        victim = _start(root, "victim")
        mine = commit(store, store.snapshots.empty, write("mine"))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        with opened(root):  # sweeps after the victim while the others are at work
            codes = [worker.wait() for worker in workers]

        assert (codes, read(store, mine)) == ([0, 0], {"mine": "x"})
    with opened(root) as store:
        assert _assert_consistent(store) >= 60


def test_a_store_may_be_used_by_several_threads(root: Path) -> None:
    """Commits, results and views from four threads at once."""
    problems: list[BaseException] = []

    def work(store: Store, name: str) -> None:
        try:
            made = store.snapshots.empty
            for number in range(15):
                made = commit(store, made, write(f"{name}{number}"))
                store.index.save_result(key(f"{name} {number}"), StoredResult(trees={"": made.id}))
            assert len(read(store, made)) == 15
        except BaseException as error:  # noqa: BLE001 - handed to the test
            problems.append(error)

    with opened(root) as store:
        threads = [threading.Thread(target=work, args=(store, name)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert problems == []


def test_drafts_of_a_living_engine_are_not_swept(root: Path) -> None:
    """Another engine that comes in leaves them alone; when their engine is dead they go."""
    with opened(root) as store:
        draft = store.snapshots.prepare(store.snapshots.empty)
        (draft.upper / "a").write_text("x")
        worker = _start(root, "dies")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        with opened(root):
            pass

        assert read(store, store.snapshots.commit(draft, identity=key("kept"))) == {"a": "x"}
        left = store.snapshots.prepare(store.snapshots.empty)
    with opened(root):
        assert not left.upper.exists()


def test_after_another_boot_only_what_was_flushed_is_trusted(root: Path) -> None:
    """A crash of the machine may have torn what was not: its rows, their heirs and their files go."""
    with opened(root) as store:
        safe = commit(store, store.snapshots.empty, write("safe"))
        store.index.save_result(key("safe"), StoredResult(trees={"": safe.id}))
        store.flush()
        torn = commit(store, safe, write("torn"))
        heir = commit(store, torn, write("heir"))
        blob = store.blobs.put_bytes(b"torn")
        store.index.save_result(key("torn"), StoredResult(trees={"": torn.id}, blobs=(blob,)))
        store.index.save_content(key("heir"), heir)
        durable = _rows(root, "SELECT id, durable FROM snapshots ORDER BY id")
    _change(
        root,
        "UPDATE snapshots SET boot = 'another'",
        f"UPDATE snapshots SET durable = 0 WHERE id = {torn.id}",  # noqa: S608
        "UPDATE blobs SET boot = 'another', durable = 0",
    )

    with opened(root) as store:
        assert durable == [(safe.id, 1), (torn.id, 0), (heir.id, 0)]
        assert store.index.find_result(key("safe")) == StoredResult(trees={"": safe.id})
        assert (store.index.find_result(key("torn")), store.index.find_content(key("heir"))) == (None, None)
        assert sorted(os.listdir(root / "snapshots")) == ["0", str(safe.id)]
        assert os.listdir(root / "blobs" / "sha256") == []


def test_closing_makes_everything_durable(root: Path) -> None:
    """A machine that is shut down in good order, or a copied store, loses nothing."""
    with opened(root) as store:
        made = commit(store, store.snapshots.empty, write("a"))
    _change(root, "UPDATE snapshots SET boot = 'another'")

    with opened(root) as store:
        assert read(store, store.snapshots.get(made.id)) == {"a": "x"}


@pytest.mark.parametrize("part", ["header", "pages"])
def test_a_damaged_index_is_set_aside_and_a_new_one_made(
    root: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The store works again, empty; the message says what happened and where the old file is."""
    with opened(root) as store:
        made = commit(store, store.snapshots.empty, write("a"))
        for number in range(200):
            store.index.save_result(key(str(number)), StoredResult(trees={"": made.id}))
    size = os.path.getsize(root / "engine.db")
    with open(root / "engine.db", "r+b") as database:
        database.seek(0 if part == "header" else 4096)
        database.write(b"garbage " * (12 if part == "header" else (size - 8192) // 8))

    with caplog.at_level(logging.WARNING), opened(root) as store:
        found = store.index.find_result(key("1"))
        again = commit(store, store.snapshots.empty, write("b"))
        content = read(store, again)

    assert (found, content) == (None, {"b": "x"})
    assert sorted(os.listdir(root / "snapshots")) == ["0", str(again.id)]
    assert (root / "engine.db.damaged-1").exists()
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"the index of the store `{root}` was damaged"
    ]


def test_a_damaged_index_is_not_replaced_under_a_living_engine(root: Path) -> None:
    """The second engine is refused, with advice."""
    with opened(root):
        pass
    worker = _start(root, "lives")
    try:
        (root / "engine.db-wal").unlink(missing_ok=True)
        (root / "engine.db-shm").unlink(missing_ok=True)
        (root / "engine.db").write_bytes(b"garbage " * 1000)

        with pytest.raises(StoreUnusable, match="its index is damaged") as caught:
            Store.open(root)
    finally:
        worker.kill()
        worker.wait()

    assert caught.value.hint == "end the other engines; the next one then sets the damaged index aside"


def test_an_index_of_a_newer_version_is_refused(root: Path) -> None:
    """It is not touched."""
    with opened(root):
        pass
    _change(root, "PRAGMA user_version = 99")

    with pytest.raises(StoreUnusable) as caught:
        Store.open(root)

    assert str(caught.value) == (
        f"cannot use the store `{root}`: a newer version of the engine made it"
        f" (its index has version 99, not {len(MIGRATIONS)})"
    )
    assert caught.value.hint == "update the package, or name another folder as engine.store"


def test_an_index_of_the_first_version_is_brought_up_to_date(root: Path) -> None:
    """What an engine of that version left is found, and new work is kept beside it."""
    root.mkdir()
    old = sqlite3.connect(root / "engine.db")
    old.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1;")
    old.execute("INSERT INTO snapshots VALUES (7, 0, 1, 0, ?, 4096, 'boot', 1, 1, 1)", (key("old"),))
    old.execute("INSERT INTO results VALUES (?, '{\"\": 7}', '{}', '[]', 1, 1)", (key("old"),))
    old.execute("INSERT INTO recipes VALUES ('id', 'text')")
    old.execute("INSERT INTO notes VALUES ('tag', 'alpine', 'one')")
    old.commit()
    old.close()
    (root / "snapshots/7/fs").mkdir(parents=True)
    (root / "snapshots/7/fs/a").write_text("old")

    with opened(root) as store:
        found = store.index.find_result(key("old"))
        assert found is not None
        made = commit(store, store.snapshots.get(found.trees[""]), write("b"))

        assert read(store, made) == {"a": "old", "b": "x"}
        assert (store.index.find_recipe("id"), store.index.find_note("tag", "alpine")) == ("text", "one")
    assert _rows(root, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The error names it and says why."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnusable, match=f"cannot use the store `{tmp_path}/file`: "):
        Store.open(tmp_path / "file")


def test_a_full_disk_is_told_with_advice_and_leaves_nothing_half(tmp_path: Path) -> None:
    """Bytes at once or piece by piece: what does not fit is not kept, and what fits still works."""
    mounts.enter_private_mount_namespace()
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts._mount("tmpfs", os.fspath(disk), "tmpfs", 0, "size=4m")
    try:
        with opened(disk / "store") as store:
            with pytest.raises(StoreUnusable, match="no space left on device") as put:
                store.blobs.put_bytes(bytes(8 << 20))
            with pytest.raises(StoreUnusable) as written, store.blobs.writer() as writer:
                writer.write(bytes(8 << 20))
            small = store.blobs.put_bytes(b"small")

            assert {put.value.hint, written.value.hint} == {"prune the store, or free space on its disk"}
            assert os.listdir(disk / "store" / "blobs" / "new") == []
            assert store.blobs.read(small) == b"small"
    finally:
        mounts.unmount(disk)


def test_pruning_beside_engines_at_work_takes_only_what_is_nobodys(root: Path) -> None:
    """An old engine's results go while two new ones commit; theirs stay whole."""
    with opened(root) as store:
        old = commit(store, store.snapshots.empty, write("old"))
        store.index.save_result(key("old"), StoredResult(trees={"": old.id}))
    with opened(root) as pruner:
        workers = [_start(root, name, 25) for name in ("one", "two")]
        while any(worker.poll() is None for worker in workers):
            pruner.prune(max_bytes=0)
            time.sleep(0.01)

        assert [worker.returncode for worker in workers] == [0, 0]
        assert (pruner.index.find_result(key("old")), _assert_consistent(pruner)) == (None, 50)
