"""What the stages of delivery share: the run's environments, and a deployment whose end is the stage's."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config import load_config
from pipeline.config.environments import load_environment
from pipeline.deploy.execute import Request
from pipeline.deploy.outcome import EXIT_CODES, Outcome
from pipeline.errors import RefusedByPolicy
from pipeline.graph.context import CheckFailed
from pipeline.graph.outcome import Failure
from pipeline.stages.delivery import Asked, Delivery
from pipeline.stages.results import Deployed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config import Config
    from pipeline.config.delivery import Environment
    from pipeline.deploy.history import Kind
    from pipeline.deploy.outcome import Result, Told
    from pipeline.deploy.release import Release
    from pipeline.graph.context import Context
    from pipeline.stages.releases import Parts


def chain_to(root: Path, config: Config, name: str) -> tuple[str, ...]:
    """Return the environments a release goes through on its way: the one that takes what was built, first."""
    found: list[str] = []
    while name and name not in found:
        found.insert(0, name)
        one = load_environment(root, config, name)
        name = "" if one.direct else one.promote_from or ""
    return tuple(found)


def delivery_of(ctx: Context) -> Delivery:
    """Return the project's deliveries as a stage has them: told in its log, evidence among its files."""
    from pipeline.stages.authorise import authorise_by
    from pipeline.stages.targets import OPENERS

    def keep(files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            ctx.keep(name, data)

    def tell(told: Told) -> None:
        took = f" {told.seconds:.1f} s" if told.seconds is not None else ""
        text = ": ".join(filter(None, (f"{told.step} {told.what}{took}".strip(), told.text)))
        ctx.log(f"{text}\n")

    delivery = Delivery(
        root=ctx.root,
        config=load_config(ctx.root),
        state=ctx.root / ".pipeline",
        openers=OPENERS,
        actor=actor_of(ctx.root, os.environ),
        run=ctx.run_id,
        keep=keep,
        tell=tell,
    )
    return replace(delivery, authorise=authorise_by(delivery))


def actor_of(root: Path, environ: Mapping[str, str]) -> str:
    """Return who asks: whom the CI names, else git's `user.email`, else the user of this machine."""
    import getpass
    import subprocess

    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if environ.get(name):
            return environ[name]
    try:
        argv = ["git", "config", "user.email"]
        done = subprocess.run(argv, cwd=root, capture_output=True, timeout=10, check=False)
        said = done.stdout.decode(errors="replace").strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    return said or getpass.getuser()


async def deploy_parts(delivery: Delivery, environment: Environment, parts: Parts, kind: Kind) -> Deployed:
    """Bring images to an environment.

    Raises:
        CheckFailed: It was refused, or did not stay; says what runs now.
    """
    async with delivery.opened(environment) as target:
        release = await delivery.plan_release(environment, target, parts)
        return await deploy_release(
            delivery, Asked(environment=environment, target=target, kind=kind), release
        )


async def deploy_release(delivery: Delivery, asked: Asked, release: Release) -> Deployed:
    """Bring a release to an environment; raises as `deploy_parts`."""
    request = Request(release=release, kind=asked.kind, actor=delivery.actor, run=delivery.run)
    try:
        result = await delivery.deployer(asked).deploy(request)
    except RefusedByPolicy as error:
        raise CheckFailed(Failure(message=str(error), hint=error.hint or "")) from error
    if result.outcome not in (Outcome.SUCCEEDED, Outcome.ALREADY):
        raise CheckFailed(failure_of(asked.environment.name, result))
    return Deployed(
        environment=asked.environment.name,
        deployment=result.deployment,
        release=release.id,
        outcome=str(result.outcome),
        images={name: one.image_digest for name, one in release.services.items()},
    )


def failure_of(environment: str, result: Result) -> Failure:
    """Return what people need of a deployment that did not stay."""
    runs = (
        f"`{environment}` runs `{result.release}`"
        if result.release
        else f"nothing is known of `{environment}`"
    )
    waits = f"`pipeline deploy {environment} --continue`, or `pipeline rollback {environment}`"
    return Failure(
        message=f"the deployment to `{environment}` ended: {result.outcome}: {result.reason}; {runs}",
        exit_code=EXIT_CODES[result.outcome],
        tail=result.problems,
        hint=waits if result.outcome is Outcome.WAITING else f"`pipeline status {environment}`",
    )
