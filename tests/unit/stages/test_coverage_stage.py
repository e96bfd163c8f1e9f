"""The `coverage` stage: reports of test stages against limits, without containers."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.coverage import Coverage, Line, parse_coverage, write_coverage
from pipeline.graph.outcome import Outcome
from pipeline.stages.coverage import base_options, coverage
from pipeline.stages.results import Covered, TestReport
from pipeline.testing import StageRun, fake_context, kept, logs, run_stage

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.context import Context

pytestmark = pytest.mark.anyio

HIT, MISSED = Line(hits=1), Line(hits=0)
UNIT = Coverage(files={"a.py": {1: HIT, 2: MISSED, 3: MISSED}, "b.py": {1: MISSED}})
E2E = Coverage(files={"a.py": {1: MISSED, 2: HIT, 3: MISSED}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose working tree has a changed second and third line of `a.py`, and a new file."""
    root = tmp_path / "root"
    root.mkdir()
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    (root / "a.py").write_text("one\ntwo\nthree\n")
    for argv in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *argv], cwd=root, check=True)
    (root / "a.py").write_text("one\n2\n3\n")
    (root / "new.py").write_text("x\n")
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    return root


def context(root: Path, **options: Any) -> Context:
    """A context with these limits."""
    return fake_context(root.parent, stage="coverage", root=root, options=options)


def report(ctx: Context, name: str, measured: Coverage | bytes | None) -> TestReport:
    """What a test stage returned that measured this."""
    data = write_coverage(measured) if isinstance(measured, Coverage) else measured
    artifact = None if data is None else ctx.keep(f"{name}-coverage.xml", data)
    return TestReport(tests=1, skipped=0, duration_s=1.0, junit=None, coverage=artifact)


async def ran(ctx: Context, **measured: Coverage | bytes | None) -> StageRun:
    """Run the stage on what its needs measured."""
    needs: dict[str, Any] = {name: report(ctx, name, one) for name, one in measured.items()}
    return await run_stage(coverage, ctx, **needs)


async def test_reports_become_one_and_their_lines_add_up(root: Path) -> None:
    """Without limits nothing is asked of git, and nothing fails."""
    ctx = context(root)

    done = await ran(ctx, unit=UNIT, e2e=E2E)

    assert done.value == Covered(lines=4, covered=2, changed_lines=None, changed_covered=None)
    whole = Coverage(files={"a.py": {1: HIT, 2: HIT, 3: MISSED}, "b.py": {1: MISSED}})
    assert parse_coverage(kept(ctx)["coverage.xml"]) == whole
    assert json.loads(kept(ctx)["coverage.json"])["files"]["a.py"] == {"lines": 3, "missing": "3"}
    assert logs(ctx) == ["measured by `unit`, `e2e`\n", "50 % of 4 lines covered\n"]


async def test_limits_that_are_kept_pass(root: Path) -> None:
    """Exactly enough is enough; a changed file that nobody measured is a warning."""
    ctx = context(root, total=50.0, changed=50.0, **base_options(root, "main", {}))

    done = await ran(ctx, unit=UNIT, e2e=E2E)

    assert done.value == Covered(lines=4, covered=2, changed_lines=2, changed_covered=1)
    assert "warning: changed, but not measured: new.py\n" in logs(ctx)


async def test_a_limit_that_is_not_kept_fails_and_names_files_and_lines(root: Path) -> None:
    ctx = context(root, total=80.0, changed=90.0, **base_options(root, None, {}))

    done = await ran(ctx, unit=UNIT, e2e=E2E)

    assert done.outcome is Outcome.FAILURE
    assert done.failure is not None
    assert done.failure.message == "; ".join(line for line in done.failure.tail if line[0] != " ")
    assert done.failure.tail == (
        "50 % of all lines are covered, 80 % are wanted",
        "  a.py: not covered: 3",
        "  b.py: not covered: 1",
        "50 % of the changed lines are covered, 90 % are wanted",
        "  a.py: not covered: 3",
    )


async def test_a_change_without_executable_lines_passes_and_says_so(root: Path) -> None:
    """That is not 100 %."""
    ctx = context(root, changed=90.0, **base_options(root, "main", {}))

    done = await ran(ctx, unit=Coverage(files={"b.py": {1: HIT}}))

    assert done.value == Covered(lines=1, covered=1, changed_lines=0, changed_covered=0)
    assert any("the change has no executable lines" in line for line in logs(ctx))


@pytest.mark.parametrize(
    ("options", "measured", "outcome", "said"),
    [
        pytest.param({}, {"unit": None}, Outcome.SKIP, "no test stage measured", id="nothing"),
        pytest.param({}, {}, Outcome.SKIP, "no test stage measured", id="no stage"),
        pytest.param({"total": 1.0}, {}, Outcome.ERROR, "no test stage measured it", id="limit, no stage"),
        pytest.param(
            {"total": 1.0},
            {"unit": None, "e2e": E2E},
            Outcome.ERROR,
            "`unit` left no coverage.xml",
            id="limit, unit is silent",
        ),
        pytest.param(
            {"total": 0.0}, {"unit": Coverage()}, Outcome.ERROR, "no test stage measured it", id="empty"
        ),
        pytest.param(
            {},
            {"unit": b"garbage"},
            Outcome.ERROR,
            "cannot read the coverage `coverage.xml of unit`",
            id="garbage",
        ),
        pytest.param(
            {"changed": 1.0, "no_base": "git said: no"},
            {"unit": UNIT},
            Outcome.ERROR,
            "cannot say which changed lines are covered: git said: no",
            id="no base",
        ),
    ],
)
async def test_what_cannot_be_told_is_never_good(
    root: Path, options: dict[str, Any], measured: dict[str, Any], outcome: Outcome, said: str
) -> None:
    done = await ran(context(root, **options), **measured)

    assert done.outcome is outcome
    assert said in (done.reason or (done.failure.message if done.failure else ""))
