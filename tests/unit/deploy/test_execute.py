"""Deployments against a target in a file: order, undoing, holding, and what is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.config.values import Command, Count
from pipeline.deploy.execute import Request
from pipeline.deploy.history import read_history
from pipeline.deploy.outcome import Outcome, Told, Verdict
from pipeline.deploy.target import Live, TargetFailed
from tests.unit.deploy.doubles import FixedJudge, deployer, release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
OLD, NEW = release(1), release(2)


async def _with_old(folder: Path, **faults: str) -> FakeTarget:
    """A target where OLD runs, that then fails as told."""
    target = FakeTarget(folder)
    await deployer(target).deploy(Request(release=OLD))
    return FakeTarget(folder, {name.replace("_", " "): text for name, text in faults.items()})


async def test_the_first_release_starts_is_looked_at_and_gets_the_traffic(tmp_path: Path) -> None:
    """There is nothing to drain or keep."""
    target = FakeTarget(tmp_path)
    told: list[Told] = []

    result = await deployer(target, told=told).deploy(Request(release=NEW, actor="ann"))

    steps = ["fetch", "start", "ready", "preview", "shift 100%", "bake 100%", "finish"]
    assert [one.step for one in told if one.what == "done"] == steps
    assert (result.outcome, result.release, result.exit_code) == (Outcome.SUCCEEDED, NEW.id, 0)
    assert await target.live() == Live(
        shares={NEW.id: 100}, running=frozenset({NEW.id}), here=frozenset({NEW.id})
    )


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("blue_green", "start ready preview shift-100% bake-100% drain keep finish"),
        ("recreate", "drain start ready preview shift-100% bake-100% keep finish"),
        (
            "canary",
            "start ready preview shift-5% bake-5% shift-25% bake-25% shift-50% bake-50% shift-100% bake-100% "
            "drain keep finish",
        ),
        (
            "rolling",
            "start-1/2 ready-1/2 preview shift-50% drain-1/2 start-2/2 ready-2/2 shift-100% drain-2/2 "
            "bake-100% keep finish",
        ),
    ],
)
async def test_each_strategy_has_its_order(strategy: str, expected: str, tmp_path: Path) -> None:
    """And all end with the new release alone."""
    from dataclasses import replace

    from tests.unit.deploy.doubles import API

    two = {"settings": replace(API, replicas=Count(2))}
    target = FakeTarget(tmp_path)
    await deployer(target, strategy=strategy).deploy(Request(release=release(1, **two)))
    told: list[Told] = []

    result = await deployer(target, strategy=strategy, told=told).deploy(Request(release=release(2, **two)))

    done = [one.step.replace(" ", "-") for one in told if one.what == "done"]
    assert done == ["fetch", *expected.split()]
    assert result.outcome is Outcome.SUCCEEDED
    assert (await target.live()).running == {release(2, **two).id}


async def test_migrations_and_backup_come_before_anything_starts(tmp_path: Path) -> None:
    """The backup's name goes into the history."""
    target = FakeTarget(tmp_path)
    told: list[Told] = []
    subject = deployer(target, migrates=True, backup=Command(("backup",)), told=told)

    await subject.deploy(Request(release=NEW))

    assert [one.step for one in told if one.what == "done"][:4] == ["fetch", "backup", "expand", "start"]
    assert [(one.backup, one.new) for one in await read_history(target.state)] == [("backup-1", NEW.id)]


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        ("start", ["fetch", "shift back", "remove", "shift back"]),
        ("probe", ["fetch", "start", "shift back", "remove", "shift back"]),
        ("preview", ["fetch", "start", "shift back", "remove", "shift back"]),
        ("shift", ["fetch", "start", "shift back", "remove", "shift back"]),
        ("drain", ["fetch", "start", "shift", "shift back", "restore", "shift back", "remove", "shift back"]),
    ],
)
async def test_what_fails_is_undone_traffic_first(fault: str, calls: list[str], tmp_path: Path) -> None:
    """The old release has all traffic again, evidence is kept, and the history says why."""
    target = await _with_old(tmp_path)
    before = len(target.world["calls"])
    target.faults = {fault: "it broke"}
    evidence: dict[str, bytes] = {}

    result = await deployer(target, evidence=evidence).deploy(Request(release=NEW))

    live = await target.live()
    assert (result.outcome, result.release, result.exit_code) == (Outcome.ROLLED_BACK, OLD.id, 4)
    assert (live.shares, live.running) == ({OLD.id: 100}, frozenset({OLD.id}))
    assert target.world["calls"][before:] == calls
    assert evidence == {"api.log": b"started\n"}
    assert "it broke" in result.reason


async def test_a_failed_fetch_changes_nothing(tmp_path: Path) -> None:
    """It is a failure, not a rollback."""
    target = await _with_old(tmp_path, fetch="no such image")

    result = await deployer(target).deploy(Request(release=NEW))

    assert (result.outcome, result.exit_code, result.reason) == (Outcome.FAILED, 1, "no such image")
    assert (await target.live()).running == {OLD.id}


async def test_undoing_goes_on_when_a_part_of_it_fails(tmp_path: Path) -> None:
    """It is told as the worst outcome, with what went wrong."""
    target = await _with_old(tmp_path, preview="wrong answer", evidence="no logs", remove="still there")

    result = await deployer(target).deploy(Request(release=NEW))

    assert (result.outcome, result.exit_code) == (Outcome.ROLLBACK_FAILED, 5)
    assert result.problems == ("evidence: no logs", "start: still there")
    assert result.reason == "wrong answer"
    assert (await target.live()).shares == {OLD.id: 100}


async def test_a_breach_is_undone(tmp_path: Path) -> None:
    """And its numbers are in the reason."""
    target = await _with_old(tmp_path)
    judge = FixedJudge(Verdict(decision="breach", reason="7 of 60 requests failed"))

    result = await deployer(target, judge=judge).deploy(Request(release=NEW))

    assert result.outcome is Outcome.ROLLED_BACK
    assert result.reason == "cannot keep the release: 7 of 60 requests failed"


async def test_a_warning_holds_until_somebody_says_how_to_go_on(tmp_path: Path) -> None:
    """Both releases run meanwhile; going on ends with the new one, anything else with the old."""
    ends = []
    for place, forward in (("on", True), ("back", False)):
        target = await _with_old(tmp_path / place)
        judge = FixedJudge(Verdict(decision="hold", reason="p95 is 2.4 s"))
        held = await deployer(target, judge=judge).deploy(Request(release=NEW))
        running = (await target.live()).running

        resolved = await deployer(target).resolve(forward=forward)

        assert (held.outcome, held.exit_code, running) == (Outcome.WAITING, 6, frozenset({OLD.id, NEW.id}))
        assert resolved is not None
        ends.append((resolved.outcome, resolved.release))
    assert ends == [(Outcome.SUCCEEDED, NEW.id), (Outcome.ROLLED_BACK, OLD.id)]


@pytest.mark.parametrize(
    ("choice", "outcome"),
    [("rollback", Outcome.ROLLED_BACK), ("pause", Outcome.WAITING), ("promote", Outcome.SUCCEEDED)],
)
async def test_what_is_inconclusive_ends_as_configured(choice: str, outcome: Outcome, tmp_path: Path) -> None:
    """It never passes by itself."""
    from pipeline.config.delivery import CanarySettings

    target = await _with_old(tmp_path)
    judge = FixedJudge(Verdict(decision="inconclusive", reason="no traffic"))
    canary = CanarySettings(on_inconclusive=choice)  # type: ignore[arg-type]  # one of three words

    result = await deployer(target, judge=judge, canary=canary).deploy(Request(release=NEW))

    assert result.outcome is outcome


async def test_what_runs_already_is_left_alone(tmp_path: Path) -> None:
    """It is said, and recorded."""
    target = await _with_old(tmp_path)
    calls = target.world["calls"]

    result = await deployer(target).deploy(Request(release=OLD))

    assert (result.outcome, result.exit_code, target.world["calls"]) == (Outcome.ALREADY, 0, calls)
    assert [one.outcome for one in await read_history(target.state)] == [Outcome.SUCCEEDED, Outcome.ALREADY]


async def test_going_back_is_a_deployment_like_any_other(tmp_path: Path) -> None:
    """By the same steps."""
    target = await _with_old(tmp_path)
    await deployer(target).deploy(Request(release=NEW))

    result = await deployer(target).deploy(Request(release=OLD, kind="rollback", actor="ann"))

    assert (result.outcome, result.release) == (Outcome.SUCCEEDED, OLD.id)
    last = (await read_history(target.state))[-1]
    assert (last.kind, last.old, last.new, last.actor) == ("rollback", NEW.id, OLD.id, "ann")


async def test_an_unfit_target_is_told_before_anything_is_locked(tmp_path: Path) -> None:
    """Nothing is recorded."""
    target = FakeTarget(tmp_path, {"check": "the disk is full"})

    with pytest.raises(TargetFailed, match="the disk is full"):
        await deployer(target).deploy(Request(release=NEW))

    assert await target.state.names("") == ()


async def test_the_deadline_is_one_for_all_steps(tmp_path: Path) -> None:
    """What is not done by then is undone."""
    import anyio

    class Slow(FixedJudge):
        async def watch(self, target: object, deployment: object, step: object) -> Verdict:
            await anyio.sleep(60)
            return self.verdict

    target = await _with_old(tmp_path)

    result = await deployer(target, judge=Slow(), deadline_s=0.3).deploy(Request(release=NEW))

    assert (result.outcome, result.reason) == (Outcome.ROLLED_BACK, "the deadline of 0.3 s is over")


async def test_an_interrupt_is_undone_too(tmp_path: Path) -> None:
    """The old release runs, and the result is there for whoever asks."""
    import anyio

    class Waiting(FixedJudge):
        async def watch(self, target: object, deployment: object, step: object) -> Verdict:
            scope.cancel()
            await anyio.sleep(60)
            return self.verdict

    target = await _with_old(tmp_path)
    subject = deployer(target, judge=Waiting())

    with anyio.CancelScope() as scope:
        await subject.deploy(Request(release=NEW))

    assert subject.result is not None
    assert (subject.result.outcome, subject.result.reason) == (Outcome.ROLLED_BACK, "it was interrupted")
    assert (await target.live()).running == {OLD.id}
