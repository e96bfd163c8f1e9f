"""Snapshots: drafts, commits, merged views and long chains, on real overlays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import mounts
from pipeline.engine.store import Snapshot, SnapshotNotFound, Store
from pipeline.engine.store.layers import flatten, remove_tree
from pipeline.engine.treehash import content_digest
from tests.engine.store_helpers import commit, key, opened, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    mounts.enter_private_mount_namespace()
    with opened(tmp_path / "store") as store:
        yield store


def test_the_empty_snapshot_is_an_empty_directory_without_a_parent(store: Store) -> None:
    """Its identity is that of an empty tree."""
    empty = store.snapshots.empty

    with store.snapshots.view(empty) as root:
        assert os.listdir(root) == []
        assert empty == Snapshot(id=0, parent=None, depth=0, identity=content_digest(root), size_bytes=0)
    assert store.snapshots.get(0) == empty


def test_a_committed_draft_is_read_merged_with_its_parents(store: Store) -> None:
    """The child shows both; the parent stays what it was."""
    parent = commit(store, store.snapshots.empty, write("a", "1"), "parent")
    child = commit(store, parent, write("b", "2"), "child")

    assert (read(store, parent), read(store, child)) == ({"a": "1"}, {"a": "1", "b": "2"})
    assert (child.parent, child.depth, child.identity) == (parent.id, 2, key("child"))
    assert store.snapshots.lowers(child) == (store.snapshots.changes(child), store.snapshots.changes(parent))


def test_a_snapshot_is_found_again_by_another_engine(store: Store) -> None:
    """Everything about it comes back from the index."""
    made = commit(store, commit(store, store.snapshots.empty, write("a")), write("b"))

    with opened(store.root) as other:
        assert other.snapshots.get(made.id) == made
        assert read(other, made) == {"a": "x", "b": "x"}


def test_an_untouched_draft_commits_to_its_parent(store: Store) -> None:
    """No snapshot is made, and nothing is left of the draft."""
    parent = commit(store, store.snapshots.empty, write("a"))
    folders = os.listdir(store.root / "snapshots")

    same = commit(store, parent, lambda root: (root / "a").read_text())
    still_empty = commit(store, store.snapshots.empty, lambda root: os.listdir(root))

    assert (same, still_empty) == (parent, store.snapshots.empty)
    assert os.listdir(store.root / "snapshots") == folders


def test_a_draft_that_only_changed_the_root_itself_is_not_untouched(store: Store) -> None:
    """The mode of the root directory is part of the tree, and children inherit it."""
    parent = commit(store, store.snapshots.empty, write("a"))

    child = commit(store, parent, lambda root: root.chmod(0o1777))
    grandchild = commit(store, child, write("b"))

    assert child.id != parent.id
    with store.snapshots.view(grandchild) as root:
        assert stat.S_IMODE(root.stat().st_mode) == 0o1777


def test_a_discarded_draft_leaves_nothing_and_a_committed_one_is_not_discarded(store: Store) -> None:
    """Discarding is safe to do once more, and after a commit."""
    draft = store.snapshots.prepare(store.snapshots.empty)
    (draft.upper / "a").write_text("x")
    kept = store.snapshots.prepare(store.snapshots.empty)
    (kept.upper / "b").write_text("x")
    made = store.snapshots.commit(kept, identity=key("kept"))

    store.snapshots.discard(draft)
    store.snapshots.discard(draft)
    store.snapshots.discard(kept)

    assert sorted(os.listdir(store.root / "snapshots")) == ["0", str(made.id)]
    assert read(store, made) == {"b": "x"}


def test_a_removed_file_is_gone_in_the_child_and_there_in_the_parent(store: Store) -> None:
    """A whiteout hides, it does not delete."""
    parent = commit(store, store.snapshots.empty, lambda r: (write("a")(r), write("b")(r)))
    child = commit(store, parent, lambda root: (root / "a").unlink())

    assert (read(store, parent), read(store, child)) == ({"a": "x", "b": "x"}, {"b": "x"})


def test_whiteouts_over_nothing_are_dropped(store: Store) -> None:
    """An image's first layer may remove what is not there; a view of it does not show device files."""
    draft = store.snapshots.prepare(store.snapshots.empty)
    (draft.upper / "dir").mkdir()
    os.mknod(draft.upper / "dir" / "gone", stat.S_IFCHR)
    os.setxattr(draft.upper / "dir", "trusted.overlay.opaque", b"y")
    (draft.upper / "dir" / "kept").write_text("x")

    made = store.snapshots.commit(draft, identity=key("first layer"))

    assert read(store, made) == {"dir/kept": "x"}
    assert os.listxattr(store.snapshots.changes(made) / "dir") == []


def test_views_of_one_snapshot_share_a_mount_that_stays_for_the_next_reader(store: Store) -> None:
    """Repeated reads cost nothing."""
    made = commit(store, commit(store, store.snapshots.empty, write("a")), write("b"))

    with store.snapshots.view(made) as one, store.snapshots.view(made) as two:
        pass
    with store.snapshots.view(made) as three:
        pass

    assert one == two == three


def test_only_so_many_idle_views_stay_mounted(store: Store) -> None:
    """Old ones go; what is being read stays."""
    parent = commit(store, store.snapshots.empty, write("a"))
    children = [commit(store, parent, write(f"b{number}")) for number in range(40)]

    with store.snapshots.view(children[0]) as root:
        for child in children[1:]:
            read(store, child)

        assert sorted(os.listdir(root)) == ["a", "b0"]
    assert len(os.listdir(next((store.root / "owners").iterdir()) / "views")) <= 17


def test_a_view_cannot_be_written(store: Store) -> None:
    """A merged view is read-only."""
    made = commit(store, commit(store, store.snapshots.empty, write("a")), write("b"))

    with store.snapshots.view(made) as root, pytest.raises(OSError, match="Read-only"):
        (root / "c").write_text("")


def test_a_draft_can_be_opened_for_writing_again(store: Store) -> None:
    """What was written before is still there."""
    parent = commit(store, store.snapshots.empty, write("a"))
    draft = store.snapshots.prepare(parent)

    for name in ("b", "c"):
        with store.snapshots.writable(draft) as root:
            write(name)(root)
    made = store.snapshots.commit(draft, identity=key("twice"))

    assert read(store, made) == {"a": "x", "b": "x", "c": "x"}


def test_a_chain_of_three_hundred_is_read_and_extended(store: Store) -> None:
    """Overlays take far fewer layers: some snapshots have a flat copy, in which removals are honoured."""

    def change(root: Path, number: int) -> None:
        (root / f"f{number}").write_text(str(number))
        (root / "last").write_text(str(number))
        (root / f"f{number - 1}").unlink(missing_ok=True)
        (root / "dir").mkdir(exist_ok=True)
        (root / "dir" / str(number)).write_text("x")

    made = store.snapshots.empty
    for number in range(300):
        made = commit(store, made, lambda root, n=number: change(root, n))  # type: ignore[misc]

    expected = {"f299": "299", "last": "299"} | {f"dir/{number}": "x" for number in range(300)}
    assert (made.depth, read(store, made)) == (300, expected)
    with opened(store.root) as other:
        assert read(other, other.snapshots.get(made.id)) == expected
        assert len(other.snapshots.lowers(made)) <= 100


def test_a_flat_copy_is_what_an_overlay_shows(store: Store, tmp_path: Path) -> None:
    """Whiteouts, opaque directories, files over directories, attributes and hard links: all as merged."""
    from pipeline.engine.store.layers import flatten

    def first(root: Path) -> None:
        for name in ("gone", "opaque", "turned", "kept"):
            (root / name).mkdir()
            (root / name / "old").write_text(name)
        (root / "file").write_text("file")
        os.link(root / "file", root / "same")
        os.chown(root / "kept", 5, 6)
        os.setxattr(root / "kept" / "old", "user.note", b"1")

    def second(root: Path) -> None:
        import shutil

        for name in ("gone", "opaque", "turned"):
            shutil.rmtree(root / name)
        (root / "opaque").mkdir()
        (root / "opaque" / "new").write_text("new")
        (root / "turned").write_text("a file now")
        (root / "file").unlink()
        (root / "file").mkdir(mode=0o700)

    made = commit(store, commit(store, store.snapshots.empty, first), second)

    flatten(store.snapshots.lowers(made), tmp_path / "flat")

    with store.snapshots.view(made) as root:
        assert content_digest(tmp_path / "flat") == content_digest(root)
    assert not (tmp_path / "flat" / "opaque" / "old").exists()
    assert (tmp_path / "flat" / "same").stat().st_ino == (
        store.snapshots.lowers(made)[1] / "same"
    ).stat().st_ino


def test_a_snapshot_that_is_not_there_is_not_found(store: Store) -> None:
    """Neither an unknown number nor one whose files somebody deleted."""
    import shutil

    made = commit(store, store.snapshots.empty, write("a"))
    shutil.rmtree(store.root / "snapshots" / str(made.id))

    with pytest.raises(SnapshotNotFound, match="cannot find snapshot 999"):
        store.snapshots.get(999)
    with opened(store.root) as other, pytest.raises(SnapshotNotFound):
        other.snapshots.get(made.id)


_ROOTLESS = """
import os, shutil, sys
from pathlib import Path
from pipeline.digest import digest_text
from pipeline.engine import mounts
from pipeline.engine.store import Store
from pipeline.engine.store.layers import flatten

mounts.enter_private_mount_namespace()
store = Store.open(Path(sys.argv[1]))

def commit(parent, change):
    draft = store.snapshots.prepare(parent)
    with store.snapshots.writable(draft) as root:
        change(root)
    return store.snapshots.commit(draft, identity=digest_text(str(draft.id)))

def first(root):
    (root / "dir").mkdir()
    (root / "dir" / "old").write_text("old")
    (root / "file").write_text("old")

def second(root):
    shutil.rmtree(root / "dir")
    (root / "file").unlink()
    (root / "dir").mkdir()
    (root / "dir" / "new").write_text("new")

made = commit(commit(store.snapshots.empty, first), second)
flatten(store.snapshots.lowers(made), store.root / "flat")
with store.snapshots.view(made) as root:
    for top in (root, store.root / "flat"):
        print(sorted(os.path.relpath(path, top) for path in top.rglob("*")))
store.close()
"""


def test_a_store_works_without_root_in_a_user_namespace(tmp_path: Path) -> None:
    """Removals and opaque directories are kept in attributes that need no privilege."""
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _ROOTLESS]

    done = subprocess.run([*argv, tmp_path / "store"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "['dir', 'dir/new']\n" * 2), done.stderr


def test_a_tree_of_any_depth_is_flattened_and_removed(tmp_path: Path) -> None:
    """A command may go deeper than Python's stack, and than a path can say."""
    for levels in (1500, 6000):
        root = tmp_path / "deep"
        root.mkdir()
        place = os.open(root, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir("d", dir_fd=place)
            below = os.open("d", os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = below
        os.close(place)

        if levels * 2 < os.pathconf("/", "PC_PATH_MAX") - 500:
            flatten([root], tmp_path / "flat")
            assert (tmp_path / "flat" / "/".join(["d"] * levels)).is_dir()
            remove_tree(tmp_path / "flat")
        remove_tree(root)

        assert list(tmp_path.iterdir()) == []
