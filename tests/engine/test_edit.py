"""File actions on real trees: what each one makes, and that none leaves the root."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import actions, edit, mounts, ops
from pipeline.engine.edit import EditFailed
from pipeline.engine.paths import NameTooLong
from pipeline.engine.treehash import content_digest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

NOTHING = ops.Scratch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree to edit, with somebody else's file beside it."""
    (tmp_path / "outside").write_text("untouched")
    (tmp_path / "root").mkdir(mode=0o755)
    return tmp_path / "root"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree to copy from."""
    (tmp_path / "source").mkdir(mode=0o755)
    return tmp_path / "source"


def _put(root: Path, path: str, text: str = "x", mode: int = 0o644) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
    return target


def _apply(action: actions.Action, root: Path, source: Path | None = None) -> None:
    edit.apply(action, root, lambda _tree: source or root)


def _texts(root: Path) -> dict[str, str]:
    """Every file below `root` with its text, every link with its target, every directory with a slash."""
    found = {}
    for directory, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(directory, name)
            short = os.path.relpath(path, root)
            if path.is_symlink():
                found[short] = f"-> {path.readlink()}"
            elif path.is_dir():
                found[f"{short}/"] = ""
            else:
                found[short] = path.read_text()
    return found


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def _copy(path: str = "/", **more: object) -> actions.Copy:
    return actions.Copy(source=NOTHING, path=path, **more)  # type: ignore[arg-type]


# ---- Copy ----------------------------------------------------------------------------------


def test_copy_merges_contents_and_makes_missing_parents(root: Path, source: Path) -> None:
    """What is there and not in the source stays; parents are 0755 and root's."""
    _put(source, "dir/new", "new")
    _put(source, "dir/both", "theirs")
    _put(root, "a/b/dir/both", "ours")
    _put(root, "a/b/dir/old", "old")

    _apply(_copy("a/b"), root, source)
    _apply(_copy("/deep/er"), root, source)

    assert _texts(root / "a") == {
        "b/": "",
        "b/dir/": "",
        "b/dir/both": "theirs",
        "b/dir/new": "new",
        "b/dir/old": "old",
    }
    assert (_mode(root / "deep"), _texts(root / "deep/er")["dir/new"]) == (0o755, "new")


def test_copy_keeps_everything_a_file_carries(root: Path, source: Path) -> None:
    """Modes, owners, times, extended attributes, hard links, links, pipes and devices."""
    file = _put(source, "dir/file", "text", 0o6750)
    os.chown(file, 5, 6)
    file.chmod(0o6750)
    os.setxattr(file, "user.note", b"1")
    os.link(file, source / "dir/same")
    (source / "dir/link").symlink_to("/nowhere")
    os.lchown(source / "dir/link", 7, 8)
    os.mkfifo(source / "dir/pipe", 0o640)
    os.mknod(source / "dir/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.utime(file, (100, 200))
    os.utime(source / "dir", (300, 400))

    _apply(_copy(), root, source)

    assert content_digest(root) == content_digest(source)
    assert (root / "dir/file").stat().st_mtime == 200
    assert (root / "dir").stat().st_mtime == 400
    assert (root / "dir/file").stat().st_ino == (root / "dir/same").stat().st_ino
    assert (root / "dir/file").stat().st_ino != file.stat().st_ino


def test_copy_of_large_and_sparse_files_keeps_their_bytes(root: Path, source: Path) -> None:
    """Larger than any buffer."""
    with open(source / "large", "wb") as stream:
        stream.write(os.urandom(3 << 20))
        stream.truncate(5 << 20)

    _apply(_copy(), root, source)

    assert (root / "large").read_bytes() == (source / "large").read_bytes()


def test_copy_may_share_files_by_hard_links(root: Path, source: Path) -> None:
    """Only when the caller says that both trees are immutable, and no attribute is replaced."""
    file = _put(source, "file")

    edit.apply(_copy("linked"), root, lambda _tree: source, link=True)
    edit.apply(_copy("owned", owner="5"), root, lambda _tree: source, link=True)

    inode = file.stat().st_ino
    assert (root / "linked/file").stat().st_ino == inode
    assert ((root / "owned/file").stat().st_ino != inode, (root / "owned/file").stat().st_uid) == (True, 5)


def test_copy_replaces_a_file_by_a_directory_and_the_reverse(root: Path, source: Path) -> None:
    """A link in the way of a directory is replaced too, and not followed."""
    _put(source, "one/inner")
    _put(source, "two")
    _put(source, "three/inner")
    _put(root, "one", "a file")
    _put(root, "two/inner", "a directory")
    (root / "three").symlink_to("../../outside")

    _apply(_copy(), root, source)

    assert _texts(root) == {"one/": "", "one/inner": "x", "two": "x", "three/": "", "three/inner": "x"}


def test_copy_over_a_file_at_its_target_replaces_it(root: Path, source: Path) -> None:
    """The contents of a directory need a directory."""
    _put(source, "file")
    _put(root, "target", "a file")

    _apply(_copy("target"), root, source)

    assert _texts(root) == {"target/": "", "target/file": "x"}


def test_copy_changes_owner_and_mode_of_all_that_it_copies(root: Path, source: Path) -> None:
    """Of files and directories and a target that it makes, not of parents or of what was there."""
    _put(source, "dir/file")
    (source / "link").symlink_to("dir")
    _put(root, "a/target/old")

    _apply(_copy("a/target", owner="5:6", mode=0o700), root, source)
    _apply(_copy("b/made", owner="5:6"), root, source)

    def owner(path: str) -> tuple[int, int]:
        return (root / path).lstat().st_uid, (root / path).lstat().st_gid

    copied = ("a/target/dir", "a/target/dir/file", "a/target/link", "b/made", "b/made/dir/file")
    assert {owner(path) for path in copied} == {(5, 6)}
    assert {owner(path) for path in ("a", "a/target", "a/target/old", "b")} == {(0, 0)}
    assert (_mode(root / "a/target/dir"), _mode(root / "a/target/dir/file")) == (0o700, 0o700)


def test_copy_takes_what_the_filters_leave(root: Path, source: Path) -> None:
    """Parents of what is included are made; empty directories are not."""
    for path in ("src/a.py", "src/b.txt", "src/sub/c.py", "doc/d.md"):
        _put(source, path)

    _apply(_copy(filters=actions.Filters(include=("**/*.py",), exclude=("src/sub",))), root, source)

    assert _texts(root) == {"src/": "", "src/a.py": "x"}


def test_copy_follows_links_of_the_target_inside_the_root(root: Path, source: Path) -> None:
    """An absolute link starts at the root of the tree, and `..` stops there."""
    _put(source, "file")
    (root / "real").mkdir()
    (root / "absolute").symlink_to("/real")
    (root / "escaping").symlink_to("../../../../real")

    _apply(_copy("absolute/one"), root, source)
    _apply(_copy("escaping/two"), root, source)
    _apply(_copy("../../real/three"), root, source)

    assert sorted(os.listdir(root / "real")) == ["one", "three", "two"]


def test_copy_reads_no_further_than_its_source(root: Path, source: Path) -> None:
    """A link in the source path leads inside the source."""
    _put(source, "outside", "inside the source")
    (source / "link").symlink_to("../../outside")

    _apply(_copy("got", kind="file", source_path="link"), root, source)

    assert _texts(root) == {"got": "inside the source"}


@pytest.mark.parametrize(
    ("path", "into", "expected"),
    [
        ("new", True, "new"),
        ("new/", True, "new/name"),
        ("new/.", True, "new/name"),
        ("dir", True, "dir/name"),
        ("to-dir", True, "dir/name"),
        ("", True, "name"),
        ("/", False, "name"),
        ("dir", False, "dir"),
        ("to-file", True, "to-file"),
        ("a/b/c", False, "a/b/c"),
    ],
)
def test_copy_of_one_file_goes_into_a_directory_or_takes_its_name(
    root: Path, source: Path, path: str, into: bool, expected: str
) -> None:
    """A trailing slash or an existing directory means inside; without `into` the path is exact."""
    _put(source, "original", "copied")
    (root / "dir").mkdir()
    _put(root, "file", "kept")
    (root / "to-dir").symlink_to("dir")
    (root / "to-file").symlink_to("file")

    _apply(_copy(path, kind="file", source_path="original", into=into, name="name"), root, source)

    assert (root / expected).read_text() == "copied"
    assert (root / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("contents", "none", "cannot find `none`: no such file or directory"),
        ("file", "none", "cannot find `none`: no such file or directory"),
        ("contents", "file", "cannot copy `file`: not a directory"),
        ("file", "dir", "cannot copy `dir`: not a file"),
        ("file", "file/below", "cannot find `file/below`: not a directory"),
    ],
)
def test_copy_says_what_is_wrong_with_its_source(
    root: Path, source: Path, kind: str, path: str, message: str
) -> None:
    """The path is named as it was given; `selection_digest` says the same."""
    _put(source, "file")
    (source / "dir").mkdir()
    action = _copy("target", kind=kind, source_path=path)

    for act in (lambda: _apply(action, root, source), lambda: edit.selection_digest(action, source)):
        with pytest.raises(EditFailed) as caught:
            act()

        assert str(caught.value) == message


def test_copy_through_a_file_is_refused(root: Path, source: Path) -> None:
    """A parent that is a file is not silently replaced."""
    _put(root, "file")
    _put(source, "x")

    with pytest.raises(EditFailed, match="not a directory"):
        _apply(_copy("file/dir"), root, source)


# ---- selection_digest ----------------------------------------------------------------------


def test_the_selection_digest_changes_only_with_what_would_be_taken(source: Path) -> None:
    """A file outside of the filters or of the source path is nothing to it."""
    _put(source, "dir/a.py")
    _put(source, "dir/b.txt")
    _put(source, "other")
    filtered = _copy(source_path="dir", filters=actions.Filters(include=("*.py",)))
    single = _copy(source_path="other", kind="file")

    before = [edit.selection_digest(action, source) for action in (filtered, single)]
    _put(source, "dir/b.txt", "changed")
    same = [edit.selection_digest(action, source) for action in (filtered, single)]
    _put(source, "dir/a.py", "changed")
    _put(source, "other", "changed")
    changed = [edit.selection_digest(action, source) for action in (filtered, single)]

    assert before == same
    assert [old != new for old, new in zip(before, changed, strict=True)] == [True, True]


# ---- new files, directories and links ------------------------------------------------------


def test_a_new_file_gets_its_mode_whatever_the_umask(root: Path) -> None:
    """Parents are 0755; mode 0 means 0644; only the low nine bits count."""
    old = os.umask(0o077)
    try:
        _apply(actions.WriteFile(path="a/b/file", content=b"text", mode=0o666, owner="5"), root)
        _apply(actions.WriteFile(path="plain", content=b"", mode=0), root)
        _apply(actions.WriteFile(path="special", content=b"", mode=0o6755), root)
    finally:
        os.umask(old)

    assert (root / "a/b/file").read_bytes() == b"text"
    assert ((root / "a/b/file").stat().st_uid, (root / "a/b/file").stat().st_gid) == (5, 5)
    modes = [_mode(root / path) for path in ("a", "a/b", "a/b/file", "plain", "special")]
    assert modes == [0o755, 0o755, 0o666, 0o644, 0o755]


def test_a_new_file_replaces_a_file_or_a_link(root: Path) -> None:
    """The link's target is not written."""
    _put(root, "target", "kept")
    (root / "link").symlink_to("target")
    (root / "out").symlink_to("../outside")
    _put(root, "file", "old", 0o600)

    for path in ("link", "out", "file"):
        _apply(actions.WriteFile(path=path, content=b"new"), root)

    assert _texts(root) == {"target": "kept", "link": "new", "out": "new", "file": "new"}
    assert _mode(root / "file") == 0o644


def test_a_new_file_at_a_directory_goes_into_it_or_fails(root: Path) -> None:
    """In a container it is entered; in a directory it is an error."""
    (root / "d").mkdir()

    _apply(actions.WriteFile(path="/d", content=b"x", into=True), root)
    with pytest.raises(EditFailed) as caught:
        _apply(actions.WriteFile(path="/d", content=b"x"), root)

    assert (_texts(root), str(caught.value)) == ({"d/": "", "d/d": "x"}, "cannot write `/d`: is a directory")


@pytest.mark.parametrize(
    "action",
    [
        actions.WriteFile(path="a/" + "n" * 256, content=b""),
        actions.MakeDirectory(path="n" * 256 + "/a"),
        actions.MakeSymlink(path="ä" * 128, target="x"),
        _copy("n" * 256),
    ],
    ids=["file", "directory", "link in bytes", "copy"],
)
def test_a_name_that_is_too_long_is_refused_in_the_known_words(root: Path, action: actions.Action) -> None:
    """Callers match this text."""
    text = "File name length exceeds the maximum supported 255 characters"

    with pytest.raises(NameTooLong, match=text):
        _apply(action, root)


def test_a_directory_is_made_with_its_parents(root: Path) -> None:
    """Each gets the mode without the group's and others' write; an existing one keeps its own."""
    (root / "old").mkdir(mode=0o700)

    _apply(actions.MakeDirectory(path="/a/b", mode=0o777, owner="5:6"), root)
    _apply(actions.MakeDirectory(path="old/new", mode=0), root)
    _apply(actions.MakeDirectory(path="old"), root)

    modes = {path: _mode(root / path) for path in ("a", "a/b", "old", "old/new")}
    assert modes == {"a": 0o755, "a/b": 0o755, "old": 0o700, "old/new": 0o755}
    assert ((root / "a/b").stat().st_uid, (root / "a/b").stat().st_gid) == (5, 6)


def test_a_directory_outside_or_over_a_file_is_refused(root: Path) -> None:
    """The words are the ones callers know."""
    _put(root, "file")

    with pytest.raises(EditFailed, match="cannot create directory outside parent"):
        _apply(actions.MakeDirectory(path="a/../../b"), root)
    with pytest.raises(EditFailed, match="not a directory"):
        _apply(actions.MakeDirectory(path="file"), root)


def test_a_link_is_made_verbatim_and_never_over_something(root: Path) -> None:
    """Parents are made; `..` in its name stops at the root."""
    _apply(actions.MakeSymlink(path="a/link", target="../../../x"), root)
    _apply(actions.MakeSymlink(path="../../top", target="/etc"), root)

    with pytest.raises(EditFailed) as caught:
        _apply(actions.MakeSymlink(path="/top", target="y"), root)

    assert _texts(root) == {"a/": "", "a/link": "-> ../../../x", "top": "-> /etc"}
    assert str(caught.value) == "cannot make link `/top`: file exists"


# ---- Remove, owners, times -----------------------------------------------------------------


def test_remove_takes_trees_matches_and_links_but_not_their_targets(root: Path) -> None:
    """What is missing is no error."""
    for path in ("dir/a", "x1", "x2", "y1", "sub/x.log", "sub/x.txt", "[odd]", "target/kept"):
        _put(root, path)
    (root / "link").symlink_to("target")
    (root / "way").symlink_to("/sub")

    _apply(actions.Remove(paths=("dir", "x*", "/y[^2]", "way/*.log", "link", "missing/*", "\\[odd\\]")), root)

    assert _texts(root) == {
        "sub/": "",
        "sub/x.txt": "x",
        "target/": "",
        "target/kept": "x",
        "way": "-> /sub",
    }


def test_remove_of_the_root_empties_it(root: Path) -> None:
    """And never goes above it."""
    _put(root, "a/b")

    _apply(actions.Remove(paths=("..", "/")), root)

    assert (os.listdir(root), (root.parent / "outside").read_text()) == ([], "untouched")


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("7", (7, 7)),
        ("7:8", (7, 8)),
        ("app", (1000, 1000)),
        ("app:wheel", (1000, 10)),
        ("7:wheel", (7, 10)),
        ("root", (0, 0)),
        ("root:8", (0, 8)),
        ("", (3, 4)),
    ],
)
def test_owners_are_numbers_or_names_of_the_trees_own_tables(
    root: Path, owner: str, expected: tuple[int, int]
) -> None:
    """A missing group is the number of the user; no owner changes nothing. All below is changed."""
    _put(root, "etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:50::/:/bin/sh\n")
    _put(root, "etc/group", "root:x:0:\nwheel:x:10:app\n")
    _put(root, "dir/file")
    (root / "dir/link").symlink_to("/etc/passwd")
    for path in ("dir", "dir/file", "dir/link"):
        os.lchown(root / path, 3, 4)

    _apply(actions.ChangeOwner(path="dir", owner=owner), root)

    found = {(p.lstat().st_uid, p.lstat().st_gid) for p in (root / "dir", *(root / "dir").iterdir())}
    assert (found, (root / "etc/passwd").stat().st_uid) == ({expected}, 0)


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        ("nobody", "cannot find user `nobody`: it is not in `/etc/passwd`"),
        ("1:staff", "cannot find group `staff`: it is not in `/etc/group`"),
    ],
)
def test_an_unknown_owner_is_an_error(root: Path, owner: str, message: str) -> None:
    """Also in a tree without any tables; the host's are not asked."""
    with pytest.raises(EditFailed) as caught:
        _apply(actions.ChangeOwner(path="/", owner=owner), root)

    assert str(caught.value) == message


def test_the_tables_of_owners_are_read_inside_the_root(root: Path) -> None:
    """A link to an absolute path means the tree's own."""
    _put(root, "usr/passwd", "app:x:1000:50::/:/bin/sh\n")
    (root / "etc").mkdir()
    (root / "etc/passwd").symlink_to("/usr/passwd")
    _put(root, "file")

    _apply(actions.ChangeOwner(path="file", owner="app"), root)

    assert (root / "file").stat().st_uid == 1000


def test_times_are_set_on_everything_below(root: Path) -> None:
    """Links themselves, not what they lead to."""
    _put(root, "dir/file")
    (root / "dir/link").symlink_to("../../outside")
    outside = (root.parent / "outside").stat().st_mtime

    _apply(actions.SetTimes(seconds=1234), root)

    found = {path.lstat().st_mtime for path in (root / "dir", *(root / "dir").iterdir())}
    assert (found, (root.parent / "outside").stat().st_mtime) == ({1234.0}, outside)


# ---- text ----------------------------------------------------------------------------------

PATCH = """\
diff --git a/file b/file
--- a/file
+++ b/file
@@ -1 +1 @@
-old
+new
diff --git a/dir/made b/dir/made
new file mode 100644
--- /dev/null
+++ b/dir/made
@@ -0,0 +1 @@
+made
"""


def test_a_patch_is_applied_with_ordinary_modes(root: Path) -> None:
    """New files are 0644 and new directories 0755, whatever the engine's umask."""
    _put(root, "file", "old\n")
    old = os.umask(0)
    try:
        _apply(actions.Patch(text=PATCH), root)
    finally:
        os.umask(old)

    assert _texts(root) == {"file": "new\n", "dir/": "", "dir/made": "made\n"}
    assert (_mode(root / "dir"), _mode(root / "dir/made")) == (0o755, 0o644)


@pytest.mark.parametrize("text", ["", "only words\n"], ids=["empty", "no hunk"])
def test_a_patch_without_a_hunk_changes_nothing(root: Path, text: str) -> None:
    """As callers expect."""
    _put(root, "file", "old\n")

    _apply(actions.Patch(text=text), root)

    assert _texts(root) == {"file": "old\n"}


def test_a_patch_that_does_not_apply_is_an_error_and_changes_nothing(root: Path) -> None:
    """The tool's own words are in the message."""
    _put(root, "file", "something else\n")

    with pytest.raises(EditFailed, match="cannot patch `/`: error: patch failed: file:1"):
        _apply(actions.Patch(text=PATCH), root)

    assert _texts(root) == {"file": "something else\n"}


def test_a_patch_cannot_leave_the_root_nor_use_the_trees_repository(root: Path) -> None:
    """Neither by `..` nor through a link; a `.git` in the tree is just files."""
    _put(root, ".git/config", "[core]\n\tfsmonitor = touch ../outside2\n")
    _put(root, ".git/HEAD", "ref: refs/heads/main\n")
    (root / "link").symlink_to("..")
    up = PATCH.replace("dir/made", "../made")
    through = PATCH.replace("dir/made", "link/made")
    _put(root, "file", "old\n")

    for text in (up, through):
        with pytest.raises(EditFailed):
            _apply(actions.Patch(text=text), root)
    _apply(actions.Patch(text=PATCH), root)

    assert sorted(os.listdir(root.parent)) == ["outside", "root"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"search": "two"}, "one\n2\none\n"),
        ({"search": "one", "all": True}, "2\ntwo\n2\n"),
        ({"search": "none", "all": True}, "one\ntwo\none\n"),
        ({"search": "one", "first_from": 2}, "one\ntwo\n2\n"),
        ({"search": "one", "first_from": 1}, "2\ntwo\none\n"),
    ],
)
def test_text_is_replaced_literally(root: Path, options: dict[str, object], expected: str) -> None:
    """The file keeps its mode and owner."""
    file = _put(root, "file", "one\ntwo\none\n")
    os.chown(file, 5, 6)
    file.chmod(0o750)

    _apply(actions.ReplaceText(path="file", replacement="2", **options), root)  # type: ignore[arg-type]

    assert (file.read_text(), _mode(file), file.stat().st_uid) == (expected, 0o750, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": "none"}, "search string not found"),
        ({"search": "two", "first_from": 3}, "search string not found"),
        ({"search": "one"}, "search string found multiple times: lines 1, 3"),
    ],
)
def test_text_that_is_missing_or_ambiguous_is_an_error(
    root: Path, options: dict[str, object], message: str
) -> None:
    """The lines are named; the file stays."""
    file = _put(root, "file", "one\ntwo\none\n")

    with pytest.raises(EditFailed) as caught:
        _apply(actions.ReplaceText(path="file", replacement="2", **options), root)  # type: ignore[arg-type]

    assert str(caught.value) == f"cannot replace text in `file`: {message}"
    assert file.read_text() == "one\ntwo\none\n"


# ---- differences ---------------------------------------------------------------------------


def _two_trees(before: Path, after: Path) -> None:
    for tree in (before, after):
        _put(tree, "same", "same")
        _put(tree, "dir/same", "same")
        _put(tree, "mode", "x")
        (tree / "link").symlink_to("same")
    os.utime(after / "same", (1, 1))
    _put(before, "changed", "1234")
    _put(after, "changed", "4321")
    (after / "mode").chmod(0o755)
    _put(before, "gone/file")
    _put(after, "dir/new", "new")
    (after / "empty").mkdir(mode=0o700)
    _put(before, "turned/file")
    _put(after, "turned", "a file now")
    _put(before, "grown", "a file")
    _put(after, "grown/file")


def test_the_difference_is_what_the_upper_adds_or_changes(root: Path, source: Path, tmp_path: Path) -> None:
    """Times alone are no difference; removals leave no trace; parents come with their attributes."""
    _two_trees(source, root)
    (tmp_path / "into").mkdir()
    (root / "dir").chmod(0o750)

    edit.difference(source, root, tmp_path / "into")

    assert _texts(tmp_path / "into") == {
        "changed": "4321",
        "dir/": "",
        "dir/new": "new",
        "empty/": "",
        "grown/": "",
        "grown/file": "x",
        "mode": "x",
        "turned": "a file now",
    }
    assert [_mode(tmp_path / "into" / name) for name in ("dir", "empty")] == [0o750, 0o700]


def test_the_difference_of_equal_trees_is_empty(root: Path, source: Path, tmp_path: Path) -> None:
    """Nothing is made at all."""
    for tree in (root, source):
        _put(tree, "dir/file")
    (tmp_path / "into").mkdir()

    edit.difference(source, root, tmp_path / "into")

    assert os.listdir(tmp_path / "into") == []


def test_changes_are_applied_to_a_third_tree(tmp_path: Path, root: Path) -> None:
    """Additions, changes and removals; what the third tree has of its own stays."""
    before, after = tmp_path / "before", tmp_path / "after"
    _two_trees(before, after)
    _put(root, "own")
    _put(root, "gone/file")
    _put(root, "changed", "ours")
    action = actions.ApplyChanges(before=NOTHING, after=ops.Pinned(content=NOTHING.digest))

    edit.apply(action, root, lambda tree: before if tree == NOTHING else after)

    assert _texts(root) == {
        "changed": "4321",
        "dir/": "",
        "dir/new": "new",
        "empty/": "",
        "grown/": "",
        "grown/file": "x",
        "mode": "x",
        "own": "x",
        "turned": "a file now",
    }


# ---- on an overlay -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        pytest.param(
            lambda root, source: _apply(_copy("dir"), root, source),
            {"dir/": "", "dir/a": "x", "dir/file": "new", "link": "-> dir"},
            id="copy",
        ),
        pytest.param(
            lambda root, _source: _apply(actions.Remove(paths=("dir/a", "link")), root),
            {"dir/": ""},
            id="remove",
        ),
        pytest.param(
            lambda root, _source: _apply(actions.WriteFile(path="link", content=b"y"), root),
            {"dir/": "", "dir/a": "x", "link": "y"},
            id="write over a link",
        ),
    ],
)
def test_actions_on_an_overlay_change_its_upper_only(
    tmp_path: Path, source: Path, act: Callable[[Path, Path], None], expected: dict[str, str]
) -> None:
    """As the solver applies them: the parent's layer stays as it was."""
    mounts.enter_private_mount_namespace()
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    _put(lower, "dir/a")
    (lower / "link").symlink_to("dir")
    _put(source, "file", "new")
    mounts.mount_overlay(merged, [lower], upper, work)

    act(merged, source)
    found = _texts(merged)
    mounts.unmount(merged)

    assert (found, _texts(lower)) == (expected, {"dir/": "", "dir/a": "x", "link": "-> dir"})
