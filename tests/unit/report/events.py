"""One run as events, for the tests of the views."""

from __future__ import annotations

from pipeline.graph.events import (
    Event,
    PlannedStage,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageRetried,
    StageStarted,
    StageStep,
)
from pipeline.graph.outcome import Failure, Outcome

FAILURE = Failure(
    message="2 of 3 tests failed",
    error_class="CheckFailed",
    command=("pytest", "-k", "a or b"),
    exit_code=1,
    tail=("\x1b[31mE   assert <b>1</b> == 2\x1b[0m", "```", "2 failed"),
    hint="look at *this*",
)


def planned(name: str, *needs: str, effect: bool = False) -> PlannedStage:
    return PlannedStage(
        name=name, needs=needs, after=(), action="run", why="", effect=effect, expected_s=None
    )


def events() -> list[Event]:
    """`build` passes, `lint` at the second attempt, `unit` fails, `push` is skipped."""
    return [
        RunStarted(
            at=1000.0,
            run_id="20260301-120000-000-abcd",
            command=("pipeline", "run"),
            project="shop",
            commit="c" * 40,
            dirty=True,
            environment="test",
            stages=(planned("build"), planned("lint"), planned("unit", "build"), planned("push", "unit")),
        ),
        StageStarted(at=1000.0, stage="build", attempt=1, why="nothing is stored for it yet"),
        StageStarted(at=1000.0, stage="lint", attempt=1, why="nothing is stored for it yet"),
        StageOutput(at=1000.5, stage="build", stream="stdout", text="one\ntwo\n\n"),
        StageStep(at=1001.0, stage="build", argv=("make",), cached=False, exit_code=0, duration_s=1.0),
        StageFinished(
            at=1002.0, stage="build", outcome=Outcome.SUCCESS, why="first", duration_s=2.0, attempts=1
        ),
        StageRetried(at=1002.0, stage="lint", attempt=1, failure=Failure(message="no answer"), wait_s=1.0),
        StageStarted(at=1003.0, stage="lint", attempt=2, why="nothing is stored for it yet"),
        StageFinished(
            at=1004.0,
            stage="lint",
            outcome=Outcome.SUCCESS,
            why="first",
            duration_s=4.0,
            attempts=2,
            flaky=True,
        ),
        StageStarted(at=1002.0, stage="unit", attempt=1, why="`build` runs"),
        StageFinished(
            at=1006.0,
            stage="unit",
            outcome=Outcome.FAILURE,
            why="`build` runs",
            duration_s=4.0,
            attempts=1,
            failure=FAILURE,
            kept=("junit.xml",),
        ),
        StageFinished(
            at=1006.0, stage="push", outcome=Outcome.SKIP, why="`unit` failed", duration_s=0.0, attempts=0
        ),
        RunFinished(at=1006.0, outcome=Outcome.FAILURE, exit_code=1, duration_s=6.0),
    ]
