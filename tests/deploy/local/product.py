"""A product to deploy to the target `local`: its image, its releases, and the deployer of its environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.delivery import DeployedService, DeploySettings, Environment, ReadySettings
from pipeline.config.values import Count, Port, Seconds
from pipeline.connect import Target, open_session
from pipeline.deploy.release import Release, ReleasedService
from pipeline.deploy.state import LocalState
from pipeline.deploy.targets.archives import archive_digests
from pipeline.deploy.targets.local import LocalTarget
from pipeline.engine.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.events import EngineEvent

APP: Final = Path(__file__).with_name("app.py")
IMAGE: Final = "python:3.11-slim"
HEALTH: Final = ReadySettings(
    path="/health",
    interval_s=Seconds(0.1),
    passes=Count(2),
    healthy_for_s=Seconds(0.2),
    deadline_s=Seconds(30.0),
    version="version",
)
WEB: Final = DeployedService(port=Port(8000), health=HEALTH)


async def build_image(folder: Path, store: Path) -> Path:
    """Build the image of the app, unless it is there, and return its archive."""
    archive = folder / "app.tar"
    if archive.exists():
        return archive

    def observe(_: EngineEvent) -> None:
        """Tell nobody."""

    settings = EngineSettings(store=str(store), image_fallback="recipe", idle_s=0.0)
    async with open_session(Target(kind="embedded"), settings, workdir=folder, observer=observe) as client:
        container = client.container().from_(IMAGE).with_new_file("/app.py", APP.read_text())
        container = container.with_default_args(["python", "-u", "/app.py"])
        await container.as_tarball().export(str(archive))
    return archive


def release_of(archive: Path, services: Mapping[str, DeployedService], version: str = "") -> Release:
    """A release in which every service runs the app."""
    image = f"app@{archive_digests(archive)[0]}"
    return Release(
        services={name: ReleasedService(image=image, settings=one) for name, one in services.items()},
        version=version,
    )


def local_target(folder: Path, archive: Path, *flags: str, **settings: Any) -> LocalTarget:
    """The environment `staging` in a folder, which is the project's root as well."""
    environment = Environment(name="staging", deploy=DeploySettings(**settings))
    return LocalTarget(
        environment=environment,
        state=LocalState(folder / "state"),
        holder=(sys.executable, "-m", "pipeline.cli.holder", str(folder), *flags),
        archives={archive_digests(archive)[0]: archive},
    )


def again(target: LocalTarget) -> LocalTarget:
    """The same environment, as another deployer comes to it."""
    return LocalTarget(
        environment=target.environment, state=target.state, holder=target.holder, archives=target.archives
    )


async def end_all(target: LocalTarget) -> None:
    """End all holders, as an end of the machine would, and the proxy."""
    for folder in sorted((target.state.folder / "units").glob("*")):
        await target.place.unit(folder.name).quit()
    target.place.proxy.stop()
