"""Directories and files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import stat
import tarfile
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_mounts import tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import Engines

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# ---- Directory: reading ----------------------------------------------------------------------


async def test_entries(dag: dagger.Client) -> None:
    """101. Entries are sorted, directories end in a slash; a missing path is an error that names it."""
    directory = tree(dag, "b", "a/x", "a.txt")

    assert await directory.entries() == ["a/", "a.txt", "b"]
    assert await directory.entries(path="a") == ["x"]
    assert await dag.directory().entries() == []
    assert await dag.directory().entries(path=".") == []
    assert await dag.directory().entries(path="/") == []
    with pytest.raises(dagger.QueryError, match=r"none.*no such file or directory"):
        await directory.entries(path="none")


async def test_glob(dag: dagger.Client) -> None:
    """102. Patterns match at one level, `**` at any; hidden files count; no match is an empty list."""
    directory = tree(dag, "a.md", "sub/b.md", "sub/deep/c.txt", ".hidden.md")

    assert await directory.glob("*.md") == [".hidden.md", "a.md"]
    assert await directory.glob("**/*.md") == [".hidden.md", "a.md", "sub/b.md"]
    assert await directory.glob("sub/**") == ["sub/b.md", "sub/deep/", "sub/deep/c.txt"]
    assert await directory.glob("*.none") == []
    assert await directory.directory("sub").glob("**") == ["b.md", "deep/", "deep/c.txt"]


async def test_a_missing_directory_shows_on_evaluation(dag: dagger.Client) -> None:
    """103. A path that is missing, or of another kind, is an error once something is asked of it."""
    directory = tree(dag, "f")
    missing = directory.directory("x")

    assert await missing.id()
    with pytest.raises(dagger.QueryError, match="no such file or directory"):
        await missing.sync()
    with pytest.raises(dagger.QueryError, match="not a directory"):
        await directory.directory("f").sync()
    with pytest.raises(dagger.QueryError, match="not a file"):
        await tree(dag, "d/f").file("d").sync()


async def test_names_of_directories(dag: dagger.Client) -> None:
    """A directory's name is its base name and a slash; that of the root is the slash."""
    directory = tree(dag, "a/b/c")

    assert await directory.directory("a/b").name() == "b/"
    assert await directory.name() == "/"


async def test_digests(dag: dagger.Client) -> None:
    """104. Equal contents have equal digests whatever made them; modes count, times do not."""
    one = dag.directory().with_new_file("f", "x")
    two = dag.directory().with_new_file("g", "y").with_new_file("f", "x").without_file("g")
    mode = dag.directory().with_new_file("f", "x", permissions=0o600)

    assert await one.digest() == await two.digest()
    assert await one.digest() != await mode.digest()
    assert await one.digest() == await one.with_timestamps(1).digest()
    assert re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", await one.digest())


async def test_digests_of_files(dag: dagger.Client) -> None:
    """105. A file's digest has its mode, unless metadata is left out."""
    files = dag.file("f", "x"), dag.file("g", "x", permissions=0o600)

    assert await files[0].digest() != await files[1].digest()
    bare = [await f.digest(exclude_metadata=True) for f in files]
    assert bare[0] == bare[1]


@pytest.mark.differs("Dagger hashes the hash once more")
async def test_the_digest_without_metadata_is_that_of_the_content(dag: dagger.Client) -> None:
    """105. It can be compared with what `sha256sum` prints."""
    expected = "sha256:" + hashlib.sha256(b"x").hexdigest()

    assert await dag.file("f", "x").digest(exclude_metadata=True) == expected


async def test_diff_has_what_the_other_adds_and_changes(dag: dagger.Client) -> None:
    """106. A difference has additions and changes, no removals; of equal directories it is empty."""
    before = tree(dag, "same", "gone", "d/same", "changed")
    after = before.without_file("gone").with_new_file("d/new", "").with_new_file("changed", "other")

    assert await before.diff(after).glob("**") == ["changed", "d/", "d/new"]
    assert await before.diff(before).entries() == []
    assert await before.directory("d").diff(after.directory("d")).entries() == ["new"]


@pytest.mark.differs("there another time is a difference")
async def test_an_equal_file_of_another_time_is_no_difference(dag: dagger.Client) -> None:
    """106. What differs in its times alone is not in a difference."""
    before, after = tree(dag, "same").with_timestamps(1), tree(dag, "same", "new").with_timestamps(2)

    assert await before.diff(after).entries() == ["new"]


async def test_find_up(dag: dagger.Client) -> None:
    """115. A name is looked for in the start and above it, never below; null when it is nowhere."""
    directory = tree(dag, "top", "a/mid", "a/b/low")

    assert await directory.find_up("low", "a/b") == "a/b/low"
    assert await directory.find_up("mid", "a/b") == "a/mid"
    assert await directory.find_up("top", "a/b") == "top"
    assert await directory.find_up("low", "a") is None
    assert await directory.find_up("top", "/a/b") == "/top"


# ---- Directory: search -----------------------------------------------------------------------


@pytest.fixture
def texts(dag: dagger.Client) -> dagger.Directory:
    """Files to search in."""
    return (
        dag.directory()
        .with_new_file("a.txt", "one\ntwo one\n")
        .with_new_file("sub/b.md", "ONE.\nend\n")
        .with_new_file(".hidden", "one\n")
        .with_new_file("ignored.log", "one\n")
        .with_new_file(".gitignore", "*.log\n")
        .with_new_file("binary", "one\0")
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pattern": "^t.o"}, [("a.txt", 2)]),
        ({"pattern": ".", "literal": True}, [(".gitignore", 1), ("sub/b.md", 1)]),
        ({"pattern": "^one$"}, [(".hidden", 1), ("a.txt", 1), ("ignored.log", 1)]),
        ({"pattern": "^one$", "skip_hidden": True}, [("a.txt", 1), ("ignored.log", 1)]),
        pytest.param(
            {"pattern": "^one$", "skip_hidden": True, "skip_ignored": True},
            [("a.txt", 1)],
            marks=pytest.mark.differs("there the rules count in a repository alone"),
        ),
        ({"pattern": "^one", "insensitive": True, "globs": ["*.md"]}, [("sub/b.md", 1)]),
        ({"pattern": "ONE.\\nend", "multiline": True}, [("sub/b.md", 1)]),
        ({"pattern": "ONE.*end", "multiline": True, "dotall": True}, [("sub/b.md", 1)]),
        ({"pattern": "one", "paths": ["a.txt"]}, [("a.txt", 1), ("a.txt", 2)]),
        ({"pattern": "one", "paths": ["a.txt"], "limit": 1}, [("a.txt", 1)]),
        ({"pattern": "nothing"}, []),
    ],
    ids=["regex", "literal", "all", "hidden", "ignored", "case", "lines", "dotall", "paths", "limit", "none"],
)
async def test_search(
    texts: dagger.Directory, options: dict[str, object], expected: list[tuple[str, int]]
) -> None:
    """116. Lines are found as ripgrep finds them; a file that is no text is passed over."""
    found = await texts.search(**options)  # type: ignore[arg-type]

    assert sorted([(await r.file_path(), await r.line_number()) for r in found]) == expected


async def test_files_that_match(texts: dagger.Directory) -> None:
    """116. With `files_only` each file is told once."""
    found = await texts.search(pattern="one", files_only=True, globs=["*.txt"])

    assert [await r.file_path() for r in found] == ["a.txt"]


async def test_what_is_told_of_a_match(texts: dagger.Directory) -> None:
    """116. A match has its line and, in bytes, where it stands there."""
    (result,) = await texts.search(pattern="two", paths=["a.txt"])
    (part,) = await result.submatches()

    assert (await result.matched_lines(), await result.absolute_offset()) == ("two one\n", 4)
    assert (await part.text(), await part.start(), await part.end()) == ("two", 0, 3)
    (in_file,) = await texts.file("a.txt").search(pattern="two")
    assert (await in_file.file_path(), await in_file.line_number()) == ("a.txt", 2)


@pytest.mark.parametrize(
    "options", [{"pattern": "x", "paths": ["../x"]}, {"pattern": "("}, {"pattern": "a\nb"}]
)
async def test_a_search_that_is_refused(texts: dagger.Directory, options: dict[str, object]) -> None:
    """116. Paths may not lead out, a pattern has to be one, and only `multiline` spans lines."""
    with pytest.raises(dagger.QueryError):
        await texts.search(**options)  # type: ignore[arg-type]


# ---- Directory: writing ----------------------------------------------------------------------


PATCH = (
    "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n"
    "diff --git a/made b/made\nnew file mode 100644\n--- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+x\n"
    "diff --git a/gone b/gone\ndeleted file mode 100644\n"
    "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
)


async def test_patches(dag: dagger.Client) -> None:
    """109. A patch changes, adds and deletes files; one that does not apply fails; an empty one is fine."""
    directory = dag.directory().with_new_file("f", "old\n").with_new_file("gone", "gone\n")

    done = directory.with_patch(PATCH)

    assert await done.entries() == ["f", "made"]
    assert await done.file("f").contents() == "new\n"
    assert await directory.with_patch_file(dag.file("p", PATCH)).file("f").contents() == "new\n"
    assert await directory.with_patch("").entries() == ["f", "gone"]
    with pytest.raises(dagger.QueryError):
        await dag.directory().with_patch(PATCH).sync()


@pytest.mark.differs("there they are for everybody to write")
async def test_modes_of_patched_files(dag: dagger.Client) -> None:
    """109. What a patch adds has the modes that git gives under the usual umask."""
    patch = (
        "diff --git a/d/x b/d/x\nnew file mode 100755\n--- /dev/null\n+++ b/d/x\n@@ -0,0 +1 @@\n+x\n"
        "diff --git a/made b/made\nnew file mode 100644\n--- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+x\n"
    )

    done = dag.directory().with_patch(patch)

    modes = [await done.stat(path).permissions() for path in ("d", "d/x", "made")]
    assert modes == [0o755, 0o755, 0o644]


async def test_timestamps(dag: dagger.Client, base: dagger.Container, tmp_path: Path) -> None:
    """110. All times are set, so that archives of equal trees are equal byte for byte."""
    one = tree(dag, "d/f", "e").with_timestamps(1_000_000_000)
    two = tree(dag, "e", "x", "d/f").without_file("x").with_timestamps(1_000_000_000)
    look = base.with_mounted_directory("/m", one).with_exec(["stat", "-c", "%Y", "/m/d", "/m/d/f"])

    assert await look.stdout() == "1000000000\n1000000000\n"
    await one.export(str(tmp_path / "one"))
    await two.export(str(tmp_path / "two"))
    assert archive_of(tmp_path / "one") == archive_of(tmp_path / "two")


@pytest.mark.differs("there what the link leads to is given the time")
async def test_timestamps_of_links(base: dagger.Container) -> None:
    """110. A link has a time of its own; what it leads to may lie elsewhere."""
    made = base.with_exec(["sh", "-c", "mkdir /d; ln -s nowhere /d/link"]).directory("/d")
    look = base.with_mounted_directory("/m", made.with_timestamps(9)).with_exec(
        ["stat", "-c", "%Y", "/m/link"]
    )

    assert await look.stdout() == "9\n"


def archive_of(folder: Path) -> bytes:
    """Return a tar archive of all below a directory."""
    target = folder.with_suffix(".tar")
    with tarfile.open(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder), recursive=False)
    return target.read_bytes()


async def test_chown(dag: dagger.Client, base: dagger.Container) -> None:
    """111. Owners change recursively, by number or by a name of the directory's own users."""
    root = base.rootfs().with_directory("x", tree(dag, "d/f"))
    look = ["sh", "-c", "stat -c '%u:%g' /x /x/d/f"]

    by_id = dag.container().with_rootfs(root.chown("x", "7:8")).with_exec(["/bin/busybox", *look])
    by_name = dag.container().with_rootfs(root.chown("x", "auser")).with_exec(["/bin/busybox", *look])

    assert await by_id.stdout() == "7:8\n7:8\n"
    assert await by_name.stdout() == "1234:1234\n1234:1234\n"
    with pytest.raises(dagger.QueryError, match="nobody-knows"):
        await root.chown("x", "nobody-knows").sync()


async def test_new_directories(dag: dagger.Client) -> None:
    """112. Parents are made; the mode is the one given, else 0644; nothing is made outside."""
    made = dag.directory().with_new_directory("a/b").with_new_directory("c", permissions=0o700)

    assert await made.glob("**") == ["a/", "a/b/", "c/"]
    assert await made.stat("a/b").permissions() == 0o644
    assert await made.stat("c").permissions() == 0o700
    assert await made.with_new_directory("c").stat("c").permissions() == 0o700
    with pytest.raises(dagger.QueryError, match="outside parent"):
        await dag.directory().with_new_directory("../x").sync()


@pytest.mark.differs("there the old file is written to: its mode stays, and a link is followed")
async def test_a_new_file_replaces_what_is_there(dag: dagger.Client) -> None:
    """A new file has the mode that is asked for, and stands in the place of a link."""
    old = dag.directory().with_new_file("f", "old", permissions=0o600).with_symlink("f", "link")

    done = old.with_new_file("f", "new", permissions=0o640).with_new_file("link", "other")

    assert await done.file("f").contents() == "new"
    assert await done.stat("f").permissions() == 0o640
    assert await done.stat("link", do_not_follow_symlinks=True).file_type() == dagger.FileType.REGULAR
    assert await done.file("link").contents() == "other"


async def test_links_in_directories(dag: dagger.Client) -> None:
    """A link has its target as given; a name that exists is refused."""
    directory = tree(dag, "d/f").with_symlink("f", "d/link")

    assert await directory.file("d/link").contents() == "d/f"
    assert await directory.exists("d/link", expected_type=dagger.ExistsType.SYMLINK_TYPE)
    with pytest.raises(dagger.QueryError, match="exists"):
        await directory.with_symlink("f", "d/link").sync()


async def test_a_name_that_is_too_long(dag: dagger.Client) -> None:
    """117. A name of 256 bytes is refused, and the limit told."""
    with pytest.raises(dagger.QueryError, match="File name length exceeds the maximum supported 255"):
        await dag.directory().with_new_file("x" * 256, "").sync()


# ---- export ----------------------------------------------------------------------------------


async def test_exporting_a_directory(dag: dagger.Client, workdir: Path, unique: str) -> None:
    """113. An export merges into what is there and tells the absolute path; `wipe` makes an exact copy."""
    directory = tree(dag, "sub/f", "run")
    target = workdir / unique
    target.mkdir()
    (target / "old").write_text("")
    (target / "sub").write_text("a file in the way")

    path = await directory.export(unique)

    assert path == str(target)
    assert sorted(os.listdir(target)) == ["old", "run", "sub"]
    assert (target / "sub" / "f").read_text() == "sub/f"
    await directory.export(str(target), wipe=True)
    assert sorted(os.listdir(target)) == ["run", "sub"]
    with pytest.raises(dagger.QueryError):
        await directory.export(str(target / "run"))


async def test_what_is_exported(dag: dagger.Client, base: dagger.Container, tmp_path: Path) -> None:
    """114. Exported files belong to the caller; modes, links and times are kept."""
    script = (
        "mkdir /o; echo > /o/run; chmod 755 /o/run; chown 5:6 /o/run; ln -s run /o/link; touch -d @9 /o/run"
    )
    directory = base.with_exec(["sh", "-c", script]).directory("/o")

    await directory.export(str(tmp_path / "new" / "out"))

    found = (tmp_path / "new" / "out" / "run").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o755, 9)
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert os.readlink(tmp_path / "new" / "out" / "link") == "run"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


async def test_exporting_a_file(dag: dagger.Client, tmp_path: Path) -> None:
    """119. A file goes to a path, or into a directory if that is allowed, and keeps its mode."""
    file = dag.file("f", "text", permissions=0o640)

    path = await file.export(str(tmp_path / "new" / "name"))

    assert path == str(tmp_path / "new" / "name")
    assert (tmp_path / "new" / "name").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "new" / "name").stat().st_mode) == 0o640
    with pytest.raises(dagger.QueryError, match="is a directory; must be a file path unless"):
        await file.export(str(tmp_path))
    await file.export(str(tmp_path), allow_parent_dir_path=True)
    assert (tmp_path / "f").read_text() == "text"


async def test_what_a_killed_export_left_is_removed(engines: Engines, tmp_path: Path) -> None:
    """113. An unfinished file of an engine that was killed is gone once the next one has started."""
    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub" / ".0011223344556677.part").write_text("half")
    notes = tmp_path / "store" / "exports"
    notes.mkdir(parents=True)
    (notes / "0011223344556677").write_text(json.dumps({"folders": [str(target)], "below": True}))

    async with engines.session() as dag:
        assert await dag.directory().entries() == []
        for _ in range(100):
            if os.listdir(target / "sub") == []:
                break
            await asyncio.sleep(0.05)

    assert os.listdir(target / "sub") == []


# ---- File ------------------------------------------------------------------------------------


async def test_lines_of_a_file(dag: dagger.Client, base: dagger.Container) -> None:
    """118. Lines can be skipped and limited; a file over 128 MiB is refused."""
    file = dag.file("f", "1\n2\n3\n")

    assert await file.contents(offset_lines=1) == "2\n3\n"
    assert await file.contents(offset_lines=1, limit_lines=1) == "2\n"
    assert await file.contents(limit_lines=0) == ""
    assert await file.contents(offset_lines=9) == ""
    large = base.with_exec(["truncate", "-s", "129M", "/tmp/large"]).file("/tmp/large")
    with pytest.raises(dagger.QueryError):
        await large.contents()


async def test_renaming(dag: dagger.Client, base: dagger.Container) -> None:
    """120. A new name counts wherever the file is put; it must not have a slash."""
    file = dag.file("a", "text").with_name("b")

    assert await file.name() == "b"
    assert await dag.directory().with_file("d/", file).glob("**") == ["d/", "d/b"]
    assert await dag.container().with_files("/d", [file]).directory("/d").entries() == ["b"]
    mounted = base.with_mounted_file("/m/", file).with_exec(["cat", "/m"])
    assert await mounted.stdout() == "text"
    with pytest.raises(dagger.QueryError):
        await file.with_name("x/y").sync()


async def test_replacing_text(dag: dagger.Client) -> None:
    """121. One place, all, or the first from a line on is replaced; none or several are errors."""
    file = dag.file("f", "a\nb\na\n", permissions=0o600)

    assert await file.with_replaced("b", "c").contents() == "a\nc\na\n"
    assert await file.with_replaced("a", "x", all=True).contents() == "x\nb\nx\n"
    assert await file.with_replaced("a", "x", first_from=2).contents() == "a\nb\nx\n"
    assert await file.with_replaced("a", "x", all=True).stat().permissions() == 0o600
    assert await file.with_replaced("z", "x", all=True).contents() == "a\nb\na\n"
    with pytest.raises(dagger.QueryError, match="search string not found"):
        await file.with_replaced("z", "").sync()
    with pytest.raises(dagger.QueryError, match=r"1.*3"):
        await file.with_replaced("a", "").sync()


async def test_the_size_of_a_large_sparse_file(base: dagger.Container) -> None:
    """122. Sizes beyond 32 bits are right."""
    done = base.with_exec(["truncate", "-s", "3G", "/tmp/big"])

    assert await done.file("/tmp/big").size() == 3 << 30
    with pytest.raises(dagger.QueryError):
        await done.file("/tmp/big").contents()


async def test_owner_and_times_of_a_file(dag: dagger.Client, base: dagger.Container) -> None:
    """A file's owner and time can be set, and what `stat` tells of it."""
    file = dag.file("f", "text").chown("7:8").with_timestamps(1_000_000_000)
    look = base.with_file("/f", file).with_exec(["stat", "-c", "%u:%g %Y", "/f"])

    assert await look.stdout() == "7:8 1000000000\n"
    told = file.stat()
    assert (await told.name(), await told.size(), await told.permissions()) == ("f", 4, 0o644)
    assert await told.file_type() == dagger.FileType.REGULAR
