"""`coverage`: what all test stages measured as one report, held against the limits of the settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipeline.graph.context import CheckFailed, Context
from pipeline.graph.inputs import GitFailed
from pipeline.graph.stage import stage
from pipeline.stages.results import Covered, TestReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@stage(timeout_s=300)
async def coverage(
    ctx: Context,
    unit: TestReport | None = None,
    integration: TestReport | None = None,
    e2e: TestReport | None = None,
    security_tests: TestReport | None = None,
) -> Covered:
    """Merge what the test stages measured, and check it against `[tool.pipeline.coverage]`."""
    from pipeline.coverage import changed_coverage, coverage_table, write_coverage
    from pipeline.stages.coverage_limits import (
        changed,
        changed_problems,
        failure,
        merged,
        tell,
        total_problems,
    )

    reports = {"unit": unit, "integration": integration, "e2e": e2e, "security_tests": security_tests}
    whole = merged(ctx, reports)
    change = None if ctx.options.get("changed") is None else changed_coverage(whole, changed(ctx))
    ctx.keep("coverage.xml", write_coverage(whole))
    ctx.keep("coverage.json", json.dumps(coverage_table(whole, change), indent=1))
    tell(ctx, whole, change)
    problems = [*total_problems(whole, ctx.options.get("total"))]
    if change is not None:
        problems += changed_problems(change, ctx.options.get("changed"))
    if problems:
        raise CheckFailed(failure(problems))
    return Covered(
        lines=whole.lines,
        covered=whole.covered,
        changed_lines=None if change is None else change.lines,
        changed_covered=None if change is None else change.covered,
    )


def base_options(root: Path, wanted: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the stage is told of the commit that changed lines are changes of: `base`, or why not."""
    from pipeline.stages.changes import find_base

    try:
        return {"base": find_base(root, wanted, environ)}
    except GitFailed as error:
        return {"no_base": str(error)}
