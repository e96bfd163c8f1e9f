"""Directories and files written to the host: merged, private until whole, never through links."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.hostfiles import ExportFailed, export_directory, export_file
from pipeline.engine.partfiles import PartFiles, PartNotNoted

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_text("new")
    (root / "file").chmod(0o640)
    os.utime(root / "file", (1000, 1000))
    (root / "sub/deep").write_text("deep")
    (root / "link").symlink_to("/etc/passwd")
    return root


def test_a_directory_is_merged_and_what_else_is_there_stays(source: Path, tmp_path: Path) -> None:
    """Modes, times and links are kept."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")

    told = export_directory(source, target, wipe=False)

    assert told == str(target)
    assert sorted(os.listdir(target)) == ["file", "link", "mine", "sub"]
    assert (mode(target / "file"), (target / "file").stat().st_mtime) == (0o640, 1000)
    assert os.readlink(target / "link") == "/etc/passwd"
    assert (target / "sub/deep").read_text() == "deep"


def test_wiping_makes_an_exact_copy_in_the_same_directory(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "old/below").mkdir(parents=True)
    (target / "sub").mkdir()
    (target / "sub/old").write_text("old")
    inode = target.stat().st_ino

    export_directory(source, target, wipe=True)

    assert sorted(os.listdir(target)) == ["file", "link", "sub"]
    assert os.listdir(target / "sub") == ["deep"]
    assert target.stat().st_ino == inode


def test_missing_directories_are_made_private(source: Path, tmp_path: Path) -> None:
    """The target and all that is missing above it: 0700."""
    export_directory(source, tmp_path / "a/b/c", wipe=False)
    export_file(source / "file", tmp_path / "x/y/file", name="file", into_parent=False)

    made = ["a", "a/b", "a/b/c", "x", "x/y"]
    assert {name: mode(tmp_path / name) for name in made} == dict.fromkeys(made, 0o700)


def test_links_in_the_target_are_replaced_and_never_followed(source: Path, tmp_path: Path) -> None:
    """Only the target itself may be a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("outside")
    real = tmp_path / "real"
    real.mkdir()
    (real / "sub").symlink_to(outside)
    (real / "file").symlink_to(outside / "file")
    target = tmp_path / "target"
    target.symlink_to(real)

    export_directory(source, target, wipe=False)

    assert sorted(os.listdir(outside)) == ["file"]
    assert (outside / "file").read_text() == "outside"
    assert not (real / "sub").is_symlink()
    assert (real / "file").read_text() == "new"


def test_entries_of_another_kind_are_replaced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "file/below").mkdir(parents=True)
    (target / "link").mkdir()
    (target / "sub").write_text("a file")

    export_directory(source, target, wipe=False)

    assert (target / "file").read_text() == "new"
    assert (target / "link").is_symlink()
    assert (target / "sub/deep").read_text() == "deep"


def test_a_file_is_no_target_for_a_directory(source: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("a file")

    with pytest.raises(ExportFailed, match="it is a file"):
        export_directory(source, tmp_path / "target", wipe=False)


def test_the_longest_names_are_written(source: Path, tmp_path: Path) -> None:
    """Also where each character takes several bytes."""
    name = "€" * 85
    (source / name).write_text("long")

    export_directory(source, tmp_path / "target", wipe=False)

    assert (tmp_path / "target" / name).read_text() == "long"


def test_a_file_goes_into_a_directory_only_when_that_is_allowed(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    with pytest.raises(ExportFailed, match="is a directory; must be a file path unless allowParentDirPath"):
        export_file(source / "file", folder, name="named", into_parent=False)
    told = export_file(source / "file", folder, name="named", into_parent=True)

    assert told == str(folder / "named")
    assert os.listdir(folder) == ["named"]


def test_a_file_that_is_replaced_is_never_half(source: Path, tmp_path: Path) -> None:
    """Who has the old one open keeps it: the new one is another inode under the name."""
    target = tmp_path / "target"
    target.write_text("old")
    with open(target) as held:
        export_file(source / "file", target, name="file", into_parent=False)

        assert held.read() == "old"
    assert target.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    """The error names what could not be read or written."""
    with pytest.raises(ExportFailed, match="cannot export to"):
        export_file(tmp_path / "none", tmp_path / "target", name="target", into_parent=False)

    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_a_program_of_another_owner_does_not_become_one_that_lends_the_callers_rights(tmp_path: Path) -> None:
    """Set-user and set-group bits go where they meant somebody else, and stay where they meant the caller."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "shared").mkdir(parents=True)
    for name, owner in (("theirs", 1000), ("ours", 0)):
        (source / name).write_text("x")
        os.chown(source / name, owner, owner)
        os.chmod(source / name, 0o6755)  # noqa: S103 - what is tested
    os.chown(source / "shared", 1000, 1000)
    os.chmod(source / "shared", 0o2755)  # noqa: S103 - what is tested

    export_directory(source, target, wipe=False)

    modes = {name: stat.S_IMODE(os.stat(target / name).st_mode) for name in os.listdir(target)}
    assert modes == {"theirs": 0o755, "ours": 0o6755, "shared": 0o755}


def test_a_fifo_arrives_as_one(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    os.mkfifo(source / "pipe", 0o640)

    export_directory(source, target, wipe=False)

    assert stat.S_ISFIFO(os.lstat(target / "pipe").st_mode)


WRITER = """
import sys, pathlib
from pipeline.engine.hostfiles import export_directory
from pipeline.engine.partfiles import PartFiles, PartNotNoted
notes, source, target = map(pathlib.Path, sys.argv[1:])
with PartFiles(folder=notes).named(target, below=True) as part:
    export_directory(source, target, wipe=False, part=part)
"""


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    """The next sweep finds it by the killed writer's note, and nothing else."""
    source, target, notes = tmp_path / "source", tmp_path / "target", tmp_path / "notes"
    (source / "sub").mkdir(parents=True)
    with open(source / "sub/big", "wb") as big:
        big.writelines(b"x" * (1 << 20) for _ in range(400))  # it takes a while to copy
    writer = subprocess.Popen([sys.executable, "-c", WRITER, notes, source, target])
    try:
        deadline = time.monotonic() + 30
        while not list(target.glob("sub/.*.part")) and time.monotonic() < deadline:
            time.sleep(0.01)
        writer.send_signal(signal.SIGSTOP)
        (left,) = target.glob("sub/.*.part")
        (target / "sub" / ".0123456789abcdef.part").write_text("of the user")

        PartFiles(folder=notes).sweep()
        assert left.exists()  # its writer lives
    finally:
        writer.kill()
        writer.wait()
    PartFiles(folder=notes).sweep()

    assert os.listdir(target / "sub") == [".0123456789abcdef.part"]
    assert os.listdir(notes) == []


def test_an_export_that_cannot_be_noted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file in the way")

    with pytest.raises(PartNotNoted) as caught, PartFiles(folder=tmp_path / "notes").named(below=False):
        pytest.fail("it must not begin")

    assert str(caught.value) == f"cannot note an export in `{tmp_path}/notes`: file exists"


def test_holes_of_a_file_stay_holes(source: Path, tmp_path: Path) -> None:
    """A terabyte of nothing takes no room on the host, and what is between the holes is whole."""
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 30)
        file.write(b"x" * 3_000_000 + b"end")
        file.truncate(1 << 40)

    export_directory(source, tmp_path / "target", wipe=False)

    found = (tmp_path / "target/sparse").stat()
    with (tmp_path / "target/sparse").open("rb") as file:
        begin = file.read(6)
        file.seek((1 << 30) - 1)
        middle = file.read(3_000_005)
    assert (found.st_size, found.st_blocks * 512 < 10_000_000) == (1 << 40, True)
    assert (begin, middle) == (b"begin\0", b"\0" + b"x" * 3_000_000 + b"end\0")
