"""Directories and files as values: each call describes, nothing is done."""

from __future__ import annotations

import pytest

from pipeline.engine import actions, ops
from pipeline.engine.files import SCRATCH, BadPath, Directory, File, copy_of_file, encode, refuse_escape

TREE = ops.Pinned(content=ops.Scratch().digest)
SOURCE = File(tree=TREE, path="/a/b.txt")


@pytest.mark.parametrize(
    ("path", "goes_to", "into"),
    [
        ("/x", "/x", True),
        ("x", "/x", True),
        ("/x/", "/x/b.txt", False),
        ("/x/.", "/x/b.txt", False),
        ("", "/b.txt", False),
        (".", "/b.txt", False),
        ("/", "/b.txt", False),
    ],
)
def test_where_a_file_is_copied_to(path: str, goes_to: str, into: bool) -> None:
    """A slash at the end says that it is a directory; without one, evaluation finds out."""
    assert copy_of_file(path, SOURCE) == actions.Copy(
        source=TREE, source_path="/a/b.txt", path=goes_to, kind="file", into=into, name="b.txt"
    )


def test_a_file_that_was_renamed_goes_by_its_new_name() -> None:
    assert copy_of_file("/x/", SOURCE.with_name("c")).path == "/x/c"
    assert SOURCE.with_name("c").name == "c"


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_has_no_slash_and_is_not_empty(name: str) -> None:
    with pytest.raises(BadPath, match="must not contain a directory"):
        SOURCE.with_name(name)


def test_a_part_of_a_directory_is_a_tree_of_its_own_only_when_one_is_needed() -> None:
    whole = Directory(tree=TREE)
    part = whole.directory("/sub/./x")

    assert part == Directory(tree=TREE, path="/sub/x")
    assert whole.as_tree() is TREE
    assert part.as_tree() == ops.Edit(base=SCRATCH, action=actions.Copy(source=TREE, source_path="/sub/x"))
    assert part.file("/f") == File(tree=TREE, path="/sub/x/f")


def test_an_edit_of_a_file_touches_that_file_alone() -> None:
    edited = SOURCE.with_timestamps(7)

    assert edited.path == "/b.txt"
    assert isinstance(edited.tree, ops.Edit)
    assert edited.tree.action == actions.SetTimes(seconds=7, path="/b.txt")
    assert edited.tree.base == Directory().with_file("b.txt", SOURCE).tree


@pytest.mark.parametrize(("asked", "mode"), [(0, 0o644), (0o600, 0o600), (0o4755, 0o755)])
def test_new_files_have_low_bits_and_never_none(asked: int, mode: int) -> None:
    made = Directory().with_new_file("a", "x", permissions=asked)

    assert made.tree == ops.Edit(base=SCRATCH, action=actions.WriteFile(path="/a", content=b"x", mode=mode))


def test_a_new_directory_stays_inside() -> None:
    assert Directory().with_new_directory("a/../b", permissions=0).tree == ops.Edit(
        base=SCRATCH, action=actions.MakeDirectory(path="/b", mode=0o755)
    )
    with pytest.raises(BadPath, match="cannot create directory outside parent"):
        Directory().with_new_directory("a/../../b")


@pytest.mark.parametrize("path", ["..", "a/../..", "../a", "/../a"])
def test_paths_that_climb_out_are_refused(path: str) -> None:
    with pytest.raises(BadPath):
        refuse_escape(path, "no")


@pytest.mark.parametrize("path", ["a/..", "a/b/../../c", "./a", ""])
def test_paths_that_stay_inside_are_not(path: str) -> None:
    refuse_escape(path, "no")


def test_an_empty_patch_changes_nothing() -> None:
    directory = Directory(tree=TREE)

    assert directory.with_patch("") is directory
    assert directory.with_patch("@@ -1 +1 @@\n") is not directory


def test_bytes_that_came_as_surrogates_are_written_as_bytes() -> None:
    assert encode("a\udcffé") == b"a\xff\xc3\xa9"


def test_equal_calls_have_equal_digests_and_others_have_not() -> None:
    made = [
        Directory().with_new_file("a", "1").tree.digest,
        Directory().with_new_file("./a", "1").tree.digest,
        Directory().with_new_file("a", "2").tree.digest,
        Directory().with_new_file("a", "1", permissions=0o600).tree.digest,
    ]

    assert made[0] == made[1]
    assert len(set(made)) == 3
