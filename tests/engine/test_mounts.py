"""Overlays, binds and the private mount namespace, made on real directories."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.engine import mounts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def private_mounts() -> None:
    mounts.enter_private_mount_namespace()


def _directory(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_an_overlay_shows_the_top_layer_first_and_keeps_changes_in_its_upper(tmp_path: Path) -> None:
    """A name in two layers is the upper one's; a write and a removal land in `upper` alone."""
    top = _directory(tmp_path / "top", a="top")
    bottom = _directory(tmp_path / "bottom", a="bottom", b="bottom")
    upper, work, target = (_directory(tmp_path / name) for name in ("upper", "work", "target"))

    mounts.mount_overlay(target, [top, bottom], upper, work)
    seen = {item.name: item.read_text() for item in target.iterdir()}
    (target / "c").write_text("new")
    (target / "b").unlink()
    mounts.unmount(target)

    assert seen == {"a": "top", "b": "bottom"}
    assert sorted(os.listdir(upper)) == ["b", "c"]
    assert (os.lstat(upper / "b").st_rdev, os.listdir(target)) == (0, [])
    assert sorted(os.listdir(bottom)) == ["a", "b"]


def test_an_overlay_without_an_upper_is_read_only(tmp_path: Path) -> None:
    """Writing into it fails with EROFS, with one layer and with several."""
    one, two = _directory(tmp_path / "one", a="1"), _directory(tmp_path / "two", b="2")

    for number, lowers in enumerate(([one], [one, two])):
        target = _directory(tmp_path / f"target{number}")
        mounts.mount_overlay(target, lowers)
        with pytest.raises(OSError, match="Read-only"):
            (target / "x").write_text("")
        mounts.unmount(target)


@pytest.mark.parametrize(
    "name",
    ["n" * 200, "with,comma", "with:colon", "with\\backslash"],
    ids=["longer than a page together", "comma", "colon", "backslash"],
)
def test_paths_that_do_not_fit_the_option_syntax_are_mounted(tmp_path: Path, name: str) -> None:
    """Neither the page of options nor its separators limit what the layers may be called."""
    base = tmp_path / name / ("d" * 60)
    lowers = [_directory(base / str(number), **{f"f{number}": "x"}) for number in range(60)]
    upper, work, target = (_directory(base / part) for part in ("upper", "work", "target"))

    mounts.mount_overlay(target, lowers, upper, work)
    count = len(os.listdir(target))
    mounts.unmount(target)

    assert count == 60


def test_the_old_mount_call_takes_long_lists_as_well(tmp_path: Path) -> None:
    """Where the kernel lacks the newer API, layers are named by descriptors that fit into the page."""
    base = tmp_path / ("d" * 100)
    lowers = [os.fspath(_directory(base / str(number), **{f"f{number}": "x"})) for number in range(60)]
    target = _directory(base / "target")

    with mounts._ShortNames() as short:
        mounts._mount_by_page(target, lowers, dict(mounts._OPTIONS), [], short)
    count = len(os.listdir(target))
    mounts.unmount(target)

    assert count == 60


def test_a_busy_mount_is_detached(tmp_path: Path) -> None:
    """An open file does not keep the mount point from being free again."""
    one, two = _directory(tmp_path / "one", a="1"), _directory(tmp_path / "two", b="2")
    target = _directory(tmp_path / "target")
    mounts.mount_overlay(target, [one, two])

    with open(target / "a") as stream:
        mounts.unmount(target)

        assert (os.listdir(target), stream.read()) == ([], "1")


def test_a_bind_shows_the_same_files(tmp_path: Path) -> None:
    """What is written through a bind is in the source; a read-only one refuses."""
    source, target = _directory(tmp_path / "source"), _directory(tmp_path / "target")

    mounts.bind(source, target)
    (target / "a").write_text("x")
    mounts.unmount(target)
    mounts.bind(source, target, read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        (target / "b").write_text("x")
    mounts.unmount(target)

    assert os.listdir(source) == ["a"]


def test_unmounting_what_is_not_mounted_fails(tmp_path: Path) -> None:
    """The error names the place."""
    with pytest.raises(mounts.MountFailed, match=f"cannot unmount `{tmp_path}`: invalid argument"):
        mounts.unmount(tmp_path)


def test_a_layer_that_is_missing_fails_with_the_target_named(tmp_path: Path) -> None:
    """The kernel's answer is in the message."""
    target = _directory(tmp_path / "target")

    with pytest.raises(mounts.MountFailed, match="no such file or directory"):
        mounts.mount_overlay(target, [tmp_path / "none", tmp_path / "nothing"])


def test_mounts_vanish_with_the_process_and_are_never_seen_outside(tmp_path: Path) -> None:
    """A process in a namespace of its own mounts something and is killed: nobody else saw it."""
    lower, target = _directory(tmp_path / "lower", a="1"), _directory(tmp_path / "target")
    script = (
        "import os, signal, sys; from pathlib import Path; from pipeline.engine import mounts\n"
        "mounts.enter_private_mount_namespace(); mounts.enter_private_mount_namespace()\n"
        "mounts.bind(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(os.listdir(sys.argv[2]), flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, lower, target], capture_output=True, text=True, check=False
    )

    assert (done.stdout, os.listdir(target)) == ("['a']\n", [])
