"""The content digest of a tree: what changes it and what does not."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.treehash import TreeEntry, content_digest, digest_entries, entries

if TYPE_CHECKING:
    from collections.abc import Callable


def _tree(root: Path) -> Path:
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_text("content")
    (root / "empty").mkdir()
    (root / "link").symlink_to("dir/file")
    for path in (root / "dir", root / "empty"):
        path.chmod(0o755)
    (root / "dir" / "file").chmod(0o644)
    return root


def test_equal_trees_have_equal_digests_whatever_their_times(tmp_path: Path) -> None:
    """Times, hard links, sockets and the root's own mode do not count."""
    one, two = _tree(tmp_path / "one"), _tree(tmp_path / "two")
    os.utime(two / "dir" / "file", (1, 1))
    two.chmod(0o700)
    os.link(two / "dir" / "file", tmp_path / "other name")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(two / "socket"))

    assert content_digest(one) == content_digest(two)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: (root / "dir/file").write_text("other"), id="content"),
        pytest.param(lambda root: (root / "dir/file").chmod(0o755), id="mode"),
        pytest.param(lambda root: (root / "dir/file").rename(root / "dir/renamed"), id="name"),
        pytest.param(lambda root: (root / "new").mkdir(), id="an empty directory"),
        pytest.param(lambda root: (root / "empty").rmdir(), id="a removal"),
        pytest.param(
            lambda root: ((root / "link").unlink(), (root / "link").symlink_to("dir")), id="link target"
        ),
        pytest.param(lambda root: os.setxattr(root / "dir/file", "user.a", b"1"), id="extended attribute"),
        pytest.param(lambda root: os.mkfifo(root / "pipe"), id="a pipe"),
        pytest.param(lambda root: os.chown(root / "dir/file", 1, 2), id="owner", marks=pytest.mark.root),
    ],
)
def test_every_difference_that_counts_changes_the_digest(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """Each of these is seen by a process that reads the tree."""
    root = _tree(tmp_path / "tree")
    before = content_digest(root)

    change(root)

    assert content_digest(root) != before


def test_a_manifest_gives_the_digest_of_the_tree_it_describes(tmp_path: Path) -> None:
    """Who knows the files' hashes already need not read them; the order is free."""
    root = _tree(tmp_path / "tree")
    uid, gid = os.getuid(), os.getgid()
    manifest = [
        TreeEntry(path="link", kind="symlink", mode=0, uid=uid, gid=gid, link="dir/file"),
        TreeEntry(
            path="dir/file",
            kind="file",
            mode=0o644,
            uid=uid,
            gid=gid,
            sha256=hashlib.sha256(b"content").hexdigest(),
        ),
        TreeEntry(path="empty", kind="directory", mode=0o755, uid=uid, gid=gid),
        TreeEntry(path="dir", kind="directory", mode=0o755, uid=uid, gid=gid),
    ]

    assert digest_entries(manifest) == content_digest(root)


def test_names_that_are_no_text_are_kept_apart(tmp_path: Path) -> None:
    """Two undecodable names give two digests."""
    digests = set()
    for name in (b"\xff", b"\xfe"):
        root = tmp_path / name.hex()
        root.mkdir()
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_text("")
        digests.add(content_digest(root))

    assert len(digests) == 2


def test_large_files_are_hashed_whole(tmp_path: Path) -> None:
    """A change behind the first block is seen."""
    (tmp_path / "large").write_bytes(bytes(1 << 20) + b"end")

    found = list(entries(tmp_path))

    assert [entry.sha256 for entry in found] == [hashlib.sha256(bytes(1 << 20) + b"end").hexdigest()]


def test_four_thousand_small_files_are_hashed_in_a_blink(tmp_path: Path) -> None:
    """The digest of a source tree is wanted at every run; measured in time of the processor."""
    for number in range(4000):
        if number % 100 == 0:
            (tmp_path / str(number)).mkdir()
        (tmp_path / str(number - number % 100) / f"{number}.py").write_text(f"value = {number}\n" * 20)

    times = []
    for _attempt in range(3):
        began = time.process_time()
        content_digest(tmp_path)
        times.append(time.process_time() - began)

    assert min(times) < 0.6
