"""Source distributions: the same content gives the same bytes, and what differs is named."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from pipeline.stages.build import compare
from pipeline.stages.sdist import differing_members, normalise_sdist

if TYPE_CHECKING:
    from pathlib import Path


def make_sdist(path: Path, files: dict[str, bytes], *, mtime: int, user: str, mode: int = 0o644) -> Path:
    """An archive as a build on some machine makes it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname, member.uid, member.mode = (
                len(data),
                mtime,
                user,
                mtime,
                mode,
            )
            archive.addfile(member, io.BytesIO(data))
    return path


def test_time_user_and_order_of_a_build_leave_no_trace(tmp_path: Path) -> None:
    files = {"a-1/b.py": b"b", "a-1/a.py": b"a"}
    one = make_sdist(tmp_path / "one.tar.gz", files, mtime=1, user="me")
    other = make_sdist(
        tmp_path / "two.tar.gz", dict(reversed(files.items())), mtime=2, user="you", mode=0o664
    )

    for path in (one, other):
        normalise_sdist(path, 315532800)

    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as archive:
        members = [(one.name, one.mtime, one.uname, oct(one.mode)) for one in archive]
    assert members == [("a-1/a.py", 315532800, "", "0o644"), ("a-1/b.py", 315532800, "", "0o644")]


def test_what_may_be_run_stays_so(tmp_path: Path) -> None:
    path = make_sdist(tmp_path / "one.tar.gz", {"run.sh": b"#!"}, mtime=1, user="me", mode=0o750)

    normalise_sdist(path, 0)

    with tarfile.open(path) as archive:
        assert oct(archive.getmember("run.sh").mode) == "0o755"


def test_two_builds_are_compared_by_their_members(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, stamp in ((first, b"1"), (second, b"2")):
        folder.mkdir()
        with zipfile.ZipFile(folder / "a.whl", "w") as archive:
            archive.writestr(zipfile.ZipInfo("a/same.py"), b"same")
            archive.writestr(zipfile.ZipInfo("a/stamp.py"), stamp)
        (folder / "same.txt").write_bytes(b"same")
    (first / "only.txt").write_bytes(b"")

    assert compare(first, second) == ("a.whl: a/stamp.py", "only.txt: only one build made it")
    assert compare(first, first) == ()


@pytest.mark.parametrize("name", ["a.tar.gz", "a.bin"])
def test_what_is_no_zip_is_compared_too(tmp_path: Path, name: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, data in ((one, b"1"), (other, b"2")):
        folder.mkdir()
        if name.endswith(".gz"):
            make_sdist(folder / name, {"a": data}, mtime=1, user="me")
        else:
            (folder / name).write_bytes(data)

    assert differing_members(one / name, other / name) == ["a" if name.endswith(".gz") else name]
