"""What the commands of deliveries share: who asks, how a deployment is carried out and interrupted, and told.

A deployment's records lie beside what runs; what was seen on the way is kept in `.pipeline/deployments/RUN`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pipeline.cli.delivery_words import Ended, Plan, line_of, show_end, show_plan
from pipeline.cli.options import duration_value
from pipeline.cli.output import say
from pipeline.cli.project import STATE, find_root, keep_out_of_git
from pipeline.errors import (
    EXIT_OK,
    EXIT_RESUMABLE,
    RefusedByPolicy,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pipeline.config.delivery import Environment
    from pipeline.deploy.execute import Deployer
    from pipeline.deploy.history import Kind
    from pipeline.deploy.outcome import Result, Told
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target
    from pipeline.stages.delivery import Asked, Delivery
    from pipeline.stages.releases import Parts

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")

EVIDENCE: Final = "deployments"
WAIT: Final = "15m"
"""How long `--wait` waits when no time is said."""


class NothingWaits(UsageError):
    """No deployment waits for somebody's word."""

    def __init__(self, environment: str) -> None:
        super().__init__(f"cannot go on in `{environment}`: no deployment waits there")


class NothingPushed(UsageError):
    """No run here has pushed images, and none were named."""

    def __init__(self, environment: str) -> None:
        super().__init__(f"cannot deploy to `{environment}`: no run here has pushed images")
        self.hint = f"`pipeline run --env {environment}`, or name them with `--image NAME=REFERENCE`"


def open_delivery(directory: str | None, *, quiet: bool = False) -> Delivery:
    """Return the project's deliveries, for whoever runs this command.

    Args:
        quiet: Tell nothing while a deployment goes on.
    """
    from pipeline.config import load_config
    from pipeline.graph.record import new_run_id
    from pipeline.stages.authorise import authorise_by
    from pipeline.stages.delivery import Delivery
    from pipeline.stages.deploying import actor_of
    from pipeline.stages.targets import OPENERS

    root = find_root(directory)
    run = new_run_id(time.time())
    folder = root / STATE / EVIDENCE / run
    delivery = Delivery(
        root=root,
        config=load_config(root),
        state=root / STATE,
        openers=OPENERS,
        actor=actor_of(root, os.environ),
        run=run,
        keep=keeper(folder),
        tell=teller(folder, say=None if quiet else say),
    )
    return replace(delivery, authorise=authorise_by(delivery))


def keeper(folder: Path) -> Callable[[Mapping[str, bytes]], None]:
    """Return what keeps evidence in a folder, which only its owner may read."""

    def keep(files: Mapping[str, bytes]) -> None:
        _make(folder)
        for name, data in files.items():
            path = folder / name.replace("/", "-")
            path.write_bytes(data)

    return keep


def teller(folder: Path, *, say: Callable[[str], None] | None) -> Callable[[Told], None]:
    """Return what writes down what a deployment tells, `events.jsonl`, and says it to people."""

    def tell(told: Told) -> None:
        _make(folder)
        with open(folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": time.time(), **asdict(told)}, default=str) + "\n")
        text = line_of(told)
        if say is not None and text:
            say(text)

    return tell


def _make(folder: Path) -> None:
    keep_out_of_git(folder.parent.parent)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def carry_out(act: Callable[[], Awaitable[T]]) -> T | None:
    """Run `act` until it ends; None when it was interrupted and has left nothing behind.

    The first interrupt lets a deployment undo what it has done; the second ends the process at once, with the
    code that says that the next deployer resolves it.
    """
    import asyncio

    return asyncio.run(_until_interrupted(act))


async def _until_interrupted(act: Callable[[], Awaitable[T]]) -> T | None:
    import asyncio

    import anyio

    from pipeline.deploy.execute import UNDO_LIMIT_S
    from pipeline.graph.signals import Interrupts

    loop, scope = asyncio.get_running_loop(), anyio.CancelScope()

    def stop(name: str) -> None:
        loop.call_soon_threadsafe(end, name)

    def end(name: str) -> None:
        say(f"{name}: undoing; a second one leaves it as it is, for the next deployer to resolve")
        scope.cancel()

    interrupts = Interrupts(
        stop=stop,
        last_words=lambda reason, _: f"{reason}; the next deployer resolves what was begun",
        grace_s=UNDO_LIMIT_S,
        code=EXIT_RESUMABLE,
    )
    with interrupts, scope:
        return await act()
    return None


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a command asks for: a release by what makes or finds it, once the target is open."""

    environment: str
    release_of: Callable[[Environment, Target], Awaitable[Release]]
    kind: Kind = "deploy"
    wait_s: float = 0.0
    allow_older: bool = False
    break_glass: str = ""
    reason: str = ""

    def asked(self, environment: Environment, target: Target) -> Asked:
        """Return it with the environment it is about."""
        from pipeline.stages.delivery import Asked

        return Asked(
            environment=environment,
            target=target,
            kind=self.kind,
            allow_older=self.allow_older,
            break_glass=self.break_glass,
        )


def fulfil(delivery: Delivery, wish: Wish, *, plan: bool, as_json: bool) -> int:
    """Carry out a wish, or show what that would do; return the exit code."""
    import asyncio

    if plan:
        return show_plan(asyncio.run(plan_wish(delivery, wish)), as_json=as_json)
    begun: list[Deployer] = []
    result = carry_out(lambda: bring(delivery, wish, begun.append))
    if result is None and begun:
        result = begun[0].result
    return show_end(Ended(environment=wish.environment, result=result), as_json=as_json)


async def bring(delivery: Delivery, wish: Wish, began: Callable[[Deployer], None]) -> Result:
    """Bring what is wished for to the environment; `began` gets what does it, before it does anything.

    Raises:
        PipelineError: It was refused, or failed before anything was changed.
    """
    from pipeline.config.values import Seconds
    from pipeline.deploy.execute import Request

    environment = delivery.environment(wish.environment)
    if wish.wait_s:
        deploy = replace(environment.deploy, lock_wait_s=Seconds(wish.wait_s))
        environment = replace(environment, deploy=deploy)
    async with delivery.opened(environment) as target:
        release = await wish.release_of(environment, target)
        deployer = delivery.deployer(wish.asked(environment, target))
        began(deployer)
        request = Request(
            release=release,
            kind=wish.kind,
            actor=delivery.actor,
            run=delivery.run,
            reason=wish.break_glass or wish.reason,
        )
        return await deployer.deploy(request)


async def plan_wish(delivery: Delivery, wish: Wish) -> Plan:
    """Plan it, and ask the rules and the target about it; changes nothing."""
    from pipeline.deploy.steps import plan_digest
    from pipeline.deploy.target import TargetUnfit

    environment = delivery.environment(wish.environment)
    async with delivery.opened(environment) as target:
        release = await wish.release_of(environment, target)
        asked = wish.asked(environment, target)
        deployment, steps = await delivery.deployer(asked).plan(release)
        refused, code = "", EXIT_OK
        try:
            await delivery.authorise(asked, deployment, steps)
            await target.check(deployment)
        except (RefusedByPolicy, TargetUnfit) as error:
            refused, code = str(error), error.exit_code
    digest = plan_digest(environment.name, release.id, steps)
    return Plan(deployment=deployment, steps=steps, digest=digest, refused=refused, exit_code=code)


def settle(delivery: Delivery, name: str, *, forward: bool, as_json: bool) -> int:
    """Let the deployment that waits go on, or undo it; return the exit code.

    Raises:
        NothingWaits: There is none.
    """
    begun: list[Deployer] = []

    async def act() -> Result | None:
        from pipeline.stages.delivery import Asked

        environment = delivery.environment(name)
        async with delivery.opened(environment) as target:
            kind: Kind = "deploy" if forward else "rollback"
            deployer = delivery.deployer(Asked(environment=environment, target=target, kind=kind))
            result = await deployer.resolve(forward=forward)
            if result is None:
                raise NothingWaits(name)
            begun.append(deployer)
            return result

    result = carry_out(act)
    if result is None and begun:
        result = begun[0].result
    return show_end(Ended(environment=name, result=result), as_json=as_json)


def last_pushed(state: Path) -> Parts | None:
    """Return what the newest run that pushed images has pushed; None without one."""
    from pipeline.graph.history import list_runs
    from pipeline.stages.push import parts_of_run

    for run in reversed(list_runs(state / "runs")):
        parts = parts_of_run(run)
        if parts is not None:
            return parts
    return None


def wish_options(function: F) -> F:
    """Add the options of every command that deploys; they arrive as one mapping with the names below."""
    for option in reversed(
        [
            click.option("--plan", is_flag=True, help="Show what would be done, and change nothing."),
            click.option(
                "--wait",
                metavar="[TIME]",
                is_flag=False,
                flag_value=WAIT,
                callback=duration_value,
                help=f"Wait for somebody else's lock, {WAIT} if no TIME is said.",
            ),
            click.option("--reason", metavar="TEXT", default="", help="Why; kept in the history."),
            click.option(
                "--break-glass",
                metavar="REASON",
                default="",
                help="Pass over the rules, for who may; REASON is kept.",
            ),
        ]
    ):
        function = option(function)
    return function


def wait_s(text: str | None) -> float:
    """Return a checked duration in seconds; 0 for none."""
    from pipeline.config.check import parse_duration

    return (parse_duration(text) or 0.0) if text is not None else 0.0
