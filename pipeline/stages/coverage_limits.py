"""What all test stages measured, held against limits, and how that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.coverage import add_coverage, missing_lines, parse_coverage, percent, ranges, reaches
from pipeline.graph.context import Skip
from pipeline.graph.outcome import Failure
from pipeline.stages.changes import changed_lines
from pipeline.stages.containers import StageBroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.coverage import ChangedLines, Coverage
    from pipeline.graph.context import Context
    from pipeline.stages.results import TestReport

FILES_TOLD: Final = 12
RANGES_TOLD: Final = 120  # characters


class BaseUnknown(StageBroken):
    """A limit on changed lines cannot be held: it is not known which ones changed."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot say which changed lines are covered: {why}")
        self.hint = (
            "fetch the branch and its history, or name another one: `base` in [tool.pipeline.coverage]"
        )


def merged(ctx: Context, reports: Mapping[str, TestReport | None]) -> Coverage:
    """Return what all of them measured.

    Raises:
        Skip: None measured anything, and no limit is set.
        StageBroken: None did, or `unit` did not, and a limit is set: nobody knows whether it is kept.
        CoverageUnreadable: What one measured cannot be read.
    """
    measured = {
        name: parse_coverage(ctx.path(one.coverage).read_bytes(), f"coverage.xml of {name}")
        for name, one in reports.items()
        if one is not None and one.coverage is not None
    }
    has_limits = any(ctx.options.get(name) is not None for name in ("total", "changed"))
    silent = [name for name, one in reports.items() if one is not None and one.coverage is None]
    if has_limits and "unit" in silent:
        raise StageBroken("cannot say what the tests cover: `unit` left no coverage.xml")
    if has_limits and silent:
        ctx.warn(f"no coverage was measured by {', '.join(f'`{name}`' for name in silent)}")
    whole = add_coverage(list(measured.values()))
    if whole.lines:
        ctx.log(f"measured by {', '.join(f'`{name}`' for name in measured)}\n")
        return whole
    if has_limits:
        raise StageBroken("cannot say what the tests cover: no test stage measured it")
    raise Skip("no test stage measured what its tests cover")


def changed(ctx: Context) -> dict[str, frozenset[int]]:
    """Return the changed lines of each file.

    Raises:
        BaseUnknown: Nobody knows what they are changes of.
    """
    if "base" not in ctx.options:
        raise BaseUnknown(str(ctx.options.get("no_base", "no base is known")))
    return changed_lines(ctx.root, str(ctx.options["base"]))


def tell(ctx: Context, whole: Coverage, change: ChangedLines | None) -> None:
    """Say what is covered."""
    rate = whole.branch_rate
    branches = f", {percent(round(rate * 10_000), 10_000)} of branches" if rate is not None else ""
    ctx.log(f"{percent(whole.covered, whole.lines)} of {whole.lines} lines covered{branches}\n")
    if change is None:
        return
    if change.lines:
        share = percent(change.covered, change.lines)
        ctx.log(f"{share} of {change.lines} changed lines covered\n")
    else:
        ctx.log("the change has no executable lines that were measured: nothing to hold against `changed`\n")
    if change.unmeasured:
        ctx.warn(f"changed, but not measured: {', '.join(change.unmeasured[:FILES_TOLD])}")


def total_problems(whole: Coverage, limit: float | None) -> list[str]:
    """Return what is wrong with the whole: a sentence, and the files with the most that is not covered."""
    if limit is None or reaches(whole.covered, whole.lines, limit):
        return []
    share = percent(whole.covered, whole.lines)
    return [f"{share} of all lines are covered, {limit:g} % are wanted", *_rows(missing_lines(whole))]


def changed_problems(change: ChangedLines, limit: float | None) -> list[str]:
    """Return what is wrong with the changed lines: a sentence, and every file with lines that did not run."""
    if limit is None or not change.lines or reaches(change.covered, change.lines, limit):
        return []
    share = percent(change.covered, change.lines)
    return [f"{share} of the changed lines are covered, {limit:g} % are wanted", *_rows(change.missing)]


def _rows(missing: Mapping[str, Sequence[int]]) -> list[str]:
    rows = []
    for name, numbers in list(missing.items())[:FILES_TOLD]:
        lines = ranges(numbers)
        cut = lines if len(lines) <= RANGES_TOLD else lines[:RANGES_TOLD].rpartition(",")[0] + ", …"
        rows.append(f"  {name}: not covered: {cut}")
    more = len(missing) - FILES_TOLD
    return [*rows, f"  and {more} more files"] if more > 0 else rows


def failure(problems: Sequence[str]) -> Failure:
    """Return the failure that says which limits are not kept, and where."""
    sentences = [line for line in problems if not line.startswith(" ")]
    return Failure(message="; ".join(sentences), error_class="CoverageTooLow", tail=tuple(problems))
