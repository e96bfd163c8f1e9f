"""Running plans for real: outcomes, retries, limits, evidence."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pipeline import Artifact, CheckFailed, Context, Failure, NeedGone, Outcome, Retry, Skip, stage
from pipeline.graph.events import (
    Event,
    RunFinished,
    RunStarted,
    StageFinished,
    StageOutput,
    StageQuiet,
    StageRetried,
    StageStarted,
)
from pipeline.graph.history import History, failed_stages, load_result, read_events
from pipeline.graph.plan import EffectRefused, Graph
from pipeline.graph.record import FolderBroken, RunFolder
from pipeline.graph.run import RunResult, RunSettings, run
from pipeline.testing import plan_of, run_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio


@stage(inputs=())
async def one(ctx: Context) -> int:
    return 1


@stage(inputs=())
async def two(ctx: Context, one: int) -> int:
    return one + 1


@stage(inputs=())
async def bad(ctx: Context) -> int:
    raise CheckFailed(Failure(message="2 tests failed", exit_code=1, tail=("FAILED a", "FAILED b")))


@stage(inputs=())
async def after_bad(ctx: Context, bad: int) -> int:
    return bad


def outcomes(result: RunResult) -> dict[str, str]:
    """Each stage's outcome, with its flags."""
    return {
        name: " ".join(
            [str(event.outcome)]
            + [flag for flag in ("cached", "flaky", "soft_failed") if getattr(event, flag)]
        )
        for name, event in result.stages.items()
    }


def told(events: Sequence[Event]) -> list[str]:
    """The kinds of the events, with their stages."""
    return [f"{type(event).__name__} {getattr(event, 'stage', '')}".strip() for event in events]


async def test_a_good_run_gives_values_on_and_tells_everything_in_order(tmp_path: Path) -> None:
    """Observers see what the run folder has."""
    seen: list[Event] = []

    result = await run_plan(plan_of(one, two), tmp_path, observers=[seen.append])

    assert (result.outcome, result.exit_code, outcomes(result)) == (
        Outcome.SUCCESS,
        0,
        {"one": "success", "two": "success"},
    )
    assert told(seen) == [
        "RunStarted",
        "StageStarted one",
        "StageFinished one",
        "StageStarted two",
        "StageFinished two",
        "RunFinished",
    ]
    folder = tmp_path / "runs" / result.run_id
    assert list(read_events(folder)) == seen
    assert (load_result(folder, "two") or {})["result"] == 2


async def test_the_run_folder_tells_the_run(tmp_path: Path) -> None:
    """`run.json` and `plan.json` are as documented."""
    result = await run_plan(
        plan_of(one, two), tmp_path, command=("run", "-j2"), commit="c" * 40, dirty=True, environment="test"
    )

    folder = tmp_path / "runs" / result.run_id
    found = json.loads((folder / "run.json").read_text())
    assert {key: found[key] for key in ("schema", "status", "outcome", "exit_code", "command", "dirty")} == {
        "schema": 1,
        "status": "finished",
        "outcome": "success",
        "exit_code": 0,
        "command": ["run", "-j2"],
        "dirty": True,
    }
    assert found["stages"]["two"]["outcome"] == "success"
    plan = json.loads((folder / "plan.json").read_text())
    assert [(row["name"], row["needs"], row["action"]) for row in plan["stages"]] == [
        ("one", [], "run"),
        ("two", ["one"], "run"),
    ]


async def test_a_failure_is_failure_and_stops_what_has_not_started(tmp_path: Path) -> None:
    """Fail-fast: reasons name the failed stage."""
    result = await run_plan(plan_of(bad, after_bad, two, one), tmp_path, slots=1)

    assert (result.outcome, result.exit_code) == (Outcome.FAILURE, 1)
    whys = {name: (str(event.outcome), event.why) for name, event in result.stages.items()}
    assert whys["after_bad"] == ("skip", "`bad` ended in failure")
    assert result.stages["bad"].failure == Failure(
        message="2 tests failed", exit_code=1, tail=("FAILED a", "FAILED b")
    )


async def test_fail_fast_lets_running_stages_finish(tmp_path: Path) -> None:
    """Their work is kept; nothing new starts."""

    @stage(inputs=())
    async def slow(ctx: Context) -> int:
        await anyio.sleep(0.1)
        return 1

    @stage(inputs=())
    async def next_one(ctx: Context, slow: int) -> None: ...

    result = await run_plan(plan_of(bad, slow, next_one), tmp_path, slots=2)

    assert outcomes(result) == {"bad": "failure", "slow": "success", "next_one": "skip"}
    assert result.stages["next_one"].why == "the run stops at the first failure: `bad` ended in failure"


async def test_keep_going_runs_all_that_does_not_need_the_failed_one(tmp_path: Path) -> None:
    """The exit code still says that a stage failed."""
    result = await run_plan(plan_of(bad, after_bad, one, two), tmp_path, slots=1, keep_going=True)

    assert (result.exit_code, outcomes(result)) == (
        1,
        {"bad": "failure", "after_bad": "skip", "one": "success", "two": "success"},
    )


@stage(inputs=(), despite=["bad"])
async def scan(ctx: Context, one: int, bad: int | None = None) -> str:
    return f"{one} {bad} {dict(ctx.absent)}"


async def test_a_stage_runs_despite_a_bad_optional_need_and_says_so(tmp_path: Path) -> None:
    """It gets the default and the reason; the warning is there although the stage did not write one."""
    given = []

    @stage(inputs=())
    async def uses(ctx: Context, scan: str) -> None:
        given.append(scan)

    result = await run_plan(plan_of(one, bad, scan, uses), tmp_path, slots=1, keep_going=True)

    assert outcomes(result) == {"one": "success", "bad": "failure", "scan": "success", "uses": "success"}
    assert result.exit_code == 1
    assert result.stages["scan"].warnings == ("ran without `bad`, which ended in failure",)
    assert given == ["1 None {'bad': 'ended in failure'}"]


async def test_a_stage_runs_despite_an_optional_need_that_was_skipped_for_another_one(tmp_path: Path) -> None:
    """The failure of what its need needed reaches it as one of its need."""

    @stage(inputs=(), despite=["after_bad"])
    async def scan(ctx: Context, after_bad: int | None = None) -> None:
        ctx.warn(f"`after_bad` {ctx.absent['after_bad']}: images were not looked at")

    result = await run_plan(plan_of(bad, after_bad, scan), tmp_path, slots=1, keep_going=True)

    assert outcomes(result) == {"bad": "failure", "after_bad": "skip", "scan": "success"}
    assert result.stages["scan"].warnings == ("`after_bad` was skipped: images were not looked at",)


async def test_a_default_alone_does_not_make_a_stage_run_without_its_need(tmp_path: Path) -> None:
    """Whether a stage is of use without a result is for its author to say."""

    @stage(inputs=())
    async def total(ctx: Context, bad: int = 0) -> int:
        return bad

    result = await run_plan(plan_of(bad, total), tmp_path, slots=1, keep_going=True)

    assert outcomes(result) == {"bad": "failure", "total": "skip"}


async def test_no_effect_follows_from_a_stage_that_went_on_without_a_bad_one(tmp_path: Path) -> None:
    """What it waits for indirectly counts, through whichever stages."""
    made = []

    @stage(effect=True)
    async def push(ctx: Context, scan: str) -> None:
        made.append(scan)

    result = await run_plan(
        plan_of(one, bad, scan, push, environment="production"),
        tmp_path,
        slots=1,
        keep_going=True,
        environment="production",
    )

    assert (outcomes(result)["scan"], outcomes(result)["push"], made) == ("success", "skip", [])
    assert result.stages["push"].why == "`bad` ended in failure"


class Boom(Exception):
    pass


class Abrupt(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no words")


@pytest.mark.parametrize(
    ("raised", "outcome", "words"),
    [
        (Boom("oh"), "error", "Boom: oh (" + __file__),
        (CheckFailed("not good"), "failure", "not good"),
        (Skip("no database"), "skip", ""),
        (SystemExit(3), "error", "SystemExit: 3"),
        (Abrupt("mine"), "error", "Abrupt: mine"),
        (GeneratorExit(), "error", "GeneratorExit"),
        (ValueError("long " * 1_000_000), "error", "ValueError: long long"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), Boom()]), "error", "KeyboardInterrupt"),
        (ValueError("not \udcff UTF-8"), "error", "ValueError: not \udcff UTF-8"),
        (Mute(), "error", "RuntimeError: it has no words"),
        (asyncio.CancelledError(), "error", "`stage_under_test` cancelled itself"),
        (ExceptionGroup("g", [ExceptionGroup("h", [CheckFailed("inner")]), Boom()]), "failure", "inner"),
        (ExceptionGroup("g", [Boom("first"), Boom("second")]), "error", "Boom: first"),
        (NeedGone("elsewhere"), "error", "cannot make the result of `elsewhere` again"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_what_a_stage_raises_becomes_its_outcome(
    tmp_path: Path, raised: BaseException, outcome: str, words: str
) -> None:
    """The other stages go on; a run with an error is not good."""

    @stage(inputs=())
    async def stage_under_test(ctx: Context) -> None:
        raise raised

    result = await run_plan(plan_of(stage_under_test, one), tmp_path, keep_going=True, slots=1)

    event = result.stages["stage_under_test"]
    assert (str(event.outcome), str(result.stages["one"].outcome)) == (outcome, "success")
    assert (event.failure.message if event.failure else "").startswith(words)
    assert result.exit_code == (0 if outcome == "skip" else 1)


async def test_an_error_leaves_its_traceback_in_the_stages_log(tmp_path: Path) -> None:
    """The event has one sentence; the log has the rest."""

    @stage(inputs=())
    async def broken(ctx: Context) -> None:
        ctx.log("about to")
        raise Boom("oh")

    result = await run_plan(plan_of(broken), tmp_path)

    log = (tmp_path / "runs" / result.run_id / "stages/broken/log.txt").read_text()
    assert log.startswith("about to\nTraceback (most recent call last):\n")
    assert log.endswith("Boom: oh\n")


async def test_what_is_described_with_an_exit_code_is_a_failure(tmp_path: Path) -> None:
    """A command that ran and said no."""

    @stage(inputs=())
    async def command(ctx: Context) -> None:
        raise Boom

    def describe(error: BaseException) -> Failure:
        return Failure(message="pytest ended in 1", command=("pytest",), exit_code=1)

    plan = plan_of(command)
    settings = RunSettings(
        root=tmp_path, folder=RunFolder.create(tmp_path / "runs", time.time()), handle_signals=False
    )
    result = await run(plan, settings, describe=describe)

    assert result.stages["command"].failure == Failure(
        message="pytest ended in 1", command=("pytest",), exit_code=1
    )
    assert result.outcome is Outcome.FAILURE


async def test_a_soft_failure_is_shown_and_leaves_the_run_good(tmp_path: Path) -> None:
    """Stages after it go on; those that need its result cannot."""

    @stage(inputs=(), soft_fail=True)
    async def lint(ctx: Context) -> int:
        raise CheckFailed("style")

    @stage(inputs=(), after=[lint])
    async def build(ctx: Context) -> str:
        return ""

    @stage(inputs=())
    async def report(ctx: Context, lint: int) -> None: ...

    @stage(inputs=())
    async def summary(ctx: Context, lint: int = -1, build: str = "none") -> int:
        return lint

    result = await run_plan(plan_of(lint, build, report, summary), tmp_path)

    assert (result.exit_code, outcomes(result)) == (
        0,
        {"lint": "failure soft_failed", "build": "success", "report": "skip", "summary": "success"},
    )
    assert result.stages["report"].why == "`lint` ended in failure"
    assert (load_result(tmp_path / "runs" / result.run_id, "summary") or {})["result"] == -1


async def test_a_stage_that_skips_itself_tells_why(tmp_path: Path) -> None:
    """The run is good, and `--failed` does not want it again."""

    @stage(inputs=())
    async def dast(ctx: Context) -> None:
        raise Skip("no network")

    result = await run_plan(plan_of(dast, one), tmp_path)

    event = result.stages["dast"]
    assert (event.outcome, event.why, event.attempts, result.exit_code) == (Outcome.SKIP, "no network", 1, 0)
    assert failed_stages(tmp_path / "runs" / result.run_id) == ()


async def test_a_retried_stage_that_passes_is_flaky(tmp_path: Path) -> None:
    """Each attempt is told, with the failure of the one before."""
    seen: list[Event] = []
    tries: list[int] = []

    @stage(inputs=(), retry=Retry(3, on=OSError, wait_s=0.01))
    async def fetch(ctx: Context) -> int:
        tries.append(ctx.attempt)
        ctx.keep(f"try{ctx.attempt}.txt", "x")
        if ctx.attempt < 3:
            raise ConnectionError("reset")
        return 7

    result = await run_plan(plan_of(fetch), tmp_path, observers=[seen.append])

    retried = [event for event in seen if isinstance(event, StageRetried)]
    assert (tries, outcomes(result)) == ([1, 2, 3], {"fetch": "success flaky"})
    assert [(event.attempt, event.wait_s, event.failure.error_class) for event in retried] == [
        (1, 0.01, "ConnectionError"),
        (2, 0.02, "ConnectionError"),
    ]
    assert (result.stages["fetch"].attempts, result.stages["fetch"].kept) == (3, ("try3.txt",))


@pytest.mark.parametrize(
    ("options", "attempts"),
    [
        ({}, 1),
        ({"effect": True}, 1),
        ({"retry": Retry(2, wait_s=0)}, 2),
        ({"retry": Retry(5, on=ValueError, wait_s=0)}, 1),
        ({"effect": True, "retry": Retry(2, wait_s=0)}, 2),
    ],
)
async def test_only_a_declared_retry_is_made(tmp_path: Path, options: Any, attempts: int) -> None:
    """An effect above all is not repeated by itself."""

    @stage(inputs=(), **options)
    async def push(ctx: Context) -> None:
        raise Boom

    result = await run_plan(plan_of(push), tmp_path)

    assert result.stages["push"].attempts == attempts


async def test_a_stage_over_its_limit_is_a_timeout_that_says_what_was_going_on(tmp_path: Path) -> None:
    """With timeouts alone the exit code is 124; cleanup runs."""
    cleaned: list[bool] = []

    @stage(inputs=(), timeout_s=0.05)
    async def slow(ctx: Context) -> None:
        ctx.log("waiting for the database")
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    result = await run_plan(plan_of(slow), tmp_path)

    event = result.stages["slow"]
    assert (event.outcome, result.outcome, result.exit_code, cleaned) == (
        Outcome.TIMEOUT,
        Outcome.TIMEOUT,
        124,
        [True],
    )
    assert event.failure is not None
    assert event.failure.message == (
        "timed out after 0.05 s; its last output, 0 s before, was `waiting for the database`"
    )


async def test_a_timeout_beside_a_failure_is_a_failed_run(tmp_path: Path) -> None:
    """A failed stage counts more than one that took too long."""

    @stage(inputs=(), timeout_s=0.01)
    async def slow(ctx: Context) -> None:
        await anyio.sleep_forever()

    result = await run_plan(plan_of(slow, bad), tmp_path, keep_going=True)

    assert (result.outcome, result.exit_code) == (Outcome.FAILURE, 1)


async def test_a_stage_that_swallows_its_cancellation_is_still_a_timeout(tmp_path: Path) -> None:
    """A result that came too late is not taken."""

    @stage(inputs=(), timeout_s=0.02)
    async def stubborn(ctx: Context) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return 1

    result = await run_plan(plan_of(stubborn), tmp_path)

    assert result.stages["stubborn"].outcome is Outcome.TIMEOUT


async def test_the_whole_runs_limit_stops_it_with_124_and_says_who_ran(tmp_path: Path) -> None:
    """Running stages time out, waiting ones are skipped."""

    @stage(inputs=())
    async def slow(ctx: Context) -> int:
        await anyio.sleep_forever()
        return 1

    @stage(inputs=())
    async def later(ctx: Context, slow: int) -> None: ...

    result = await run_plan(plan_of(slow, later), tmp_path, timeout_s=0.1)

    assert (result.outcome, result.exit_code, outcomes(result)) == (
        Outcome.TIMEOUT,
        124,
        {"slow": "timeout", "later": "skip"},
    )
    assert result.message == "the run's limit of 0.1 s was over while `slow` ran (0 s)"
    assert result.stages["later"].why == f"not started: {result.message}"
    assert failed_stages(tmp_path / "runs" / result.run_id) == ("slow", "later")


async def test_a_quiet_stage_is_told_of_again_and_again_but_ever_less(tmp_path: Path) -> None:
    """Output starts the clock anew."""
    seen: list[Event] = []

    @stage(inputs=())
    async def quiet(ctx: Context) -> None:
        await anyio.sleep(0.5)

    await run_plan(plan_of(quiet), tmp_path, quiet_s=0.1, observers=[seen.append])

    times = [event.quiet_s for event in seen if isinstance(event, StageQuiet)]
    assert 2 <= len(times) <= 3
    assert all(later >= 2 * before for before, later in itertools.pairwise(times))


async def test_cancelling_the_caller_ends_the_run_with_evidence(tmp_path: Path) -> None:
    """Whoever embeds the scheduler may give up on it."""

    @stage(inputs=())
    async def slow(ctx: Context) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(0.1) as limit:
        await run_plan(plan_of(slow), tmp_path)

    folder = next((tmp_path / "runs").iterdir())
    events = list(read_events(folder))
    assert limit.cancelled_caught
    assert isinstance(events[-1], RunFinished)
    assert (events[-1].outcome, events[-1].exit_code) == (Outcome.CANCELLATION, 130)
    assert isinstance(events[-2], StageFinished)
    assert events[-2].outcome is Outcome.CANCELLATION


async def test_effects_are_refused_without_an_environment(tmp_path: Path) -> None:
    """Nothing is run, not even what comes before."""

    @stage(inputs=(), effect=True)
    async def push(ctx: Context, one: int) -> str:
        return ctx.environment

    plan = Graph([one, push]).select(environment="prod")

    with pytest.raises(EffectRefused):
        await run_plan(plan, tmp_path, environment="")
    assert (await run_plan(plan, tmp_path, environment="prod")).exit_code == 0


async def test_a_failing_observer_is_dropped_and_named(tmp_path: Path) -> None:
    """A view must not harm the run."""

    def view(event: Event) -> None:
        raise Boom("no terminal")

    result = await run_plan(plan_of(one), tmp_path, observers=[view])

    assert result.exit_code == 0
    assert len(result.problems) == 1
    assert result.problems[0].endswith("failed: Boom: no terminal")


async def test_a_run_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """Without evidence there is no good run; stages are cancelled."""

    @stage(inputs=())
    async def vandal(ctx: Context) -> None:
        folder = ctx.root / "runs" / ctx.run_id / "stages"
        folder.parent.joinpath("stages").write_text("in the way")
        ctx.log("x")
        await anyio.sleep(5)

    began = time.monotonic()
    with pytest.raises(FolderBroken, match=r"cannot write the run folder .*: not a directory"):
        await run_plan(plan_of(vandal), tmp_path)
    assert time.monotonic() - began < 3


async def test_secrets_are_handed_out_when_declared_and_scrubbed_everywhere(tmp_path: Path) -> None:
    """From logs, failures, kept files; a result that shows one is an error."""

    @stage(inputs=(), secrets=["TOKEN"])
    async def login(ctx: Context) -> None:
        token = ctx.secret("TOKEN")
        ctx.log(f"using {token}")
        ctx.keep("config.ini", f"token={token}")
        raise CheckFailed(Failure(message=f"{token} was refused", command=("curl", f"-H{token}")))

    @stage(inputs=(), secrets=["TOKEN"])
    async def leaky(ctx: Context) -> str:
        return "x" + ctx.secret("TOKEN")

    @stage(inputs=())
    async def undeclared(ctx: Context) -> None:
        ctx.secret("TOKEN")

    @stage(inputs=(), secrets=["NOTHING"])
    async def unset(ctx: Context) -> None:
        ctx.secret("NOTHING")

    seen: list[Event] = []
    result = await run_plan(
        plan_of(login, leaky, undeclared, unset),
        tmp_path,
        secret={"TOKEN": "s3cr3t-value"}.get,
        keep_going=True,
        observers=[seen.append],
    )

    messages = {name: event.failure.message for name, event in result.stages.items() if event.failure}
    assert messages == {
        "login": "*** was refused",
        "leaky": "cannot keep the result of `leaky`: it shows the value of a secret",
        "undeclared": (
            "cannot read the secret `TOKEN`: stage `undeclared` does not declare it in `secrets=[...]`"
        ),
        "unset": "cannot read the secret `NOTHING`: it has no value here",
    }
    for path in (tmp_path / "runs").rglob("*"):
        assert path.is_dir() or b"s3cr3t-value" not in path.read_bytes()
    assert "s3cr3t-value" not in repr(seen)


async def test_kept_files_are_artifacts_that_later_stages_can_read(tmp_path: Path) -> None:
    """Text, bytes and files; by content, inside the run folder."""

    @stage(inputs=())
    async def build(ctx: Context) -> Artifact:
        ctx.keep("notes/a.txt", "text")
        (ctx.root / "file.bin").write_bytes(b"\0\1")
        return ctx.keep("out/wheel.bin", ctx.root / "file.bin")

    @stage(inputs=())
    async def use(ctx: Context, build: Artifact) -> int:
        return len(ctx.path(build).read_bytes())

    @stage(inputs=())
    async def escape(ctx: Context) -> None:
        ctx.keep("../../x", "text")

    result = await run_plan(plan_of(build, use, escape), tmp_path, keep_going=True)

    folder = tmp_path / "runs" / result.run_id
    assert result.stages["build"].kept == ("notes/a.txt", "out/wheel.bin")
    assert (folder / "stages/build/files/out/wheel.bin").read_bytes() == b"\0\1"
    assert (load_result(folder, "use") or {})["result"] == 2
    assert outcomes(result)["escape"] == "error"


@dataclass(frozen=True)
class Client:
    name: str


async def test_the_engine_is_opened_once_when_asked_for_and_closed_at_the_end(tmp_path: Path) -> None:
    """By a task of its own: the stage that asked first may be gone long before."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def opener(emit: Any) -> Any:
        log.append("open")
        emit(StageOutput(at=time.time(), stage="first", stream="stdout", text="engine says\n"))
        await anyio.sleep(0.02)
        yield Client("c")
        await anyio.sleep(0.01)
        log.append("close")

    @stage(inputs=(), timeout_s=0.01)
    async def first(ctx: Context) -> None:
        await ctx.dagger()

    @stage(inputs=())
    async def second(ctx: Context) -> str:
        client: Any = await ctx.dagger()
        log.append("used")
        return str(client.name)

    @stage(inputs=())
    async def third(ctx: Context) -> str:
        client: Any = await ctx.dagger()
        return str(client.name)

    folder = RunFolder.create(tmp_path / "runs", time.time())
    settings = RunSettings(root=tmp_path, folder=folder, handle_signals=False, keep_going=True, slots=3)
    result = await run(plan_of(first, second, third), settings, opener=opener)
    await run(plan_of(one), RunSettings(root=tmp_path, folder=folder, handle_signals=False), opener=opener)

    assert outcomes(result) == {"first": "timeout", "second": "success", "third": "success"}
    assert log == ["open", "used", "close"]
    assert (folder.path / "stages/first/log.txt").read_text() == "engine says\n"


async def test_an_engine_that_does_not_open_is_told_to_all_who_ask(tmp_path: Path) -> None:
    """Once opened badly, it is not tried again."""
    tries: list[int] = []

    @contextlib.asynccontextmanager
    async def opener(emit: Any) -> Any:
        tries.append(1)
        if tries:
            raise Boom("no runtime")
        yield Client("never")

    @stage(inputs=())
    async def a(ctx: Context) -> None:
        await ctx.dagger()

    @stage(inputs=())
    async def b(ctx: Context) -> None:
        await ctx.dagger()

    folder = RunFolder.create(tmp_path / "runs", time.time())
    settings = RunSettings(root=tmp_path, folder=folder, handle_signals=False, keep_going=True)
    result = await run(plan_of(a, b), settings, opener=opener)
    without = await run_plan(plan_of(a), tmp_path)

    assert (outcomes(result), tries) == ({"a": "error", "b": "error"}, [1])
    assert without.stages["a"].failure is not None
    assert without.stages["a"].failure.message.startswith("cannot open an engine")


async def test_an_engine_that_does_not_close_is_a_problem_not_a_hang(tmp_path: Path) -> None:
    """The run's outcome stands."""

    @contextlib.asynccontextmanager
    async def opener(emit: Any) -> Any:
        yield Client("c")
        await anyio.sleep_forever()

    @stage(inputs=())
    async def a(ctx: Context) -> None:
        await ctx.dagger()

    folder = RunFolder.create(tmp_path / "runs", time.time())
    settings = RunSettings(root=tmp_path, folder=folder, handle_signals=False, grace_s=0.1)
    result = await run(plan_of(a), settings, opener=opener)

    assert (result.exit_code, result.problems) == (0, ("the engine did not close within 0.1 s",))


async def test_weights_and_groups_bound_what_runs_at_once(tmp_path: Path) -> None:
    """Two light ones together, the heavy one alone, those of a group one after the other."""
    running: set[str] = set()
    together: list[frozenset[str]] = []

    async def work(name: str) -> None:
        running.add(name)
        together.append(frozenset(running))
        await anyio.sleep(0.02)
        running.remove(name)

    @stage(inputs=())
    async def light1(ctx: Context) -> None:
        await work("light1")

    @stage(inputs=())
    async def light2(ctx: Context) -> None:
        await work("light2")

    @stage(inputs=(), weight=5)
    async def heavy(ctx: Context) -> None:
        await work("heavy")

    @stage(inputs=(), exclusive="db")
    async def db1(ctx: Context) -> None:
        await work("db1")

    @stage(inputs=(), exclusive="db")
    async def db2(ctx: Context) -> None:
        await work("db2")

    result = await run_plan(plan_of(light1, light2, heavy, db1, db2), tmp_path, slots=2)

    assert result.exit_code == 0
    assert max(len(names) for names in together) == 2
    assert all(names == {"heavy"} for names in together if "heavy" in names)
    assert not any({"db1", "db2"} <= names for names in together)


async def test_long_ways_start_first(tmp_path: Path) -> None:
    """By the times of past runs; else the longer chain."""
    seen: list[Event] = []

    @stage(inputs=())
    async def short(ctx: Context) -> None: ...

    @stage(inputs=())
    async def long(ctx: Context) -> None: ...

    plan = plan_of(short, long, one, two)
    await run_plan(plan, tmp_path, slots=1, expected_s={"long": 60.0}, observers=[seen.append])

    assert [event.stage for event in seen if isinstance(event, StageStarted)] == [
        "long",
        "one",
        "short",
        "two",
    ]


async def test_an_empty_plan_is_a_good_run_that_says_so(tmp_path: Path) -> None:
    """Nothing was chosen."""
    seen: list[Event] = []
    result = await run_plan(plan_of(one, failed=[]), tmp_path, observers=[seen.append])

    assert (result.exit_code, result.message, outcomes(result)) == (0, "nothing to run", {"one": "skip"})
    assert isinstance(seen[0], RunStarted)
    assert seen[0].stages[0].why == "not selected"


async def test_history_gets_a_line(tmp_path: Path) -> None:
    """Its durations are what the next run expects."""
    history = History(tmp_path / "history.jsonl")

    for _ in range(3):
        await run_plan(plan_of(one, two), tmp_path, history=history)

    assert [line.outcome for line in history.lines()] == [Outcome.SUCCESS] * 3
    assert history.expected_s().keys() == {"one", "two"}


async def test_a_thousand_stages_run_within_a_second_or_two(tmp_path: Path) -> None:
    """1 ms a stage on an idle machine; `benchmarks/scheduler.py` measures it."""
    stages = []
    for index in range(1000):

        async def empty(ctx: Context) -> None: ...

        after = [f"s{index - 10}"] if index >= 10 else []
        stages.append(stage(name=f"s{index}", inputs=(), after=after)(empty))

    result = await run_plan(plan_of(*stages), tmp_path, slots=4)

    assert result.exit_code == 0
    assert len(result.stages) == 1000
    assert result.duration_s < 10
