"""A tiny root file system for tests: one static busybox and the names it answers to."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.engine.runtime.launcher import LAUNCHER

if TYPE_CHECKING:
    from pathlib import Path

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\n"
GROUP = "root:x:0:\nbob:x:1000:\nwheel:x:10:root,bob\n"


def fill(root: Path) -> None:
    """Put busybox, a passwd and a group file into `root`.

    Skips the test on a machine without a static busybox.
    """
    program = shutil.which("busybox")
    if program is None:
        pytest.skip("no static busybox on this machine")
    for name in ("bin", "etc", "tmp", "home/bob"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.chown(root / "home/bob", 1000, 1000)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    shutil.copy(program, root / "bin/busybox")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")


def require_launcher() -> None:
    """Skip the test where the launcher was not compiled."""
    if not os.access(LAUNCHER, os.X_OK):
        pytest.skip("the launcher is not compiled here")
