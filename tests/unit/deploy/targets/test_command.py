"""The target of commands: real scripts, in the order of every deployment."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from pipeline.config.delivery import Environment, HookSettings
from pipeline.config.values import Command
from pipeline.deploy.execute import Deployer, Request
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.secrets import keep_secrets
from pipeline.deploy.state import LocalState
from pipeline.deploy.target import Deployment, Fenced, Live, TargetFailed, TargetUnfit
from pipeline.deploy.targets.command import CommandTarget
from tests.unit.deploy.doubles import deployer, release

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.deploy.release import Release

pytestmark = pytest.mark.anyio
OLD, NEW = release(1), release(2)


def _sh(text: str) -> Command:
    return Command(("sh", "-c", text))


# What runs is a file with the release's id; `said` is what the commands were told.
START = _sh('echo "start $PIPELINE_VERSION $PIPELINE_IMAGE_API" >> said; echo $PIPELINE_RELEASE > runs')
IN_PLACE = HookSettings(start=START, live=_sh("cat runs 2>/dev/null || true"), ready=_sh("test -s runs"))
SWITCHED = HookSettings(
    start=_sh('echo "start $PIPELINE_VERSION" >> said'),
    ready=_sh("echo well"),
    preview=_sh("echo http://preview.invalid"),
    shift=_sh('echo "shift $PIPELINE_SHARE" >> said'),
    drain=_sh('echo "drain $PIPELINE_VERSION" >> said'),
    remove=_sh('echo "remove $PIPELINE_VERSION" >> said'),
    logs=_sh("echo it broke"),
)


def _target(folder: Path, hooks: HookSettings) -> CommandTarget:
    environment = Environment(name="staging", target="command", commands=hooks)
    return CommandTarget(environment, LocalState(folder / "state"), folder)


async def _deploy(target: CommandTarget, new: Release, strategy: str, **more: object) -> Deployer:
    subject = deployer(target, strategy=strategy, **more)  # type: ignore[arg-type]  # its arguments
    await subject.deploy(Request(release=new))
    return subject


def _outcome(subject: Deployer) -> Outcome | None:
    return subject.result.outcome if subject.result else None


def _said(folder: Path) -> list[str]:
    return (folder / "said").read_text().splitlines()


async def test_one_command_is_enough_where_it_replaces_what_runs(tmp_path: Path) -> None:
    """It knows version and image; going back is the same command for the old release."""
    target = _target(tmp_path, IN_PLACE)

    for new in (OLD, NEW, OLD):
        await _deploy(target, new, "recreate")

    assert _said(tmp_path) == [f"start {one.version} {one.services['api'].image}" for one in (OLD, NEW, OLD)]
    assert (await target.live()).release == OLD.id


async def test_what_is_not_ready_is_replaced_by_what_was(tmp_path: Path) -> None:
    """By the same command."""
    await _deploy(_target(tmp_path, IN_PLACE), OLD, "recreate")
    ready = _sh(f"test $PIPELINE_RELEASE = {OLD.id} || {{ echo no route; exit 1; }}")

    subject = await _deploy(_target(tmp_path, replace(IN_PLACE, ready=ready)), NEW, "recreate")

    assert subject.result is not None
    assert _outcome(subject) is Outcome.ROLLED_BACK
    assert subject.result.reason.endswith("`api/command` is not ready after 0.05 s: no route")
    assert (tmp_path / "runs").read_text().strip() == OLD.id


async def test_with_a_switch_every_strategy_but_rolling_can_be_used(tmp_path: Path) -> None:
    """In the order of all targets."""
    target = _target(tmp_path, SWITCHED)
    await _deploy(target, OLD, "blue_green")
    (tmp_path / "said").unlink()

    await _deploy(target, NEW, "canary")

    assert _said(tmp_path) == [
        "start 1.0.2", "shift 5", "shift 25", "shift 50", "shift 100", "drain 1.0.1"
    ]  # fmt: skip
    assert await target.live() == Live(
        shares={NEW.id: 100}, running=frozenset({NEW.id}), here=frozenset({OLD.id, NEW.id})
    )


async def test_a_failure_gives_the_traffic_back_first(tmp_path: Path) -> None:
    """And keeps what the command for logs prints."""
    await _deploy(_target(tmp_path, SWITCHED), OLD, "blue_green")
    (tmp_path / "said").unlink()
    broken = replace(SWITCHED, drain=_sh("echo stuck; exit 3"))
    evidence: dict[str, bytes] = {}

    subject = await _deploy(_target(tmp_path, broken), NEW, "blue_green", evidence=evidence)

    assert _outcome(subject) is Outcome.ROLLED_BACK
    assert _said(tmp_path)[:3] == ["start 1.0.2", "shift 100", "shift 0"]
    assert "remove 1.0.2" in _said(tmp_path)
    assert evidence == {"command.log": b"it broke\n"}
    assert subject.result is not None
    assert "ended with code 3: stuck" in subject.result.reason


@pytest.mark.parametrize(("strategy", "refused"), [("rolling", True), ("canary", True), ("recreate", False)])
def test_what_commands_cannot_do_is_refused(strategy: str, refused: bool, tmp_path: Path) -> None:
    """With the reason."""
    why = _target(tmp_path, IN_PLACE).find_refusal(strategy)  # type: ignore[arg-type]  # one of four words

    assert bool(why) is refused


def _deployment(fence: int = 1, new: Release = NEW) -> Deployment:
    return Deployment(id="d-1", environment=Environment(name="staging"), new=new, old=OLD, fence=fence)


async def test_a_program_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    """By its key."""
    target = _target(tmp_path, replace(IN_PLACE, drain=Command(("./drain.sh",))))

    with pytest.raises(TargetUnfit, match=r"cannot run `commands\.drain`: `\./drain\.sh` is no program"):
        await target.check(_deployment())


async def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """Its words are kept."""
    target = _target(tmp_path, IN_PLACE)
    script = "sleep 60 & echo $! > child; echo waiting; wait"

    with pytest.raises(TargetFailed, match=r"did not end within 0\.5 s") as told:
        await target.run(_deployment(), "api", _sh(script), 0.5)

    child = (tmp_path / "child").read_text().strip()
    with anyio.fail_after(5):
        while await anyio.Path(f"/proc/{child}/exe").exists():
            await anyio.sleep(0.01)
    assert told.value.logs == "waiting\n"


async def test_an_earlier_deployer_changes_nothing_any_more(tmp_path: Path) -> None:
    """Its number is lower than one that was seen."""
    target = _target(tmp_path, SWITCHED)
    await target.start(_deployment(fence=7), 1)

    with pytest.raises(Fenced, match="our lock has number 6, by now there is 7"):
        await target.shift(_deployment(fence=6), 100)

    assert _said(tmp_path) == ["start 1.0.2"]


async def test_secrets_are_variables_of_the_commands(tmp_path: Path) -> None:
    """Never words of a command line."""
    target = _target(tmp_path, IN_PLACE)
    versions = await keep_secrets(target.state, {"TOKEN": "hunter2"})
    service = replace(NEW.services["api"], secrets=versions)

    said = await target.run(
        _deployment(new=replace(NEW, services={"api": service})), "api", _sh("echo $TOKEN"), 5
    )

    assert said == "hunter2\n"


async def test_a_live_command_that_prints_something_else_is_told(tmp_path: Path) -> None:
    """Rather than believed."""
    target = _target(tmp_path, replace(IN_PLACE, live=_sh("echo 200 OK")))

    with pytest.raises(TargetFailed, match=r"`commands\.live` printed `200 OK`, no release"):
        await target.live()
