"""A clock that jumps by years, back and forth, in every process of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.pipelines.robust import LIMIT_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.robust import RobustProject

JUMPING: Final = '''
"""Loaded by every Python process: each look at the clock is ten years before or after the one before."""

import itertools
import time

_real, _years = time.time, itertools.cycle((0, 10, -10, 5))
time.time = lambda: _real() + next(_years) * 31_557_600
'''


@pytest.mark.root
def test_a_jumping_clock_changes_no_result_duration_or_limit(project: RobustProject, tmp_path: Path) -> None:
    """The run's limit of a minute is not over early, and what was made is found by the next run."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(JUMPING)
    clock = str(tmp_path / "clock")

    first = project("run", "--timeout", "60s", PYTHONPATH=clock)
    assert first.code == 0, first
    record, result = project.record(), project.result("join")
    again = project("run", "--timeout", "60s", PYTHONPATH=clock)

    assert (first.code, again.code) == (0, 0), (first, again)
    assert result == project.expected("first")
    took_s = [record["duration_s"], *(stage["duration_s"] for stage in record["stages"].values())]
    assert 0 <= min(took_s) <= max(took_s) < LIMIT_S, took_s
    assert {stage["outcome"] for stage in record["stages"].values()} == {"success"}
    assert "cached" in again.stdout + again.stderr
