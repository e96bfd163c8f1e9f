"""Unpacking archives into trees: every usual compression, attributes kept, nothing outside."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
import zstandard

from pipeline.engine import actions, edit, ops
from pipeline.engine.edit import EditFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.root


def _member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mtime = 1000
    content = b""
    for key, value in more.items():
        if key == "content":
            content = value if isinstance(value, bytes) else b""
        else:
            setattr(info, key, value)
    info.size = len(content)
    return info, content


def _archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _unpack(tmp_path: Path, data: bytes, path: str = "/", owner: str = "") -> Path:
    source, root = tmp_path / "source", tmp_path / "root"
    source.mkdir(exist_ok=True)
    root.mkdir(exist_ok=True)
    (source / "archive").write_bytes(data)
    action = actions.Unpack(source=ops.Scratch(), source_path="archive", path=path, owner=owner)
    edit.apply(action, root, lambda _tree: source)
    return root


@pytest.mark.parametrize(
    "compress",
    [
        pytest.param(bytes, id="none"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(bz2.compress, id="bzip2"),
        pytest.param(lzma.compress, id="xz"),
        pytest.param(zstandard.compress, id="zstd"),
    ],
)
def test_every_usual_compression_is_unpacked(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """It is known by its first bytes, not by its name."""
    data = compress(_archive(_member("dir/file", content=b"text" * 50_000)))

    root = _unpack(tmp_path, data, "/a/b")

    assert (root / "a/b/dir/file").read_bytes() == b"text" * 50_000
    assert edit.is_archive(os.fspath(tmp_path / "source/archive")) is True


def test_attributes_links_and_devices_are_kept(tmp_path: Path) -> None:
    """Owners, modes, times, extended attributes; directories keep their times too."""
    file = _member("dir/file", content=b"x", mode=0o4755, uid=5, gid=6)
    file[0].pax_headers = {"SCHILY.xattr.user.note": "1", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    root = _unpack(
        tmp_path,
        _archive(
            _member("dir", tarfile.DIRTYPE, mode=0o750),
            file,
            _member("dir/same", tarfile.LNKTYPE, linkname="dir/file"),
            _member("dir/link", tarfile.SYMTYPE, linkname="/etc/passwd", uid=7),
            _member("pipe", tarfile.FIFOTYPE, mode=0o640),
            _member("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        ),
    )

    info = (root / "dir/file").stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_mtime) == (5, 6, 0o4755, 1000)
    assert (info.st_ino, os.listxattr(root / "dir/file")) == (
        (root / "dir/same").stat().st_ino,
        ["user.note"],
    )
    assert ((root / "dir").stat().st_mtime, stat.S_IMODE((root / "dir").stat().st_mode)) == (1000, 0o750)
    assert (os.readlink(root / "dir/link"), (root / "dir/link").lstat().st_uid) == ("/etc/passwd", 7)
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)


def test_an_owner_replaces_the_archives(tmp_path: Path) -> None:
    """For everything in it, and the directory it is unpacked into."""
    root = _unpack(tmp_path, _archive(_member("dir/file", uid=5, gid=6)), "/made", "8:9")

    found = {(p.stat().st_uid, p.stat().st_gid) for p in (root / "made", root / "made/dir/file")}
    assert found == {(8, 9)}


def test_entries_replace_what_is_in_their_way(tmp_path: Path) -> None:
    """A directory replaces a file, a file a directory; directories are merged."""
    root = tmp_path / "root"
    (root / "turned").mkdir(parents=True)
    (root / "turned/old").write_text("old")
    (root / "grown").write_text("old")
    (root / "dir").mkdir()
    (root / "dir/old").write_text("old")

    _unpack(
        tmp_path,
        _archive(
            _member("turned", content=b"a file"),
            _member("grown", tarfile.DIRTYPE, mode=0o755),
            _member("grown/new"),
            _member("dir", tarfile.DIRTYPE, mode=0o755),
            _member("dir/new"),
        ),
    )

    assert (root / "turned").read_text() == "a file"
    assert (os.listdir(root / "grown"), sorted(os.listdir(root / "dir"))) == (["new"], ["new", "old"])


@pytest.mark.parametrize("name", ["../out", "a/../../out"], ids=["above", "through"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    """As entries and as targets of hard links."""
    (tmp_path / "out").write_text("untouched")

    with pytest.raises(EditFailed, match="the entry leads out of the directory"):
        _unpack(tmp_path, _archive(_member(name, content=b"bad")))
    with pytest.raises(EditFailed, match="the entry leads out of the directory"):
        _unpack(tmp_path, _archive(_member("hard", tarfile.LNKTYPE, linkname=name)))

    assert (tmp_path / "out").read_text() == "untouched"


def test_links_in_the_archive_lead_no_further_than_the_root(tmp_path: Path) -> None:
    """Absolute names and links start at the root of the tree; files behind them are never the host's."""
    (tmp_path / "out").mkdir()

    root = _unpack(
        tmp_path,
        _archive(
            _member("up", tarfile.SYMTYPE, linkname="../../../../out"),
            _member("up/one", content=b"1"),
            _member("abs", tarfile.SYMTYPE, linkname=os.fspath(tmp_path / "out")),
            _member("abs/two", content=b"2"),
            _member("/top", content=b"3"),
            _member("swap", tarfile.DIRTYPE, mode=0o755),
            _member("swap/first", content=b"4"),
            _member("swap/first", tarfile.SYMTYPE, linkname="/../../out"),
            _member("swap/first/five", content=b"5"),
        ),
    )

    assert os.listdir(tmp_path / "out") == []
    assert (root / "out/one").read_text() == "1"
    assert (root / os.fspath(tmp_path / "out/two").lstrip("/")).read_text() == "2"
    assert ((root / "top").read_text(), (root / "out/five").read_text()) == ("3", "5")


def test_times_are_not_set_behind_links_that_replaced_a_directory(tmp_path: Path) -> None:
    """The directory of the host that the link names keeps its time."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    before = (outside / "dir").stat().st_mtime_ns

    _unpack(
        tmp_path,
        _archive(
            _member("swap", tarfile.DIRTYPE, mode=0o755),
            _member("swap/dir", tarfile.DIRTYPE, mode=0o755),
            _member("swap", tarfile.SYMTYPE, linkname=os.fspath(outside)),
        ),
    )

    assert (outside / "dir").stat().st_mtime_ns == before


_IN_A_USER_NAMESPACE = """
import os, sys
from pipeline.engine.unpack import unpack
unpack(sys.argv[1], sys.argv[2], "/")
print(sorted(os.listdir(sys.argv[2])))
"""


def test_devices_are_left_out_in_a_user_namespace(tmp_path: Path) -> None:
    """The kernel lets nobody make them there; links to them are left out too."""
    archive, root = tmp_path / "archive", tmp_path / "root"
    root.mkdir()
    null = _member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    archive.write_bytes(_archive(null, _member("link", tarfile.LNKTYPE, linkname="null"), _member("file")))
    argv = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _IN_A_USER_NAMESPACE]

    done = subprocess.run([*argv, archive, root], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "['file']\n"), done.stderr


NOISE = _archive(_member("a", content=os.urandom(60_000)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"just some text" * 100, id="text"),
        pytest.param(gzip.compress(b"just some text"), id="compressed text"),
        pytest.param(gzip.compress(NOISE)[:-30_000], id="cut gzip"),
        pytest.param(lzma.compress(NOISE)[:-30_000], id="cut xz"),
        pytest.param(bz2.compress(NOISE)[:-30_000], id="cut bzip2"),
        pytest.param(zstandard.compress(NOISE)[:-30_000], id="cut zstd"),
        pytest.param(NOISE[:-30_000], id="cut tar"),
    ],
)
def test_what_is_no_good_archive_is_an_error(tmp_path: Path, data: bytes) -> None:
    """The archive is named."""
    with pytest.raises(EditFailed, match="cannot unpack `archive`: not a good tar archive"):
        _unpack(tmp_path, data)


@pytest.mark.parametrize("data", [b"", b"text" * 500, gzip.compress(b"text")], ids=["empty", "text", "gzip"])
def test_other_files_are_told_from_archives(tmp_path: Path, data: bytes) -> None:
    """So that a caller can copy them as they are."""
    (tmp_path / "file").write_bytes(data)

    assert edit.is_archive(os.fspath(tmp_path / "file")) is False
