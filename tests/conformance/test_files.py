"""Directories and files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import dagger
import pytest

from tests.conformance.test_mounts import tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conformance.conftest import EngineProcess

pytestmark = [pytest.mark.anyio, pytest.mark.root]


# 101
async def test_entries(dag: dagger.Client) -> None:
    directory = tree(dag, "b", "a/x", "a.txt")

    assert await directory.entries() == ["a/", "a.txt", "b"]
    assert await directory.entries(path="a") == ["x"]
    assert await dag.directory().entries() == []
    assert await dag.directory().entries(path=".") == []
    with pytest.raises(dagger.QueryError, match=r"none.*no such file or directory"):
        await directory.entries(path="none")


# 102
async def test_glob(dag: dagger.Client) -> None:
    directory = tree(dag, "a.md", "sub/b.md", "sub/deep/c.txt", ".hidden.md")

    assert await directory.glob("*.md") == [".hidden.md", "a.md"]
    assert await directory.glob("**/*.md") == [".hidden.md", "a.md", "sub/b.md"]
    assert await directory.glob("sub/**") == ["sub/b.md", "sub/deep/", "sub/deep/c.txt"]
    assert await directory.glob("*.none") == []


# 103
async def test_a_missing_directory_shows_on_evaluation(dag: dagger.Client) -> None:
    directory = tree(dag, "f")

    with pytest.raises(dagger.QueryError, match="no such file or directory"):
        await directory.directory("x").sync()
    with pytest.raises(dagger.QueryError, match="not a directory"):
        await directory.directory("f").sync()
    with pytest.raises(dagger.QueryError, match="not a file"):
        await tree(dag, "d/f").file("d").sync()


# 104, 105
async def test_digests(dag: dagger.Client) -> None:
    one = dag.directory().with_new_file("f", "x")
    two = dag.directory().with_new_file("g", "y").with_new_file("f", "x").without_file("g")
    mode = dag.directory().with_new_file("f", "x", permissions=0o600)

    assert await one.digest() == await two.digest()
    assert await one.digest() != await mode.digest()
    assert await one.digest() == await one.with_timestamps(1).digest()
    files = one.file("f"), mode.file("f")
    assert await files[0].digest() != await files[1].digest()
    bare = [await f.digest(exclude_metadata=True) for f in files]
    assert bare[0] == bare[1]


# 106
async def test_diff_has_what_the_other_adds_and_changes(dag: dagger.Client) -> None:
    before = tree(dag, "same", "gone", "d/same", "changed")
    after = tree(dag, "same", "d/same", "d/new").with_new_file("changed", "other")

    assert await before.diff(after).glob("**") == ["changed", "d/", "d/new"]
    assert await before.diff(before).entries() == []
    assert await before.directory("d").diff(after.directory("d")).entries() == ["new"]


# 107
async def test_changes(dag: dagger.Client) -> None:
    before = tree(dag, "same", "gone/a", "gone/b").with_new_file("edited", "1\n2\n")
    after = tree(dag, "same", "made/x").with_new_file("edited", "1\n3\n4\n")

    changes = after.changes(before)

    assert await changes.added_paths() == ["made/", "made/x"]
    assert await changes.modified_paths() == ["edited"]
    assert await changes.removed_paths() == ["gone/"]
    assert await changes.is_empty() is False
    assert await after.changes(after).is_empty() is True
    assert await changes.layer().glob("**") == ["edited", "made/", "made/x"]
    edited = {await s.path(): s for s in await changes.diff_stats()}["edited"]
    assert (await edited.added_lines(), await edited.removed_lines()) == (2, 1)
    assert await edited.kind() == dagger.DiffStatKind.MODIFIED
    patch = await changes.as_patch().contents()
    assert await before.with_patch(patch).file("edited").contents() == "1\n3\n4\n"


# 108
async def test_changes_apply_to_another_base(dag: dagger.Client) -> None:
    changes = tree(dag, "a", "new").changes(tree(dag, "a", "gone"))

    done = tree(dag, "gone", "other").with_changes(changes)

    assert await done.entries() == ["new", "other"]


# 109
async def test_patches(dag: dagger.Client) -> None:
    patch = (
        "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n"
        "diff --git a/made b/made\nnew file mode 100644\n--- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+x\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n"
        "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
    )
    directory = dag.directory().with_new_file("f", "old\n").with_new_file("gone", "gone\n")

    done = directory.with_patch(patch)

    assert await done.entries() == ["f", "made"]
    assert await done.file("f").contents() == "new\n"
    assert await directory.with_patch_file(dag.file("p", patch)).file("f").contents() == "new\n"
    assert await directory.with_patch("").entries() == ["f", "gone"]
    with pytest.raises(dagger.QueryError):
        await dag.directory().with_patch(patch).sync()


# 110
async def test_timestamps(dag: dagger.Client, base: dagger.Container) -> None:
    stamped = tree(dag, "d/f").with_timestamps(1_000_000_000)
    look = base.with_mounted_directory("/m", stamped).with_exec(["stat", "-c", "%Y", "/m/d", "/m/d/f"])

    assert await look.stdout() == "1000000000\n1000000000\n"


# 111
async def test_chown(dag: dagger.Client, base: dagger.Container) -> None:
    root = base.rootfs().with_directory("x", tree(dag, "d/f"))
    look = ["sh", "-c", "stat -c '%u:%g' /x /x/d/f"]

    by_id = dag.container().with_rootfs(root.chown("x", "7:8")).with_exec(["/bin/busybox", *look])
    by_name = dag.container().with_rootfs(root.chown("x", "auser")).with_exec(["/bin/busybox", *look])

    assert await by_id.stdout() == "7:8\n7:8\n"
    assert await by_name.stdout() == "1234:1234\n1234:1234\n"


# 112
async def test_new_directories(dag: dagger.Client) -> None:
    made = dag.directory().with_new_directory("a/b").with_new_directory("c", permissions=0o700)

    assert await made.glob("**") == ["a/", "a/b/", "c/"]
    assert await made.stat("a/b").permissions() == 0o644
    assert await made.stat("c").permissions() == 0o700
    with pytest.raises(dagger.QueryError, match="outside parent"):
        await dag.directory().with_new_directory("../x").sync()


# 113, 114
async def test_exporting_a_directory(dag: dagger.Client, workdir: Path, unique: str) -> None:
    directory = tree(dag, "sub/f").with_new_file("run", "", permissions=0o755).with_symlink("run", "link")
    target = workdir / unique
    target.mkdir()
    (target / "old").write_text("")

    path = await directory.with_timestamps(1_000_000_000).export(unique)

    assert path == str(target)
    assert sorted(os.listdir(target)) == ["link", "old", "run", "sub"]
    assert os.readlink(target / "link") == "run"
    found = (target / "run").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o755, os.getuid(), 1_000_000_000)
    await directory.export(str(target), wipe=True)
    assert sorted(os.listdir(target)) == ["link", "run", "sub"]
    with pytest.raises(dagger.QueryError):
        await directory.export(str(target / "run"))


# 115
async def test_find_up(dag: dagger.Client) -> None:
    directory = tree(dag, "top", "a/mid", "a/b/low")

    assert await directory.find_up("low", "a/b") == "a/b/low"
    assert await directory.find_up("mid", "a/b") == "a/mid"
    assert await directory.find_up("top", "a/b") == "top"
    assert await directory.find_up("low", "a") is None


# 116
async def test_search(dag: dagger.Client) -> None:
    directory = (
        dag.directory()
        .with_new_file("a.txt", "one\ntwo one\n")
        .with_new_file("sub/b.md", "ONE.\n")
        .with_new_file(".hidden", "one\n")
    )

    async def hits(**options: object) -> list[tuple[str, int]]:
        found = await directory.search(**options)  # type: ignore[arg-type]
        return [(await r.file_path(), await r.line_number()) for r in found]

    assert await hits(pattern="one", skip_hidden=True) == [("a.txt", 1), ("a.txt", 2)]
    assert await hits(pattern="one", skip_hidden=True, insensitive=True, limit=10) == [
        ("a.txt", 1),
        ("a.txt", 2),
        ("sub/b.md", 1),
    ]
    assert await hits(pattern="^t.o", globs=["*.txt"]) == [("a.txt", 2)]
    assert await hits(pattern=".", literal=True) == [("sub/b.md", 1)]
    assert await hits(pattern="one", paths=["a.txt"], limit=1) == [("a.txt", 1)]
    (result,) = await directory.search(pattern="two", paths=["a.txt"])
    (part,) = await result.submatches()
    assert (await result.matched_lines(), await part.text(), await part.start(), await part.end()) == (
        "two one\n",
        "two",
        0,
        3,
    )
    with pytest.raises(dagger.QueryError):
        await directory.search(pattern="one", paths=["../x"])


# 117
async def test_a_name_that_is_too_long(dag: dagger.Client) -> None:
    with pytest.raises(dagger.QueryError, match="File name length exceeds the maximum supported 255"):
        await dag.directory().with_new_file("x" * 256, "").sync()


# 118
async def test_lines_of_a_file(dag: dagger.Client) -> None:
    file = dag.file("f", "1\n2\n3\n")

    assert await file.contents(offset_lines=1) == "2\n3\n"
    assert await file.contents(offset_lines=1, limit_lines=1) == "2\n"
    assert await file.contents(limit_lines=0) == ""
    assert await file.contents(offset_lines=9) == ""


# 119
async def test_exporting_a_file(dag: dagger.Client, tmp_path: Path) -> None:
    file = dag.file("f", "text", permissions=0o640)

    path = await file.export(str(tmp_path / "new" / "name"))

    assert path == str(tmp_path / "new" / "name")
    assert (tmp_path / "new" / "name").read_text() == "text"
    assert stat.S_IMODE((tmp_path / "new" / "name").stat().st_mode) == 0o640
    with pytest.raises(dagger.QueryError, match="is a directory"):
        await file.export(str(tmp_path))
    await file.export(str(tmp_path), allow_parent_dir_path=True)
    assert (tmp_path / "f").read_text() == "text"


# 120
async def test_renaming(dag: dagger.Client) -> None:
    file = dag.file("a", "text").with_name("b")

    assert await file.name() == "b"
    assert await dag.directory().with_file("d/", file).glob("**") == ["d/", "d/b"]
    with pytest.raises(dagger.QueryError):
        await file.with_name("x/y").sync()


# 121
async def test_replacing_text(dag: dagger.Client) -> None:
    file = dag.file("f", "a\nb\na\n", permissions=0o600)

    assert await file.with_replaced("b", "c").contents() == "a\nc\na\n"
    assert await file.with_replaced("a", "x", all=True).contents() == "x\nb\nx\n"
    assert await file.with_replaced("a", "x", first_from=2).contents() == "a\nb\nx\n"
    assert await file.with_replaced("a", "x", all=True).stat().permissions() == 0o600
    with pytest.raises(dagger.QueryError, match="search string not found"):
        await file.with_replaced("z", "").sync()
    with pytest.raises(dagger.QueryError, match="1"):
        await file.with_replaced("a", "").sync()


# 122
async def test_the_size_of_a_large_sparse_file(base: dagger.Container) -> None:
    done = base.with_exec(["truncate", "-s", "3G", "/tmp/big"])

    assert await done.file("/tmp/big").size() == 3 << 30
    with pytest.raises(dagger.QueryError):
        await done.file("/tmp/big").contents()


async def test_env_files(dag: dagger.Client) -> None:
    file = dag.env_file().with_variable("A", "1").with_variable("B", "${A}2").with_variable("P_X", "y")

    assert await file.get("B") == "12"
    assert await file.get("B", raw=True) == "${A}2"
    assert await file.exists("C") is False
    assert [(await v.name(), await v.value()) for v in await file.namespace("P").variables()] in (
        [("X", "y")],
        [("x", "y")],
    )
    assert await dag.file(".env", "# note\nX='$A'\n").as_env_file().get("X") == "$A"
    assert await dag.container().with_env_file_variables(file).env_variable("B") == "12"


async def test_json_values(dag: dagger.Client) -> None:
    value = dag.file("j", '{"a": {"b": [1, "x", true]}}').as_json()

    items = await value.field(["a", "b"]).as_array()

    assert await items[0].as_integer() == 1
    assert await items[1].as_string() == "x"
    assert await items[2].as_boolean() is True
    assert await value.fields() == ["a"]
    changed = value.with_field(["a", "c"], dag.json().new_string("new"))
    assert await changed.field(["a", "c"]).contents() == '"new"'


# 123, 124
async def test_host_paths(dag: dagger.Client, workdir: Path, unique: str) -> None:
    (workdir / unique / "in").mkdir(parents=True)
    (workdir / unique / "in" / "f").write_text("1")

    assert await dag.host().directory(f"./{unique}/in").entries() == ["f"]
    assert await dag.host().directory(f"{unique}/in/../in").entries() == ["f"]
    assert unique + "/" in await dag.host().directory(".").entries()
    (workdir / unique / "in" / "g").write_text("2")
    assert await dag.host().directory(f"{unique}/in").entries() == ["f"]
    assert await dag.host().directory(f"{unique}/in", no_cache=True).entries() == ["f", "g"]
    with pytest.raises(dagger.QueryError, match="none"):
        await dag.host().directory("./none").id()


# 125
async def test_what_comes_from_the_host(dag: dagger.Client, base: dagger.Container, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    (tmp_path / "f").chmod(0o4711)
    os.chown(tmp_path / "f", 5, 6)
    (tmp_path / "f").chmod(0o4711)
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo")

    directory = dag.host().directory(str(tmp_path))
    look = base.with_mounted_directory("/m", directory).with_exec(
        ["sh", "-c", "cd /m; stat -c '%n %a %u:%g %F' *"]
    )

    assert await look.stdout() == "f 4711 0:0 regular empty file\nlink 777 0:0 symbolic link\n"


# 126, 128
async def test_only_what_is_included_is_read(dag: dagger.Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "we[i]rd*").write_text("w")

    assert await dag.host().directory(str(tmp_path), include=["a"]).entries() == ["a"]
    assert await dag.host().file(str(tmp_path / "a")).contents() == "a"
    assert await dag.host().file(str(tmp_path / "we[i]rd*")).contents() == "w"


# 129
async def test_finding_upwards_on_the_host(dag: dagger.Client, workdir: Path, unique: str) -> None:
    (workdir.parent / unique).write_text("")

    assert await dag.host().find_up(unique) == f"../{unique}"
    assert await dag.host().find_up(f"none-{unique}") is None


# 130, 131, 135
async def test_secrets(dag: dagger.Client, embedded: EngineProcess, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("from a file\n")

    named = dag.set_secret("conformance-130", "one")
    assert (await named.name(), await named.plaintext(), await named.uri()) == ("conformance-130", "one", "")
    dag_file = dag.secret(f"file://{tmp_path}/s")
    assert await dag_file.plaintext() == "from a file\n"
    assert await dag_file.uri() == f"file://{tmp_path}/s"
    (tmp_path / "s").write_text("changed")
    assert await dag_file.plaintext() == "changed"
    assert await dag.secret("cmd://echo hi").plaintext() == "hi\n"
    assert await dag.secret("env://PATH").plaintext()
    with pytest.raises(dagger.QueryError, match=r'secret env var not found: "NOT\.\.\."'):
        await dag.secret("env://NOT_SET_ANYWHERE").plaintext()
    with pytest.raises(dagger.QueryError, match="unsupported secret provider"):
        await dag.secret("nope://x").id()
