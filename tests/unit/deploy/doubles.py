"""What tests of deployments are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.config.delivery import (
    DeployedService,
    DeploySettings,
    Environment,
    MigrationSettings,
    ReadySettings,
)
from pipeline.config.values import Command, Count, Seconds
from pipeline.deploy.act import Helpers
from pipeline.deploy.execute import Deployer
from pipeline.deploy.lease import Holder, Lock
from pipeline.deploy.outcome import Told, Verdict
from pipeline.deploy.release import Release, ReleasedService

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment, Target

QUICK = ReadySettings(
    tcp=None,
    interval_s=Seconds(0.001),
    passes=Count(1),
    healthy_for_s=Seconds(0.001),
    deadline_s=Seconds(0.05),
)
API = DeployedService(health=QUICK)


def release(number: int, settings: DeployedService = API, **more: DeployedService) -> Release:
    """Return a release of a service `api`, other for each number; `more` are further services."""
    image = f"registry.invalid/api@sha256:{number:064x}"
    services = {"api": settings, **more}
    return Release(
        services={name: ReleasedService(image=image, settings=one) for name, one in services.items()},
        commit=f"{number:040x}",
        version=f"1.0.{number}",
    )


@dataclass
class FixedJudge:
    """Gives the same verdict always."""

    verdict: Verdict = field(default_factory=lambda: Verdict(decision="pass", reason="0 errors"))

    async def watch(self, target: Target, deployment: Deployment, step: Step) -> Verdict:
        return self.verdict


async def _allow(deployment: Deployment, steps: Sequence[Step]) -> None:
    """Allow."""


async def _look(deployment: Deployment, urls: Mapping[str, str]) -> None:
    """Find everything well."""


async def _back_up(deployment: Deployment) -> str:
    return "backup-1"


def deployer(
    target: Target,
    *,
    strategy: Any = "blue_green",
    migrates: bool = False,
    judge: FixedJudge | None = None,
    told: list[Told] | None = None,
    evidence: dict[str, bytes] | None = None,
    actor: str = "ann",
    ttl_s: float = 60.0,
    **settings: Any,
) -> Deployer:
    """Return a deployer to an environment `staging` at `target`."""

    async def pending(_: Deployment) -> bool:
        return migrates

    migrations = MigrationSettings(expand=Command(("migrate", "up")))
    environment = Environment(
        name="staging", deploy=DeploySettings(strategy=strategy, migrations=migrations, **settings)
    )
    helpers = Helpers(
        judge=judge or FixedJudge(),
        authorise=_allow,
        smoke=_look,
        pending=pending,
        backup=_back_up,
        tell=(told if told is not None else []).append,
        keep=(evidence if evidence is not None else {}).update,
    )
    holder = Holder.of_this_process(actor, "run-1")
    lock = Lock(state=target.state, environment="staging", holder=holder, ttl_s=ttl_s)
    return Deployer(environment=environment, target=target, lock=lock, helpers=helpers)
