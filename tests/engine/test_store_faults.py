"""A store whose disk fails it: power cuts in the middle of work, and no space left at any step."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from pipeline.digest import digest_text
from pipeline.engine import mounts
from pipeline.engine.actions import Filters
from pipeline.engine.sources.host import HostDirectories
from pipeline.engine.store import Store, StoredResult, StoreUnusable
from tests.engine.store_helpers import commit, key, opened, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

_SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_FLUSH: Final = 2

# Commits for ever: a chain of three snapshots, a blob of each kind, a result. The index is on the disk
# before the files are, as it is when SQLite makes room in its log. Says on stdout what a flush that came
# back has covered.
_WORKER = """
import itertools, os, sys
from pathlib import Path
from pipeline.digest import digest_text
from pipeline.engine import mounts
from pipeline.engine.store import Store, StoredResult

mounts.enter_private_mount_namespace()
store = Store.open(Path(sys.argv[1]))
first = int(sys.argv[2])
print("ready", flush=True)
for number in itertools.count(first):
    made = store.snapshots.empty
    for step in range(3):
        draft = store.snapshots.prepare(made)
        with store.snapshots.writable(draft) as root:
            (root / f"f{step}").write_text(f"{number} " * 1000)
        made = store.snapshots.commit(draft, identity=digest_text(f"{number} {step}"))
    small = store.blobs.put_bytes(f"small {number}".encode())
    with store.blobs.writer() as writer:
        writer.write(f"large {number}".encode() * 5000)
    blobs = (small, writer.digest)
    result = StoredResult(trees={"": made.id}, data={"number": number}, blobs=blobs)
    store.index.save_result(digest_text(f"result {number}"), result)
    log = os.open(store.root / "engine.db-wal", os.O_RDONLY)
    os.fsync(log)
    os.close(log)
    if number % 4 == 3:
        store.flush()
        print(f"flushed {number}", flush=True)
"""


class _Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self.path = folder / "disk"
        self.path.mkdir()
        with open(self._image, "wb") as stream:
            stream.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)

    def plug_in(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True)

    def cut_power(self) -> None:
        """From now on nothing reaches the disk; what was not flushed is lost, the journal's end as well."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, ctypes.c_uint32(_WITHOUT_FLUSH))
        finally:
            os.close(descriptor)

    def unplug(self) -> None:
        mounts.unmount(self.path)


@pytest.fixture
def disk(tmp_path: Path) -> _Disk:
    if shutil.which("mkfs.ext4") is None or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs mkfs.ext4 and loop devices")
    mounts.enter_private_mount_namespace()
    return _Disk(tmp_path)


def _work_until_the_cut(disk: _Disk, first: int, seconds: float) -> int | None:
    """Let an engine work for so long and cut the power; return the last number it knew to be safe by then."""
    argv = [sys.executable, "-c", _WORKER, os.fspath(disk.path / "store"), str(first)]
    worker = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    # A flush that the cut overtakes may still come back and say so: only what was said before counts.
    os.set_blocking(worker.stdout.fileno(), False)
    told = worker.stdout.read() or b""
    disk.cut_power()
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    numbers = [int(line.split()[1]) for line in told.splitlines()]
    return max(numbers, default=None)


def _assert_whole(store: Store) -> set[int]:
    """Everything the index speaks of is there and is what it should be; return the numbers of the results."""
    connection = sqlite3.connect(store.root / "engine.db")
    numbers = {n for (n,) in connection.execute("SELECT json_extract(data, '$.number') FROM results")}
    snapshots = {str(n) for (n,) in connection.execute("SELECT id FROM snapshots")}
    blobs = [digest for (digest,) in connection.execute("SELECT digest FROM blobs")]
    connection.close()
    assert set(os.listdir(store.root / "snapshots")) == snapshots | {"0"}
    assert sorted(os.listdir(store.root / "blobs/sha256")) == sorted(digest[7:] for digest in blobs)
    for digest in blobs:
        store.blobs.read(digest)  # raises when it is torn
    for number in numbers:
        found = store.index.find_result(digest_text(f"result {number}"))
        assert found is not None
        tree = read(store, store.snapshots.get(found.trees[""]))
        assert tree == {f"f{step}": f"{number} " * 1000 for step in range(3)}
    return numbers


def test_power_cuts_lose_nothing_that_was_flushed_and_show_nothing_half(disk: _Disk) -> None:
    """Twelve times the disk stops at some moment, and keeps only what had reached it in order.

    The next engine opens the index, finds every result a flush had covered, and all it finds is whole.
    """
    chance = random.Random(11)  # noqa: S311 - moments, not secrets
    safe: set[int] = set()
    first = 0
    for _cut in range(12):
        disk.plug_in()
        last = _work_until_the_cut(disk, first, chance.uniform(0.05, 0.35))
        disk.unplug()
        safe |= set() if last is None else set(range(first, last + 1))

        disk.plug_in()
        _forget_this_boot(disk.path / "store")
        with opened(disk.path / "store") as store:
            found = _assert_whole(store)
        disk.unplug()

        assert safe <= found
        safe, first = found, first + 1000
    assert safe  # how many depends on how busy the machine is


def _forget_this_boot(root: Path) -> None:
    """Make the rows look as they do after a real power cut: written by another boot of the machine."""
    connection = sqlite3.connect(root / "engine.db")
    connection.execute("UPDATE snapshots SET boot = 'another'")
    connection.execute("UPDATE blobs SET boot = 'another'")
    connection.commit()
    connection.close()


@contextmanager
def _small_disk(path: Path, size: str) -> Iterator[Path]:
    """Lend a file system in memory."""
    path.mkdir(exist_ok=True)
    mounts._mount("tmpfs", os.fspath(path), "tmpfs", 0, f"size={size}")
    try:
        yield path
    finally:
        mounts.unmount(path)


def _do_everything(store: Store) -> None:
    """Each kind of write that the store knows, once."""
    base = commit(store, store.snapshots.get(1), write("over", "x" * 5000), "over")
    blob = store.blobs.put_bytes(b"y" * 5000)
    with store.blobs.writer() as writer:
        writer.write(b"z" * 5000)
    store.index.save_content(key("content"), base)
    store.index.save_recipe("id", "text " * 500)
    store.index.save_note("kind", "key", "value " * 500)
    store.index.volume_path(key("volume"))
    store.index.save_result(key("new"), StoredResult(trees={"": base.id}, blobs=(blob,)))
    store.flush()


def _do_in(root: Path, at_work: Store | None) -> None:
    """Do everything in the engine that is at work, or in one that comes in for it."""
    if at_work is not None:
        _do_everything(at_work)
        return
    with opened(root) as store:
        _do_everything(store)


def _try_in(root: Path, at_work: Store | None) -> StoreUnusable | None:
    """Return the store's own error; any other is the test's."""
    try:
        _do_in(root, at_work)
    except StoreUnusable as error:
        return error
    return None


def _fill(disk: Path, free_pages: int) -> None:
    """Leave so many pages of 4 KiB free."""
    with open(disk / "filler", "wb", buffering=0) as filler:
        while (free := shutil.disk_usage(disk).free - 4096 * free_pages) > 0:
            filler.write(bytes(min(free, 1 << 20)))


def _assert_old_kept_and_new_whole(store: Store) -> None:
    old, new = store.index.find_result(key("old")), store.index.find_result(key("new"))
    assert old is not None
    assert read(store, store.snapshots.get(old.trees[""])) == {"base": "x"}
    if new is not None:
        assert read(store, store.snapshots.get(new.trees[""])) == {"base": "x", "over": "x" * 5000}
    assert os.listdir(store.root / "blobs/new") == []


@pytest.mark.parametrize("is_at_work", [False, True], ids=["an engine comes in", "an engine is at work"])
def test_a_disk_that_fills_up_at_any_step_is_told_in_one_sentence(tmp_path: Path, is_at_work: bool) -> None:
    """With from no page to hundreds of pages free: the error is the store's own, what was there stays,
    nothing is half there, and with space again this engine and another one work.
    """
    mounts.enter_private_mount_namespace()
    told: set[tuple[str, str | None]] = set()
    free_pages, has_succeeded = 0, False
    while not has_succeeded:
        with _small_disk(tmp_path / "disk", "8m") as disk:
            root = disk / "store"
            with opened(root) as store:
                base = commit(store, store.snapshots.empty, write("base"), "base")
                store.index.save_result(key("old"), StoredResult(trees={"": base.id}))
            at_work = Store.open(root) if is_at_work else None
            _fill(disk, free_pages)

            error = _try_in(root, at_work)
            (disk / "filler").unlink()

            with opened(root) as store:
                _assert_old_kept_and_new_whole(store)
            _do_in(root, at_work)
            if at_work is not None:
                at_work.close()
        has_succeeded = error is None
        if error is not None:
            told.add((str(error).removeprefix(f"cannot use the store `{root}`: "), error.hint))
        free_pages += 1 if free_pages < 40 else 7
    advice = "prune the store, or free space on its disk"
    assert free_pages > 10
    assert told == {("no space left on device", advice)}


@pytest.mark.anyio
@pytest.mark.parametrize("files", [30, 3000], ids=["by one process", "by several"])
async def test_a_host_directory_that_does_not_fit_leaves_nothing(tmp_path: Path, files: int) -> None:
    """The error is the disk's, with advice; with space again the same session reads it."""
    mounts.enter_private_mount_namespace()
    for number in range(files):
        path = tmp_path / f"work/{number % 30}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(12 * 4096 * 30 // files))
    with _small_disk(tmp_path / "disk", "64m") as disk, opened(disk / "store") as store:
        host = HostDirectories(store, tmp_path / "work")
        _fill(disk, 100)

        with pytest.raises(StoreUnusable) as caught:
            await host.load(".", Filters())
        left = os.listdir(disk / "store/snapshots")
        (disk / "filler").unlink()
        content = await host.load(".", Filters())

        assert str(caught.value) == f"cannot use the store `{disk}/store`: no space left on device"
        assert caught.value.hint == "prune the store, or free space on its disk"
        assert left == ["0"]
        assert store.index.find_content(content) is not None
