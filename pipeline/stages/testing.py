"""Tests in containers, for every stage that runs some; `testing_run` does it, loaded when tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dagger

    from pipeline.graph.context import Context
    from pipeline.stages.results import TestReport

REPORTS: Final = "/reports"
GUARDED: Final = ("sh", "/opt/pipeline/guard")  # what the command that runs the tests begins with


def unguarded(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command as the project has it, without the guard of ours that it runs under."""
    return argv[len(GUARDED) :] if argv[: len(GUARDED)] == GUARDED else argv


async def run_tests(ctx: Context, container: dagger.Container, argv: Sequence[str]) -> TestReport:
    """Run the tests, in shards and again as the stage's settings say; keep their reports, say what they said.

    `argv` leaves `/reports/junit.xml`, and `/reports/coverage.xml` when it measures; what else is in there is
    kept too. `python -m pytest` is watched while it runs, and can be split and repeated.

    Raises:
        CheckFailed: A test failed.
        StageBroken: The runner itself failed, or left no report that proves what it says.
        CoverageUnreadable: What it measured cannot be read.
    """
    from pipeline.stages.testing_run import run

    return await run(ctx, container, argv)
