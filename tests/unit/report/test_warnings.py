"""A success with warnings is never shown as a plain one, live or from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline import Context, stage
from pipeline.graph.cache import StageCache
from pipeline.report.evidence import Evidence
from pipeline.report.record import RunRecord
from pipeline.report.summary import make_summary
from pipeline.report.terminal import final_report, finished_line, plain
from pipeline.testing import plan_of, run_plan

if TYPE_CHECKING:
    from pathlib import Path


@stage
async def scan(ctx: Context) -> int:
    """Look at half of it."""
    ctx.warn("half of it was not looked at")
    return 1


@pytest.mark.anyio
async def test_a_warning_is_told_by_each_view_and_again_from_the_cache(tmp_path: Path) -> None:
    """The line of the stage, the end of the run and the summary name it; a cached result still warns."""
    cache = StageCache(tmp_path / "cache")
    first, second = RunRecord(), RunRecord()

    await run_plan(plan_of(scan), tmp_path / "one", observers=[first.add], cache=cache)
    await run_plan(plan_of(scan), tmp_path / "one", observers=[second.add], cache=cache)

    assert [record.stages["scan"].cached for record in (first, second)] == [False, True]
    for record in (first, second):
        assert record.warnings == ["scan: half of it was not looked at"]
        assert finished_line(record.stages["scan"], 4, plain).endswith("1 warning")
        assert "warning: scan: half of it was not looked at" in final_report(record, None).splitlines()
        assert "### Warnings\n\n- scan: half of it was not looked at\n" in make_summary(record, Evidence())
