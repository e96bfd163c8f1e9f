"""The product that tests deploy to Docker hosts, and deployers of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.delivery import (
    DeployedService,
    DeploySettings,
    DrainSettings,
    Environment,
    ReadySettings,
)
from pipeline.config.values import Count, Port, Seconds
from pipeline.deploy.release import Release, ReleasedService
from pipeline.deploy.targets.docker import DockerTarget
from tests.unit.deploy.doubles import deployer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.deploy.execute import Deployer
    from pipeline.deploy.shell import Shell
    from tests.deploy.docker.bed import Bed, BedHost

READY: Final = ReadySettings(
    path="/health",
    interval_s=Seconds(0.2),
    timeout_s=Seconds(5.0),
    passes=Count(2),
    healthy_for_s=Seconds(0.2),
    deadline_s=Seconds(30.0),
    version="version",
)
WEB: Final = DeployedService(
    port=Port(8080),
    health=READY,
    drain=DrainSettings(timeout_s=Seconds(10.0), stop_timeout_s=Seconds(3.0)),
)


def release_of(
    images: Mapping[str, str],
    number: int,
    settings: DeployedService = WEB,
    secrets: Mapping[str, str] | None = None,
    **more: DeployedService,
) -> Release:
    """Return version 1.0.`number` of a service `web`, with further services of the same image."""
    image = images[str(number)]
    others = {name: ReleasedService(image=image, settings=one) for name, one in more.items()}
    web = ReleasedService(image=image, settings=settings, secrets=secrets or {})
    return Release(services={"web": web, **others}, version=f"1.0.{number}")


def environment(
    host: BedHost, images: Mapping[str, str], address: str, folder: Path, *more: str, **settings: Any
) -> Environment:
    """Return an environment `staging` on a host, by one of its addresses, and on `more` hosts."""
    return Environment(
        name="staging",
        target="docker",
        hosts=(address, *more),
        address=f"http://{host.address}:8088",
        proxy=images["proxy"],
        state=str(folder / "records"),
        deploy=DeploySettings(**settings),
    )


def target(bed: Bed, place: Environment, folder: Path) -> DockerTarget:
    """Come to the environment."""
    by_address = {address: one for one in bed.hosts.values() for address in (one.unix, one.ssh)}

    def open_shell(address: str) -> Shell:
        return by_address[address].shell(address)

    return DockerTarget(environment=place, folder=folder / "state", open_shell=open_shell)


def deployer_to(one: DockerTarget, **more: Any) -> Deployer:
    """Return a deployer to a target's environment."""
    made = deployer(one, **more)
    made.environment = replace(one.environment, deploy=made.environment.deploy)
    return made
