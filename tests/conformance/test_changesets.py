"""Changesets: what happened between two directories, and merging that."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_mounts import tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# ---- Changeset -------------------------------------------------------------------------------


async def test_changes(dag: dagger.Client) -> None:
    """107. Changes are told by path: new directories with a slash, a removed one once."""
    before = tree(dag, "same", "gone/a", "gone/b").with_new_file("edited", "1\n2\n")
    after = tree(dag, "same", "made/x").with_new_file("edited", "1\n3\n4\n")

    changes = after.changes(before)

    assert await changes.added_paths() == ["made/", "made/x"]
    assert await changes.modified_paths() == ["edited"]
    assert await changes.removed_paths() == ["gone/"]
    assert await changes.is_empty() is False
    assert await after.changes(after).is_empty() is True
    assert await dag.changeset().is_empty() is True
    empty = after.with_new_directory("empty").changes(after)
    assert (await empty.added_paths(), await empty.is_empty()) == (["empty/"], True)


async def test_statistics_of_changes(dag: dagger.Client) -> None:
    """107. Of each file its lines are counted; a renamed one is told with its old path."""
    text = "".join(f"{n}\n" for n in range(20))
    before = dag.directory().with_new_file("edited", "1\n2\n").with_new_file("old", text)
    after = dag.directory().with_new_file("edited", "1\n3\n4\n").with_new_file("new", text + "more\n")

    stats = {await s.path(): s for s in await after.changes(before).diff_stats()}

    edited, renamed = stats["edited"], stats["new"]
    assert (await edited.added_lines(), await edited.removed_lines()) == (2, 1)
    assert await edited.kind() == dagger.DiffStatKind.MODIFIED
    assert await edited.old_path() is None
    assert (await renamed.kind(), await renamed.old_path()) == (dagger.DiffStatKind.RENAMED, "old")
    assert (await renamed.added_lines(), await renamed.removed_lines()) == (1, 0)


async def test_directories_in_the_statistics_of_changes(dag: dagger.Client) -> None:
    """107. Directories that came or went are told too, each with all that is below."""
    before, after = tree(dag, "gone/deep/f"), tree(dag, "made/f").with_new_directory("empty")

    stats = await after.changes(before).diff_stats()

    assert [(await s.path(), (await s.kind()).value, await s.added_lines()) for s in stats] == [
        ("empty/", "ADDED", 0),
        ("gone/", "REMOVED", 0),
        ("gone/deep/", "REMOVED", 0),
        ("gone/deep/f", "REMOVED", 0),
        ("made/", "ADDED", 0),
        ("made/f", "ADDED", 1),
    ]


def git_apply(folder: Path, patch: str) -> None:
    """Apply a patch with git alone."""
    subprocess.run(["git", "apply", "-"], cwd=folder, input=patch, text=True, check=True)


async def test_changes_as_a_patch(dag: dagger.Client, tmp_path: Path) -> None:
    """107. The patch of changes is one that git applies."""
    before = tree(dag, "same", "gone").with_new_file("edited", "1\n2\n")
    after = tree(dag, "same", "made").with_new_file("edited", "1\n3\n")

    patch = await after.changes(before).as_patch().contents()

    await before.export(str(tmp_path / "d"))
    git_apply(tmp_path / "d", patch)
    assert (tmp_path / "d" / "edited").read_text() == "1\n3\n"
    assert sorted(os.listdir(tmp_path / "d")) == ["edited", "made", "same"]


@pytest.mark.differs("there the patch of a rename does not apply")
async def test_a_rename_as_a_patch(dag: dagger.Client, tmp_path: Path) -> None:
    """107. A patch with a rename applies too, by git and by `with_patch`."""
    text = "".join(f"{n}\n" for n in range(20))
    before, after = dag.directory().with_new_file("old", text), dag.directory().with_new_file("new", text)

    patch = await after.changes(before).as_patch().contents()

    await before.export(str(tmp_path / "d"))
    git_apply(tmp_path / "d", patch)
    assert os.listdir(tmp_path / "d") == ["new"]
    assert await before.with_patch(patch).entries() == ["new"]


async def test_changes_apply_to_another_base(dag: dagger.Client) -> None:
    """108. Changes add and remove in another directory; their layer has what was added and changed."""
    changes = tree(dag, "a", "new").changes(tree(dag, "a", "gone"))

    done = tree(dag, "gone", "other").with_changes(changes)

    assert await done.entries() == ["new", "other"]
    assert await changes.layer().entries() == ["new"]


async def test_exporting_changes(dag: dagger.Client, tmp_path: Path) -> None:
    """An export of changes writes what was added, and removes what was removed."""
    for name in ("gone", "mine"):
        (tmp_path / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").write_text("")
    (tmp_path / "link").symlink_to("elsewhere")
    changes = tree(dag, "new").changes(tree(dag, "gone", "link/f", "absent/f"))

    await changes.export(str(tmp_path))

    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "mine", "new"]
    assert os.listdir(tmp_path / "elsewhere") == ["f"]


async def test_merging_changesets(dag: dagger.Client) -> None:
    """Changes of different files, and of different lines of one, come together."""
    before = dag.directory().with_new_file("f", "1\n2\n3\n4\n5\n").with_new_file("gone", "")
    ours = before.with_new_file("f", "one\n2\n3\n4\n5\n").changes(before)
    theirs = before.with_new_file("f", "1\n2\n3\n4\nfive\n").without_file("gone").changes(before)
    more = before.with_new_file("more", "x").changes(before)

    merged = ours.with_changeset(theirs)
    all_of_them = ours.with_changesets([theirs, more])

    assert await merged.after().file("f").contents() == "one\n2\n3\n4\nfive\n"
    assert await merged.removed_paths() == ["gone"]
    assert await all_of_them.after().entries() == ["f", "more"]
    assert await all_of_them.added_paths() == ["more"]
    with pytest.raises(dagger.QueryError, match='conflict between changesets at path "f"'):
        await ours.with_changeset(theirs, on_conflict=dagger.ChangesetMergeConflict.FAIL_EARLY).sync()


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [
        (dagger.ChangesetMergeConflict.PREFER_OURS, "ours\n"),
        (dagger.ChangesetMergeConflict.PREFER_THEIRS, "theirs\n"),
        (
            dagger.ChangesetMergeConflict.LEAVE_CONFLICT_MARKERS,
            "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> theirs\n",
        ),
    ],
)
async def test_merging_what_conflicts(
    dag: dagger.Client, on_conflict: dagger.ChangesetMergeConflict, expected: str
) -> None:
    """A conflict is an error unless it is said which side counts, or that both are left to see."""
    before = dag.directory().with_new_file("f", "old\n")
    ours, theirs = (before.with_new_file("f", f"{n}\n").changes(before) for n in ("ours", "theirs"))

    assert await ours.with_changeset(theirs, on_conflict=on_conflict).after().file("f").contents() == expected
    with pytest.raises(dagger.QueryError, match="onflict"):
        await ours.with_changeset(theirs).sync()
    with pytest.raises(dagger.QueryError, match="onflict"):
        await ours.with_changesets([theirs, before.with_new_file("x", "").changes(before)]).sync()
