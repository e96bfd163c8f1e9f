"""Brings releases to environments: opens their targets and hands a deployment all that it needs from others.

Stages and commands share it. What may be deployed is decided in `authorise`, what is in a release in
`releases`; the order of a deployment is `deploy.execute`'s.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from pipeline.config.environments import load_environment
from pipeline.config.lock import load_lock
from pipeline.config.values import Seconds
from pipeline.deploy.act import Helpers
from pipeline.deploy.execute import Deployer
from pipeline.deploy.history import load_release, read_history
from pipeline.deploy.lease import Holder, Lock
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.secrets import find_versions, keep_secrets
from pipeline.deploy.watch import Watch
from pipeline.errors import PipelineError, UsageError
from pipeline.stages.releases import Parts, images_of, make_release, secret_values

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.config import Config
    from pipeline.config.delivery import Environment
    from pipeline.deploy.act import Judge
    from pipeline.deploy.history import Entry, Kind
    from pipeline.deploy.outcome import Told
    from pipeline.deploy.policy import Decision
    from pipeline.deploy.release import Release
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment, Target, Traffic

    Opener: TypeAlias = Callable[["Delivery", Environment], Target]

BACKUP_LIMIT_S: Final = 3600.0
CLOSE_LIMIT_S: Final = 5.0
ROLLBACK_BAKE_S: Final = 5.0


class TargetUnknown(UsageError):
    """There is nothing here that opens targets of that kind."""

    def __init__(self, environment: str, kind: str, known: Sequence[str]) -> None:
        names = ", ".join(f"`{name}`" for name in known)
        super().__init__(f"cannot open `{environment}`: there is no target `{kind}` here, but {names}")


class BackupFailed(PipelineError):
    """The backup before a deployment was not made; nothing was changed."""

    def __init__(self, environment: str, what: str) -> None:
        super().__init__(f"cannot back up `{environment}`: {what}")


class ReleaseUnknown(UsageError):
    """No release of that name has ever come to stay in an environment."""

    def __init__(self, environment: str, wanted: str) -> None:
        super().__init__(f"cannot find release `{wanted}`: it has never come to stay in `{environment}`")
        self.hint = f"`pipeline history {environment}` shows what it has had"


class NothingToGoBackTo(UsageError):
    """No other release than the one that runs has ever come to stay."""

    def __init__(self, environment: str) -> None:
        super().__init__(f"cannot roll back `{environment}`: it has had no other release that came to stay")


async def _allow(_asked: Asked, _deployment: Deployment, _steps: Sequence[Step]) -> Decision | None:
    """Allow it."""
    return None


def _tell_nobody(_told: Told) -> None:
    """Tell nobody."""


def _keep_nothing(_files: Mapping[str, bytes]) -> None:
    """Keep no evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody asks for, as far as it decides whether they may have it."""

    environment: Environment
    target: Target
    kind: Kind = "deploy"
    allow_older: bool = False
    break_glass: str = ""  # the reason for passing over rules


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One project and somebody who deploys it.

    `authorise` raises `RefusedByPolicy`; `keep` stores evidence by file name; `secret` knows values by name.
    """

    root: Path
    config: Config
    state: Path  # the project's own folder of state
    openers: Mapping[str, Opener]
    actor: str
    run: str
    secret: Callable[[str], str | None] = os.environ.get
    authorise: Callable[[Asked, Deployment, Sequence[Step]], Awaitable[Decision | None]] = _allow
    tell: Callable[[Told], None] = _tell_nobody
    keep: Callable[[Mapping[str, bytes]], None] = _keep_nothing
    judge: Judge | None = None  # None: by the environment's settings

    def environment(self, name: str) -> Environment:
        """Return the settings of an environment.

        Raises:
            UsageError: There is none of that name, or its settings cannot be used.
        """
        return load_environment(self.root, self.config, name)

    @asynccontextmanager
    async def opened(self, environment: Environment) -> AsyncIterator[Target]:
        """Lend the environment's target; what runs there goes on afterwards.

        Raises:
            TargetUnknown: Nothing opens targets of its kind.
        """
        opener = self.openers.get(environment.target)
        if opener is None:
            raise TargetUnknown(environment.name, environment.target, list(self.openers))
        target = opener(self, environment)
        try:
            yield target
        finally:
            # Shielded, or an interrupt would leave connections; bounded, or a dead host would keep us.
            with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
                await target.close()

    def lock_of(self, environment: Environment, target: Target) -> Lock:
        """Return the environment's lock, for us."""
        return Lock(
            state=target.state,
            environment=environment.name,
            holder=Holder.of_this_process(self.actor, self.run),
            ttl_s=environment.deploy.lock_ttl_s,
        )

    def deployer(self, asked: Asked) -> Deployer:
        """Return what brings releases to an environment."""
        environment = settings_for(asked.environment, asked.kind)
        lock = self.lock_of(environment, asked.target)
        return Deployer(
            environment=environment, target=asked.target, lock=lock, helpers=self._helpers(asked, lock)
        )

    async def plan_release(self, environment: Environment, target: Target, parts: Parts) -> Release:
        """Return the release an environment would get now; values of secrets are not kept yet.

        Raises:
            UsageError: An image or the value of a secret is missing.
        """
        values = secret_values(environment, self.secret)
        return make_release(environment, parts, await find_versions(target.state, values))

    async def proved_parts(self, source: str, wanted: str = "") -> Parts:
        """Return the images of what runs in an environment, or of a release that has come to stay there.

        Raises:
            NothingToPromote: It has proved nothing of that name.
        """
        from pipeline.deploy.promotion import choose_release

        async with self.opened(self.environment(source)) as target:
            entry = choose_release(source, await read_history(target.state), wanted)
            release = await load_release(target.state, entry.new)
        if release is None:
            raise ReleaseUnknown(source, entry.new)
        return Parts(
            images=images_of(release),
            pins=load_lock(self.root).names,
            commit=release.commit,
            version=release.version,
        )

    def _helpers(self, asked: Asked, lock: Lock) -> Helpers:
        from pipeline.stages.auditing import Chronicle

        chronicle = Chronicle(delivery=self, asked=asked)

        async def keep_values() -> None:
            if asked.kind != "rollback":  # what is gone back to has its own, which are kept
                await keep_secrets(asked.target.state, secret_values(asked.environment, self.secret))

        async def authorise(deployment: Deployment, steps: Sequence[Step]) -> None:
            await chronicle.authorise(deployment, steps)
            await keep_values()

        async def smoke(deployment: Deployment, urls: Mapping[str, str]) -> None:
            await check_smoke(deployment, urls, self.keep)

        async def pending(deployment: Deployment) -> bool:
            if asked.kind == "rollback":
                return False
            if asked.environment.deploy.migrations.pending is not None:
                await keep_values()  # the command that looks for migrations runs with them
            return await is_pending(asked.target, lock, deployment)

        return Helpers(
            judge=self.judge or Watch(visit=visits_of(asked.environment, asked.target)),
            authorise=authorise,
            smoke=smoke,
            pending=pending,
            backup=lambda deployment: back_up(deployment, self.root),
            keep=self.keep,
            tell=chronicle.tell,
            ended=chronicle.ended,
        )


def address_of(environment: Environment, target: Target) -> str:
    """Return the URL where people reach an environment; on this machine the target knows one; "" for none."""
    from pipeline.deploy.targets.local import LocalTarget

    own = target.address if isinstance(target, LocalTarget) else ""
    return environment.address or own


def visits_of(environment: Environment, target: Target) -> Callable[[Deployment, float], Awaitable[Traffic]]:
    """Return what sends our own requests to where people reach the environment, if that is known."""

    async def visits(deployment: Deployment, seconds: float) -> Traffic:
        from pipeline.deploy.smoke import visit

        return await visit(deployment, address_of(environment, target), seconds)

    return visits


def settings_for(environment: Environment, kind: Kind) -> Environment:
    """Return the settings a deployment of that kind goes by.

    Going back analyses nothing: the release has run before, and what it goes back from is bad. It keeps the
    health gate and the smoke checks, and has no canary, which would keep most of the traffic on the bad one.
    """
    if kind != "rollback":
        return environment
    deploy = environment.deploy
    return replace(
        environment,
        deploy=replace(
            deploy,
            strategy="blue_green" if deploy.strategy == "canary" else deploy.strategy,
            bake_s=Seconds(min(deploy.bake_s, ROLLBACK_BAKE_S)),
            canary=replace(deploy.canary, on_inconclusive="promote"),
            on_failure="rollback",
            backup=None,
        ),
    )


async def check_smoke(
    deployment: Deployment, urls: Mapping[str, str], keep: Callable[[Mapping[str, bytes]], None]
) -> None:
    """Make the smoke checks of a release and keep what they said, `smoke.json`.

    Raises:
        SmokeFailed: One did not pass.
        NothingToSmoke: There are none.
    """
    import dataclasses
    import json

    from pipeline.deploy.smoke import Smoked, SmokeFailed, smoke

    def record(done: Sequence[Smoked]) -> None:
        text = json.dumps([dataclasses.asdict(one) for one in done], indent=2)
        keep({"smoke.json": text.encode()})

    try:
        done = await smoke(deployment, urls)
    except SmokeFailed as failed:
        record(failed.done)
        raise
    record(done)


async def is_pending(target: Target, lock: Lock, deployment: Deployment) -> bool:
    """Say whether migrations are to be done: where nothing can tell, whenever any are declared."""
    from pipeline.deploy.act import migrating_service

    migrations = deployment.environment.deploy.migrations
    if migrations.expand is None:
        return False
    if migrations.pending is None:
        return True
    # It changes nothing; a target takes it from whoever is not behind the last deployment.
    looking = replace(deployment, fence=deployment.fence or (await lock.look()).fence)
    service = migrating_service(deployment)
    said = await target.run(looking, service, migrations.pending, migrations.timeout_s)
    return bool(said.strip())


async def back_up(deployment: Deployment, root: Path) -> str:
    """Run the environment's backup command on this machine, and return the last line it printed.

    Raises:
        BackupFailed: It ended with another code than 0, took more than an hour, or named no backup.
    """
    environment = deployment.environment
    variables = {
        **os.environ,
        "PIPELINE_ENVIRONMENT": environment.name,
        "PIPELINE_RELEASE": deployment.new.id,
    }
    argv = list(environment.deploy.backup or ())
    try:
        with anyio.fail_after(BACKUP_LIMIT_S):
            done = await anyio.run_process(argv, cwd=root, env=variables, check=False, stderr=subprocess.PIPE)
    except TimeoutError as error:
        raise BackupFailed(environment.name, f"`{argv[0]}` did not end in {BACKUP_LIMIT_S:g} s") from error
    except OSError as error:
        raise BackupFailed(environment.name, f"`{argv[0]}`: {error.strerror or error}") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        what = f"`{argv[0]}` ended with code {done.returncode}"
        raise BackupFailed(environment.name, ": ".join([what, *said]))
    if not lines:
        raise BackupFailed(environment.name, f"`{argv[0]}` printed nothing that names the backup")
    return lines[-1].strip()


def find_entry(history: Sequence[Entry], environment: str, wanted: str) -> Entry:
    """Return the last deployment of a release that came to stay, by id, version or beginning of a commit.

    What was only tried counts for nothing: who goes back is asked less than who deploys.

    Raises:
        ReleaseUnknown: It never came to stay, or several begin like that.
    """
    good = [one for one in history if one.outcome is Outcome.SUCCEEDED]
    exact = [one for one in good if wanted in (one.new, one.version)]
    near = [one for one in good if one.new.startswith(wanted) or one.commit.startswith(wanted)]
    found = exact or (near if len(wanted) >= 4 else [])
    if not found or len({one.new for one in found}) > 1:
        raise ReleaseUnknown(environment, wanted)
    return found[-1]


async def release_to_go_back_to(environment: Environment, target: Target, wanted: str = "") -> Release:
    """Return a release of the environment's history: that one, or without a name the last good one.

    Raises:
        ReleaseUnknown: It has never had that one.
        NothingToGoBackTo: There is no other than the one that runs.
    """
    from pipeline.deploy.history import last_good

    history = await read_history(target.state)
    live = await target.live()
    name = find_entry(history, environment.name, wanted).new if wanted else ""
    name = name or last_good(history, other_than=live.release)
    if not name:
        raise NothingToGoBackTo(environment.name)
    release = await load_release(target.state, name)
    if release is None:
        raise ReleaseUnknown(environment.name, name)
    return release


async def live_release(target: Target) -> Release | None:
    """Return the release that has all the traffic; None when there is none that is known."""
    live = await target.live()
    return await load_release(target.state, live.release) if live.release else None
