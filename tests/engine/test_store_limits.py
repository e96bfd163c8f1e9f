"""What a store gives up when it is too large or its disk too full, and in which order."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import mounts
from pipeline.engine.store import StoredResult
from pipeline.engine.store.usage import Limits, limits_of
from tests.engine.store_helpers import commit, key, opened, read, write
from tests.engine.workbench import open_workbench

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    mounts.enter_private_mount_namespace()
    return tmp_path / "store"


def _change(root: Path, *statements: str) -> None:
    connection = sqlite3.connect(root / "engine.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_the_order_of_use_survives_a_clock_that_was_wrong(root: Path) -> None:
    """What was used while the clock was ten years ahead is not spared for ten years."""
    with opened(root) as store:
        ahead = commit(store, store.snapshots.empty, write("ahead"))
    _change(root, f"UPDATE snapshots SET last_used = {time.time() + 10 * 365 * 86400}")  # noqa: S608
    with opened(root) as store:
        later = commit(store, store.snapshots.empty, write("later"))
    with opened(root) as store:
        pruned = store.prune(max_bytes=sum(used.size_bytes for used in store.usage()) - 1)

        assert pruned.snapshots == (ahead.id,)
        assert read(store, store.snapshots.get(later.id)) == {"later": "x"}


def test_a_dry_run_says_what_would_go_and_takes_nothing(root: Path) -> None:
    """The same pruning in earnest takes just that."""
    with opened(root) as store:
        made = commit(store, store.snapshots.empty, write("a"))
    with opened(root) as store:
        told = store.prune(max_bytes=0, dry_run=True)
        content = read(store, store.snapshots.get(made.id))
    with opened(root) as store:
        done = store.prune(max_bytes=0)

    assert (told, content) == (done, {"a": "x"})
    assert told.snapshots == (made.id,)


def test_limits_that_are_kept_cost_nothing_and_broken_ones_are_overshot(root: Path) -> None:
    """The store is measured every ten minutes at most; then a tenth more than the limit is taken."""
    with opened(root) as store:
        for number in range(20):
            commit(store, store.snapshots.empty, write(str(number), "x" * 100_000))
    with opened(root) as store:
        free = shutil.disk_usage(root).free
        before = sum(used.size_bytes for used in store.usage())
        kept = store.keep_within(Limits(max_bytes=before + (1 << 20), min_free_bytes=0))
        too_soon = store.keep_within(Limits(max_bytes=before - (1 << 17), min_free_bytes=0))
        _change(root, "UPDATE counters SET value = 0 WHERE name = 'measured'")
        broken = store.keep_within(Limits(max_bytes=before - (1 << 17), min_free_bytes=0))
        after = sum(used.size_bytes for used in store.usage())

        assert (kept.snapshots, too_soon.snapshots) == ((), ())
        assert (broken.snapshots[:3], after < before * 0.9) == ((1, 2, 3), True)
    with opened(root) as store:
        short = store.keep_within(Limits(max_bytes=1 << 62, min_free_bytes=2 * free))

        assert len(short.snapshots) + len(broken.snapshots) == 20


def test_limits_that_are_not_given_follow_the_disk(root: Path) -> None:
    """At most 50 GiB, at most 60 % of the disk, and a twentieth stays free."""
    root.mkdir()
    total = shutil.disk_usage(root).total

    assert limits_of(root) == Limits(
        max_bytes=min(50 * 1024**3, int(total * 0.6)), min_free_bytes=int(total * 0.05)
    )
    assert limits_of(root, max_bytes=5, min_free_bytes=0) == Limits(max_bytes=5, min_free_bytes=0)


def test_pruning_removes_the_longest_unused_until_the_limit_is_kept(root: Path) -> None:
    """Rows and files go together, leaves before what they stand on, and results with them."""
    with opened(root) as store:
        for name in ("old", "new"):
            parent = commit(store, store.snapshots.empty, write(f"{name} parent", "x" * 100_000))
            child = commit(store, parent, write(f"{name} child", "x" * 100_000))
            store.index.save_result(key(name), StoredResult(trees={"": child.id}))
        blob = store.blobs.put_bytes(b"x" * 100_000)
        path, _created = store.index.volume_path(key("volume"))
        (path / "cached").write_text("x" * 100_000)
    _change(root, "UPDATE snapshots SET last_used = CASE WHEN id <= 2 THEN 1 ELSE 2 END")
    _change(root, "UPDATE blobs SET last_used = 3", "UPDATE volumes SET last_used = 4")

    with opened(root) as store:
        before = sum(usage.size_bytes for usage in store.usage())
        store.prune(max_bytes=before - 150_000)
        kinds = {usage.kind: usage.count for usage in store.usage() if usage.count}
        results = [store.index.find_result(key(name)) is not None for name in ("old", "new")]

        assert kinds == {"images": 1, "results": 2, "cache volumes": 1, "index": 1}
        assert results == [False, True]
        assert len(os.listdir(root / "snapshots")) == 3
    with opened(root) as store:
        everything = store.prune(max_bytes=0)

        assert (everything.blobs, len(everything.snapshots), everything.volumes) == (
            (blob,),
            2,
            (key("volume"),),
        )
        assert (os.listdir(root / "volumes"), os.listdir(root / "snapshots")) == ([], ["0"])
        assert {usage.size_bytes for usage in store.usage() if usage.kind != "index"} == {0}


def test_pruning_never_takes_a_volume_that_is_to_be_kept(root: Path) -> None:
    """However long ago it was used, and by which engines since: what is in it cannot be made again."""
    with opened(root) as store:
        path, _created = store.index.volume_path(key("data"), is_kept=True)
        (path / "row").write_text("x" * 100_000)
        store.index.volume_path(key("volume"))
    with opened(root) as store:
        again = store.index.volume_path(key("data"))
    _change(root, "UPDATE volumes SET last_used = 1")

    with opened(root) as store:
        pruned = store.prune(max_bytes=0)

        assert again == (path, False)
        assert pruned.volumes == (key("volume"),)
        assert (path / "row").stat().st_size == 100_000


def test_pruning_spares_what_any_living_engine_has_used(root: Path) -> None:
    """An engine's finds, drafts' parents and views stay, whoever prunes."""
    with opened(root) as store:
        used = commit(store, commit(store, store.snapshots.empty, write("a")), write("b"))
        unused = commit(store, store.snapshots.empty, write("c"))
        blob = store.blobs.put_bytes(b"used")
        store.index.save_result(key("used"), StoredResult(trees={"": used.id}, blobs=(blob,)))

    with opened(root) as user, opened(root) as pruner:
        assert user.index.find_result(key("used")) is not None
        pruned = pruner.prune(max_bytes=0)

        assert pruned.snapshots == (unused.id,)
        assert read(user, user.snapshots.get(used.id)) == {"a": "x", "b": "x"}
        assert user.blobs.read(blob) == b"used"


def test_pruning_within_the_limits_removes_nothing(root: Path) -> None:
    """No limit, or one that is kept already."""
    with opened(root) as store:
        commit(store, store.snapshots.empty, write("a"))
    with opened(root) as store:
        pruned = [store.prune(), store.prune(max_bytes=1 << 40), store.prune(min_free_bytes=1)]

        assert [item.size_bytes for item in pruned] == [0, 0, 0]
        assert len(os.listdir(root / "snapshots")) == 2


@pytest.mark.anyio
async def test_an_engine_keeps_the_limits_by_itself(tmp_path: Path) -> None:
    """When it leaves, what only an earlier engine had used is gone, and what it used itself is there."""
    for session, settings in enumerate(({}, {"min_free_bytes": 1 << 60}, {})):
        async with open_workbench(tmp_path, **settings) as bench:
            before = bench.count_runs()
            if session != 1:
                await bench.stdout(bench.sh("echo old"))
            await bench.stdout(bench.sh("echo used"))
            ran = bench.count_runs() - before

        assert ran == (2, 0, 1)[session]


def test_recipes_and_notes_go_with_what_was_used_when_they_were(root: Path) -> None:
    """Those used since stay, by whichever engine; the dry run says the same."""
    with opened(root) as store:
        commit(store, store.snapshots.empty, write("old", "x" * 100_000))
        for name in ("old", "used", "saved"):
            store.index.save_recipe(name, "text")
            store.index.save_note("tag", name, "one")
    _change(root, "UPDATE snapshots SET last_used = 3")
    _change(root, "UPDATE recipes SET last_used = 1", "UPDATE notes SET last_used = 2")
    with opened(root) as store:
        assert (store.index.find_recipe("used"), store.index.find_note("tag", "used")) == ("text", "one")
        store.index.save_recipe("saved", "text")
        store.index.save_note("tag", "saved", "two")

    with opened(root) as store:
        within = sum(usage.size_bytes for usage in store.usage()) - 1
        told = store.prune(max_bytes=within, dry_run=True)
        pruned = store.prune(max_bytes=within)
        left = (sorted(store.index.recipes()), sorted(store.index.notes()))

    assert told == pruned
    assert (len(pruned.snapshots), pruned.recipes, pruned.notes) == (1, ("old",), 1)
    assert left == (["saved", "used"], [("tag", "saved", "two"), ("tag", "used", "one")])


def test_recipes_and_notes_that_a_living_engine_has_used_stay(root: Path) -> None:
    """However much is to go."""
    with opened(root) as store:
        for name in ("found", "unused"):
            store.index.save_recipe(name, "text")
            store.index.save_note("tag", name, "one")

    with opened(root) as user, opened(root) as pruner:
        user.index.find_recipe("found")
        user.index.find_note("tag", "found")
        user.index.save_recipe("saved", "text")
        user.index.save_note("tag", "saved", "one")
        pruner.prune(max_bytes=0)

        assert sorted(user.index.recipes()) == ["found", "saved"]
        assert sorted(user.index.notes()) == [("tag", "found", "one"), ("tag", "saved", "one")]
