"""Many execs leave an engine as small as a few do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import busybox

SCRIPT = Path(__file__).parents[2] / "benchmarks/leaks.py"


@pytest.mark.root
def test_three_hundred_execs_leave_nothing_behind(tmp_path: Path) -> None:
    """Neither memory nor descriptors, mounts, namespaces, network devices or groups: `leaks.py` counts."""
    busybox.fill(tmp_path)
    busybox.require_launcher()

    done = subprocess.run([sys.executable, SCRIPT, "300"], capture_output=True, text=True, check=False)

    assert (done.stdout.splitlines()[-1:], done.stderr, done.returncode) == (["nothing has grown"], "", 0)
