"""The index: results, contents, recipes, notes and volumes; what is lost is a miss."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.store import Store, StoredResult
from tests.engine.store_helpers import commit, key, opened, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "store") as store:
        yield store


def _result(store: Store) -> StoredResult:
    made = commit(store, store.snapshots.empty, write("a"))
    blob = store.blobs.put_bytes(b"output")
    return StoredResult(trees={"": made.id, "/mnt": 0}, data={"exit_code": 0, "list": [1]}, blobs=(blob,))


def test_a_result_comes_back_whole_also_in_another_engine(store: Store) -> None:
    """Trees, data and blobs; an unknown key is a miss."""
    result = _result(store)

    store.index.save_result(key("op"), result)

    assert (store.index.find_result(key("op")), store.index.find_result(key("other"))) == (result, None)
    with opened(store.root) as other:
        assert other.index.find_result(key("op")) == result


def test_a_later_result_replaces_the_earlier(store: Store) -> None:
    """One key, one result."""
    store.index.save_result(key("op"), StoredResult(data={"n": 1}))
    store.index.save_result(key("op"), StoredResult(data={"n": 2}))

    assert store.index.find_result(key("op")) == StoredResult(data={"n": 2})


@pytest.mark.parametrize("lost", ["snapshot", "blob"])
def test_a_result_whose_files_are_gone_is_a_miss_and_removed(store: Store, lost: str) -> None:
    """The op is carried out again; nobody gets half a result."""
    result = _result(store)
    store.index.save_result(key("op"), result)
    if lost == "snapshot":
        shutil.rmtree(store.root / "snapshots" / str(result.trees[""]))
    else:
        store.blobs.path(result.blobs[0]).unlink()

    with opened(store.root) as other:
        found = other.index.find_result(key("op"))

    assert found is None
    with sqlite3.connect(store.root / "engine.db") as connection:
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (0,)
    connection.close()


def test_a_snapshot_is_found_by_its_content(store: Store) -> None:
    """Until its files are gone."""
    made = commit(store, store.snapshots.empty, write("a"))

    store.index.save_content(key("content"), made)

    assert store.index.find_content(key("content")) == made
    assert store.index.find_content(key("other")) is None
    shutil.rmtree(store.root / "snapshots" / str(made.id))
    with opened(store.root) as other:
        assert other.index.find_content(key("content")) is None


def test_the_empty_tree_can_be_found_by_its_content(store: Store) -> None:
    """Snapshot 0 has no row, and is always there."""
    store.index.save_content(store.snapshots.empty.identity, store.snapshots.empty)

    with opened(store.root) as other:
        assert other.index.find_content(store.snapshots.empty.identity) == store.snapshots.empty


def test_recipes_and_notes_are_kept_by_name(store: Store) -> None:
    """The last one saved counts; kinds of notes do not mix."""
    store.index.save_recipe("id", "text")
    store.index.save_note("tag", "alpine", "one")
    store.index.save_note("tag", "alpine", "two")
    store.index.save_note("other", "alpine", "three")

    assert (store.index.find_recipe("id"), store.index.find_recipe("none")) == ("text", None)
    assert store.index.find_note("tag", "alpine") == "two"
    assert (store.index.find_note("other", "alpine"), store.index.find_note("tag", "x")) == ("three", None)


def test_a_volume_is_made_once_and_keeps_its_files(store: Store) -> None:
    """Only the first asker is told that it was created, in whatever engine."""
    path, created = store.index.volume_path(key("cache"))
    (path / "kept").write_text("x")

    again = store.index.volume_path(key("cache"))
    other_path, other_created = store.index.volume_path(key("other"))

    assert (created, again) == (True, (path, False))
    assert (other_path != path, other_created) == (True, True)
    with opened(store.root) as other:
        assert other.index.volume_path(key("cache")) == (path, False)
    assert (path / "kept").read_text() == "x"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"": "x"}'])
def test_a_damaged_row_is_a_miss_and_removed(store: Store, text: str) -> None:
    """What another program wrote into the index is not a result, and no error."""
    store.index.save_result(key("op"), _result(store))
    with sqlite3.connect(store.root / "engine.db") as database:
        database.execute("UPDATE results SET trees = ?", (text,))
    database.close()

    assert store.index.find_result(key("op")) is None
    assert store.index.find_result(key("op")) is None
