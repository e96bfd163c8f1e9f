"""Coming into a store and leaving it take bounded time, whatever killed engines left and others do."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import mounts
from pipeline.engine.store import Store, owners
from pipeline.engine.store.layers import remove_tree
from pipeline.engine.store.prune import Pruned
from pipeline.engine.store.usage import Limits
from tests.engine.store_helpers import commit, opened, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

# An engine that is killed with a draft and a nameless blob.
_KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.engine.store import Store

store = Store.open(Path(sys.argv[1]))
draft = store.snapshots.prepare(store.snapshots.empty)
(draft.upper / "a").write_text("x")
(store.root / "blobs/sha256/nameless").write_text("x")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mounts.enter_private_mount_namespace()
    return tmp_path / "store"


@contextmanager
def _door_held(root: Path) -> Iterator[None]:
    door = os.open(root / "door.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(door, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(door)


def test_what_a_killed_engine_left_is_only_moved_aside_when_the_next_comes_in(root: Path) -> None:
    """Its files go when somebody has the time: those who wait in the door do not wait for them."""
    worker = subprocess.run([sys.executable, "-c", _KILLED, os.fspath(root)], check=False)
    assert worker.returncode == -signal.SIGKILL

    with opened(root) as store:
        left = sorted(name.partition("-")[0] for name in os.listdir(root / "gone"))
        emptied = store.gone.empty_within(60.0)

        assert (left, emptied) == (["1", "nameless"], True)
        assert os.listdir(root / "gone") == []
        assert (os.listdir(root / "snapshots"), os.listdir(root / "blobs/sha256")) == (["0"], [])


def test_a_removal_ends_when_its_time_is_over(tmp_path: Path) -> None:
    """What is left is removed by the next one who tries."""
    for name in ("one", "two", "three"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "file").write_text("x")

    assert remove_tree(tmp_path / "tree", lambda: True) is False
    assert (tmp_path / "tree").exists()
    assert remove_tree(tmp_path / "tree") is True
    assert os.listdir(tmp_path) == []


def test_nothing_is_pruned_before_what_is_gone_has_been_removed(root: Path) -> None:
    """How much has to go is not known before: an engine without time would remove too much."""
    with opened(root) as store:
        made = commit(store, store.snapshots.empty, write("a"))
    with opened(root) as store:
        (root / "gone" / "tree" / "file").mkdir(parents=True)
        limits = Limits(max_bytes=0, min_free_bytes=1 << 60)

        in_haste = store.keep_within(limits, lambda: True)
        at_leisure = store.keep_within(limits)

        assert (in_haste, at_leisure.snapshots) == (Pruned(), (made.id,))
        assert os.listdir(root / "gone") == []


def test_who_waits_in_the_door_is_told_for_whom_and_gives_up(root: Path) -> None:
    """The sentence names the process, and so does the error."""
    with opened(root):
        pass
    told: list[str] = []

    with (
        _door_held(root),
        pytest.raises(owners.DoorHeld) as caught,
        owners.guard(root, tell=told.append, limit_s=2.5),
    ):
        pass

    assert told == [f"waiting for the engine {os.getpid()} to set up the store `{root}`"]
    held = f"process {os.getpid()} has been setting it up for 3 s"
    assert str(caught.value) == f"cannot use the store `{root}`: {held}"
    assert (
        caught.value.hint == f"look at what process {os.getpid()} does; when it is killed the store is safe"
    )


def test_an_engine_leaves_without_the_door_when_it_stays_held(root: Path) -> None:
    """As one that was killed: the next one clears up."""
    store = Store.open(root)
    with _door_held(root):
        store.close()
        left = os.listdir(root / "owners")
    with opened(root):
        pass

    assert (len(left), os.listdir(root / "owners")) == (1, [])
