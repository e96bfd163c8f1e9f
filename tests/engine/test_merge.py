"""Merging changesets: what git would make of them, over the trees they began with."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.changes import file_changes, patch_text
from pipeline.engine.merge import MergeConflict, merge

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.actions import OnConflict

Files = dict[str, str | None]  # None: an empty directory

BASE: Files = {"a": "1\n2\n3\n4\n5\n", "b": "b\n", "sub/c": "c\n", "keep": "k\n"}
ALL: list[OnConflict] = ["FAIL_EARLY", "FAIL", "LEAVE_CONFLICT_MARKERS", "PREFER_OURS", "PREFER_THEIRS"]


def write(root: Path, files: Files) -> Path:
    root.mkdir(parents=True)
    for name, text in files.items():
        path = root / name
        if text is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(root: Path) -> Files:
    found: Files = {}
    for folder, names, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        for name in files:
            path = os.path.normpath(f"{inner}/{name}")
            found[path] = (root / path).read_text()
        if not names and not files and inner != ".":
            found[inner] = None
    return found


def merged(tmp_path: Path, *afters: Files, on_conflict: OnConflict = "FAIL", base: Files = BASE) -> Files:
    root = write(tmp_path / "root", base)
    before = write(tmp_path / "before", base)
    pairs = [(before, write(tmp_path / f"after-{number}", after)) for number, after in enumerate(afters)]
    merge(os.fspath(root), pairs, on_conflict)
    return read(root)


@pytest.mark.parametrize("on_conflict", ALL)
def test_changes_of_different_files_come_together(tmp_path: Path, on_conflict: OnConflict) -> None:
    """Additions, changes and removals of both sides are there, whatever is said of conflicts."""
    ours = {**BASE, "a": "ours\n", "new/ours": "o"}
    theirs = {name: text for name, text in BASE.items() if name != "sub/c"} | {"b": "theirs\n", "empty": None}

    found = merged(tmp_path, ours, theirs, on_conflict=on_conflict)

    assert found == {"a": "ours\n", "b": "theirs\n", "keep": "k\n", "new/ours": "o", "empty": None}


def test_different_lines_of_one_file_come_together(tmp_path: Path) -> None:
    """Git joins hunks that do not touch."""
    ours = {**BASE, "a": "one\n2\n3\n4\n5\n"}
    theirs = {**BASE, "a": "1\n2\n3\n4\nfive\n"}

    assert merged(tmp_path, ours, theirs)["a"] == "one\n2\n3\n4\nfive\n"


def test_a_change_follows_a_file_that_the_other_side_renamed(tmp_path: Path) -> None:
    """Renames are found as git finds them."""
    ours = {name: text for name, text in BASE.items() if name != "a"} | {"moved": BASE["a"]}
    theirs = {**BASE, "a": "1\n2\n3\n4\nfive\n"}

    found = merged(tmp_path, ours, theirs)

    assert found == {"moved": "1\n2\n3\n4\nfive\n", "b": "b\n", "sub/c": "c\n", "keep": "k\n"}


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [
        ("PREFER_OURS", "ours\n"),
        ("PREFER_THEIRS", "theirs\n"),
        ("LEAVE_CONFLICT_MARKERS", "<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> theirs\n"),
    ],
)
def test_a_file_that_both_changed(tmp_path: Path, on_conflict: OnConflict, expected: str) -> None:
    """One side's lines are taken, or both stand between git's markers."""
    found = merged(tmp_path, {**BASE, "b": "ours\n"}, {**BASE, "b": "theirs\n"}, on_conflict=on_conflict)

    assert found == {**BASE, "b": expected}


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [("PREFER_OURS", "ours\n"), ("PREFER_THEIRS", None), ("LEAVE_CONFLICT_MARKERS", "ours\n")],
)
def test_a_file_that_one_changed_and_the_other_removed(
    tmp_path: Path, on_conflict: OnConflict, expected: str | None
) -> None:
    """The preferred side counts; where markers are wanted the changed file stays."""
    theirs = {name: text for name, text in BASE.items() if name != "b"}

    found = merged(tmp_path, {**BASE, "b": "ours\n"}, theirs, on_conflict=on_conflict)

    assert found.get("b") == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({**BASE, "b": "1"}, {**BASE, "b": "2"}, '"b": path modified in both changesets'),
        ({**BASE, "n": "1"}, {**BASE, "n": "2"}, '"n": path added in both changesets'),
        (
            {**BASE, "sub/c": "1"},
            {"a": BASE["a"], "b": "b\n", "keep": "k\n"},
            '"sub/c": path modified in one changeset and removed in the other',
        ),
    ],
    ids=["modified", "added", "removed"],
)
@pytest.mark.parametrize("on_conflict", ["FAIL", "FAIL_EARLY"])
def test_a_conflict_is_an_error_that_names_the_path(
    tmp_path: Path, ours: Files, theirs: Files, reason: str, on_conflict: OnConflict
) -> None:
    with pytest.raises(MergeConflict) as caught:
        merged(tmp_path, ours, theirs, on_conflict=on_conflict)

    assert str(caught.value) == f"conflict between changesets at path {reason}"


def test_failing_early_refuses_what_git_could_join(tmp_path: Path) -> None:
    """One file touched by both is a conflict, though the lines differ."""
    ours = {**BASE, "a": "one\n2\n3\n4\n5\n"}
    theirs = {**BASE, "a": "1\n2\n3\n4\nfive\n"}

    with pytest.raises(MergeConflict, match='"a": path modified in both'):
        merged(tmp_path, ours, theirs, on_conflict="FAIL_EARLY")


def test_bytes_that_are_no_text_cannot_hold_markers(tmp_path: Path) -> None:
    base: Files = {"b": "\0"}

    with pytest.raises(MergeConflict, match="cannot hold conflict markers"):
        merged(tmp_path, {"b": "\0o"}, {"b": "\0t"}, on_conflict="LEAVE_CONFLICT_MARKERS", base=base)


def test_several_changesets_come_together(tmp_path: Path) -> None:
    afters: list[Files] = [{**BASE, f"new-{number}": str(number)} for number in range(4)]

    found = merged(tmp_path, *afters)

    assert found == {**BASE, "new-0": "0", "new-1": "1", "new-2": "2", "new-3": "3"}


def test_changes_move_onto_what_another_side_began_with(tmp_path: Path) -> None:
    """Where the sides began differently, each side's lines are applied to what is there."""
    five: Files = {"a": "1\n2\n3\n4\nfive\n"}
    root = write(tmp_path / "root", five)
    pairs = [
        (
            write(tmp_path / "b1", {"a": "1\n2\n3\n4\n5\n"}),
            write(tmp_path / "a1", {"a": "one\n2\n3\n4\n5\n"}),
        ),
        (write(tmp_path / "b2", {"a": "1\n2\n3\n4\nfive\n"}), write(tmp_path / "a2", {"n": "new"})),
    ]
    (tmp_path / "a2" / "a").write_text("1\n2\n3\n4\nfive\n")

    merge(os.fspath(root), pairs, "FAIL")

    assert read(root) == {"a": "one\n2\n3\n4\nfive\n", "n": "new"}


def test_what_a_file_says_to_git_is_not_heeded(tmp_path: Path) -> None:
    """Ignore rules, attributes and line ends of the tree are content here."""
    rules: Files = {".gitignore": "*\n", ".gitattributes": "* text=auto merge=union\n"}

    found = merged(tmp_path, {**BASE, **rules, "dos": "1\r\n2\r\n"}, {**BASE, "log": "x"})

    assert found == {**BASE, **rules, "dos": "1\n2\n", "log": "x"}
    assert (tmp_path / "root" / "dos").read_bytes() == b"1\r\n2\r\n"


def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    """A file of one side is taken over with all of its attributes, a joined one with those of the first."""
    root, before = write(tmp_path / "root", BASE), write(tmp_path / "before", BASE)
    ours, theirs = write(tmp_path / "ours", BASE), write(tmp_path / "theirs", BASE)
    (ours / "link").symlink_to("a")
    (ours / "tool").write_text("#!/bin/sh\n")
    (ours / "tool").chmod(0o4750)
    (ours / "a").write_text("one\n2\n3\n4\n5\n")
    (ours / "a").chmod(0o600)
    (theirs / "a").write_text("1\n2\n3\n4\nfive\n")

    merge(os.fspath(root), [(before, ours), (before, theirs)], "FAIL")

    assert os.readlink(root / "link") == "a"
    assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o4750
    assert (root / "a").read_text() == "one\n2\n3\n4\nfive\n"
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o600


def test_a_link_of_one_side_leads_nobody_out(tmp_path: Path) -> None:
    """Where one side puts a link and the other a file below its name, nothing behind the link is touched."""
    outside = write(tmp_path / "outside", {"secret": "secret\n"})
    root, before = write(tmp_path / "root", {"k": "k"}), write(tmp_path / "before", {"k": "k"})
    ours, theirs = write(tmp_path / "ours", {"k": "k"}), write(tmp_path / "theirs", {"k": "k"})
    (ours / "d").symlink_to(outside)
    (theirs / "d").mkdir()
    (theirs / "d" / "secret").write_text("changed\n")

    with pytest.raises(MergeConflict):
        merge(os.fspath(root), [(before, ours), (before, theirs)], "FAIL")

    assert read(outside) == {"secret": "secret\n"}
    assert read(root) == {"k": "k"}
    stats = file_changes(theirs, ours)
    assert [(change.path, change.kind) for change in stats] == [
        ("d", "ADDED"), ("d/", "REMOVED"), ("d/secret", "REMOVED"),
    ]  # fmt: skip
    assert "+secret" not in patch_text(theirs, ours)


def test_a_link_in_a_directorys_place_hides_nothing_else(tmp_path: Path) -> None:
    """The files of the directory go before the link comes."""
    base: Files = {"d/f": "old\n", "other/f": "kept\n"}
    root, before = write(tmp_path / "root", base), write(tmp_path / "before", base)
    ours, theirs = write(tmp_path / "ours", {"other/f": "kept\n"}), write(tmp_path / "theirs", base)
    (ours / "d").symlink_to("other")

    merge(os.fspath(root), [(before, ours), (before, theirs)], "FAIL")

    assert os.readlink(root / "d") == "other"
    assert (root / "other" / "f").read_text() == "kept\n"
