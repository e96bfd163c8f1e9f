"""Host directories: what comes along, what is remembered, and what a second look costs."""

# ruff: noqa: ASYNC251, S103 - the disk is what is tested

from __future__ import annotations

import os
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.actions import Filters
from pipeline.engine.sources.host import HostDirectories, HostPathFailed, LoadedFile
from pipeline.engine.sources.importing import ImportFailed, TreeImport
from pipeline.engine.sources.statcache import Remembered, see
from pipeline.engine.treehash import content_digest
from pipeline.engine.walk import walk
from tests.engine.sources_helpers import listing, open_store, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.store import Store

pytestmark = [pytest.mark.anyio, pytest.mark.root]

LONG_AGO_NS = 1_600_000_000 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work/src/deep").mkdir(parents=True)
    (tmp_path / "work/src/a.py").write_text("a")
    (tmp_path / "work/src/deep/b.py").write_text("b")
    (tmp_path / "work/note.md").write_text("note")
    return tmp_path / "work"


@pytest.fixture
def host(store: Store, work: Path) -> HostDirectories:
    return HostDirectories(store, work)


async def test_the_tree_is_in_the_store_under_its_content_digest(store: Store, host: HostDirectories) -> None:
    content = await host.load(".", Filters())

    assert listing(store, content) == {
        "note.md": "note", "src": "/", "src/a.py": "a", "src/deep": "/", "src/deep/b.py": "b",
    }  # fmt: skip
    with tree(store, content) as root:
        assert content_digest(root) == content


async def test_equal_content_at_another_path_has_the_same_digest(
    store: Store, host: HostDirectories, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "a.py").write_text("a")
    (other / "deep").mkdir()
    (other / "deep/b.py").write_text("b")

    assert await host.load("src", Filters()) == await host.load(os.fspath(other), Filters())


async def test_modes_times_and_links_are_kept_and_owners_are_root(
    store: Store, host: HostDirectories, work: Path
) -> None:
    os.chmod(work / "note.md", 0o4750)
    os.chmod(work / "src", 0o1711)
    os.chown(work / "note.md", 1234, 1234)
    os.chmod(work / "note.md", 0o4750)
    os.utime(work / "note.md", ns=(LONG_AGO_NS, LONG_AGO_NS))
    os.utime(work / "src", ns=(LONG_AGO_NS, LONG_AGO_NS + 5))
    os.symlink("/etc/passwd", work / "link")

    content = await host.load(".", Filters())

    with tree(store, content) as root:
        note, src, link = (os.lstat(root / name) for name in ("note.md", "src", "link"))
        target = os.readlink(root / "link")
    assert (stat.S_IMODE(note.st_mode), note.st_mtime_ns) == (0o4750, LONG_AGO_NS)
    assert (stat.S_IMODE(src.st_mode), src.st_mtime_ns) == (0o1711, LONG_AGO_NS + 5)
    assert target == "/etc/passwd"
    assert {(info.st_uid, info.st_gid) for info in (note, src, link)} == {(0, 0)}


async def test_fifos_sockets_and_devices_are_left_out_and_hard_links_stay_linked(
    store: Store, host: HostDirectories, work: Path
) -> None:
    os.mkfifo(work / "pipe")
    os.mknod(work / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.link(work / "note.md", work / "second.md")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(work / "sock"))

        content = await host.load(".", Filters(exclude=("src",)))

    assert listing(store, content) == {"note.md": "note", "second.md": "note"}
    with tree(store, content) as root:
        assert os.lstat(root / "note.md").st_ino == os.lstat(root / "second.md").st_ino


async def test_filters_choose_and_patterns_that_lead_out_are_ignored(
    store: Store, host: HostDirectories
) -> None:
    content = await host.load(".", Filters(include=("**/*.py", "/etc", "../x"), exclude=("src/deep", "/src")))

    assert listing(store, content) == {"src": "/", "src/a.py": "a"}


async def test_ignore_files_of_the_repository_above_apply_and_come_along(
    store: Store, host: HostDirectories, work: Path
) -> None:
    (work / ".git").mkdir()
    (work / ".gitignore").write_text("b.py\n")
    (work / "src/.gitignore").write_text("nothing\n")

    content = await host.load("src", Filters(include=("**/*.py",), gitignore=True))

    assert listing(store, content) == {".gitignore": "nothing\n", "a.py": "a"}


async def test_the_same_call_gives_the_first_answer_until_a_new_look_is_asked_for(
    host: HostDirectories, store: Store, work: Path
) -> None:
    first = await host.load(".", Filters())
    (work / "note.md").write_text("changed")

    again = await host.load(".", Filters())
    anew = await host.load(".", Filters(), no_cache=True)
    later = await host.load(".", Filters())

    assert again == first
    assert listing(store, anew)["note.md"] == "changed"
    assert later == anew


async def test_a_new_session_sees_what_changed(store: Store, work: Path) -> None:
    for path in (work / "note.md", work / "src/a.py", work / "src/deep/b.py"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    first = await HostDirectories(store, work).load(".", Filters())
    (work / "src/a.py").write_text("A")
    (work / "note.md").unlink()
    os.chmod(work / "src/deep/b.py", 0o600)

    second = await HostDirectories(store, work).load(".", Filters())

    assert second != first
    assert listing(store, second) == {"src": "/", "src/a.py": "A", "src/deep": "/", "src/deep/b.py": "b"}
    with tree(store, second) as root:
        assert content_digest(root) == second


async def test_an_edit_in_the_same_second_with_the_same_size_is_noticed(store: Store, work: Path) -> None:
    """Times may be too coarse to tell two writes apart, so fresh files are read again."""
    seen: list[str] = []

    for text in ("one", "two", "six"):
        (work / "note.md").write_text(text)
        os.utime(work / "note.md", ns=(LONG_AGO_NS, LONG_AGO_NS))
        content = await HostDirectories(store, work).load(".", Filters())
        seen.append(listing(store, content)["note.md"])

    assert seen == ["one", "two", "six"]


async def test_unchanged_files_are_linked_from_the_last_import(store: Store, work: Path) -> None:
    """Once they are old enough to be trusted, only the changed one is copied."""
    await HostDirectories(store, work).load(".", Filters())
    time.sleep(2.1)
    first = await HostDirectories(store, work).load(".", Filters(), no_cache=True)
    (work / "note.md").write_text("changed")

    second = await HostDirectories(store, work).load(".", Filters())

    with tree(store, first) as one, tree(store, second) as two:
        assert os.lstat(one / "src/a.py").st_ino == os.lstat(two / "src/a.py").st_ino
        assert os.lstat(one / "note.md").st_ino != os.lstat(two / "note.md").st_ino
        assert content_digest(two) == second


async def test_a_tree_that_the_store_lost_is_imported_again(store: Store, work: Path) -> None:
    time.sleep(2.1)
    first = await HostDirectories(store, work).load(".", Filters())
    snapshot = store.index.find_content(first)
    assert snapshot is not None
    store.index.save_content(first, store.snapshots.empty)
    lost = store.snapshots.changes(snapshot)
    lost.rename(lost.with_name("gone"))
    store.snapshots.forget([snapshot.id])
    store.index.save_content(first, snapshot)

    again = await HostDirectories(store, work).load(".", Filters())

    assert again == first
    assert listing(store, again)["src/a.py"] == "a"


async def test_damaged_memory_means_reading_again(store: Store, work: Path) -> None:
    first = await HostDirectories(store, work).load(".", Filters())
    for file in (store.root / "host").iterdir():
        file.write_text('{"files": [1, [2]')

    assert await HostDirectories(store, work).load(".", Filters()) == first


async def test_names_that_are_no_utf_8_survive(store: Store, host: HostDirectories, work: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (work / name).write_text("x")

    content = await host.load(".", Filters(include=("caf*",)))
    again = await HostDirectories(store, work).load(".", Filters(include=("caf*",)))

    assert listing(store, content) == {name: "x"}
    assert again == content


async def test_an_empty_directory_is_the_empty_tree(store: Store, host: HostDirectories, work: Path) -> None:
    content = await host.load(".", Filters(include=("nothing",)))

    assert store.index.find_content(content) == store.snapshots.empty


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent", "cannot load `absent` from the host: {work}/absent: no such file or directory"),
        ("note.md", "cannot load `note.md` from the host: {work}/note.md: not a directory"),
    ],
)
async def test_a_path_that_is_no_directory_is_an_error(
    host: HostDirectories, work: Path, path: str, message: str
) -> None:
    with pytest.raises(HostPathFailed) as caught:
        await host.load(path, Filters())

    assert str(caught.value) == message.format(work=work)


async def test_paths_may_be_absolute_above_or_at_home(
    store: Store, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", os.fspath(work))
    host = HostDirectories(store, work / "src")

    loaded = [
        await host.load(path, Filters(include=("note.md",))) for path in ("..", os.fspath(work), "~", "../")
    ]

    assert len(set(loaded)) == 1
    assert listing(store, loaded[0]) == {"note.md": "note"}


async def test_one_file_is_read_without_its_directory(
    store: Store, host: HostDirectories, work: Path
) -> None:
    """A sibling that nobody could read does no harm."""
    os.symlink("note.md", work / "link.md")
    before = work.stat().st_atime_ns

    loaded = await host.load_file("note.md")
    through_link = await host.load_file("link.md")

    assert loaded == LoadedFile(content=loaded.content, name="note.md")
    assert listing(store, loaded.content) == {"note.md": "note"}
    assert listing(store, through_link.content) == {"link.md": "note"}
    assert work.stat().st_atime_ns == before
    with pytest.raises(HostPathFailed, match=r"src: not a file$"):
        await host.load_file("src")
    with pytest.raises(HostPathFailed, match=r"absent: no such file or directory$"):
        await host.load_file("absent")


async def test_a_file_that_vanishes_after_the_walk_is_left_out(store: Store, work: Path) -> None:
    found = see(walk(work, Filters()))
    (work / "note.md").unlink()

    imported = TreeImport(store, work, Remembered()).run(found)

    assert listing(store, imported.content) == {
        "src": "/", "src/a.py": "a", "src/deep": "/", "src/deep/b.py": "b",
    }  # fmt: skip
    assert imported.is_steady is False


async def test_a_file_that_became_something_else_is_an_error(store: Store, work: Path) -> None:
    found = see(walk(work, Filters()))
    (work / "note.md").unlink()
    os.mkfifo(work / "note.md")

    with pytest.raises(ImportFailed, match=r"note\.md: it was replaced while being read$"):
        TreeImport(store, work, Remembered()).run(found)


async def test_large_files_are_whole(store: Store, host: HostDirectories, work: Path) -> None:
    """Files of many sizes around the limits of a read, and one with a hole."""
    sizes = [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20 + 7]
    for size in sizes:
        (work / f"f{size}").write_bytes(os.urandom(size))
    with open(work / "sparse", "wb") as stream:
        stream.seek(3 * 2**20)
        stream.write(b"end")

    content = await host.load(".", Filters())

    with tree(store, content) as root:
        assert content_digest(root) == content
        for name in [*(f"f{size}" for size in sizes), "sparse"]:
            assert (root / name).read_bytes() == (work / name).read_bytes()


async def test_a_name_is_found_upwards(store: Store, work: Path) -> None:
    host = HostDirectories(store, work / "src/deep")

    assert host.find_up("b.py") == "b.py"
    assert host.find_up("note.md") == "../../note.md"
    assert host.find_up("no-such-name-anywhere") is None
