"""Opens the targets of environments: a table from the kind that settings name to what opens it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from pipeline.deploy.state import LocalState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config.delivery import Environment
    from pipeline.deploy.target import Target
    from pipeline.stages.delivery import Delivery, Opener

ENVIRONMENTS: Final = "environments"


def state_of(delivery: Delivery, environment: Environment) -> LocalState:
    """Return the records of an environment of this machine, below the project if its settings do not say."""
    named = environment.state
    folder = delivery.root / named if named else delivery.state / ENVIRONMENTS / environment.name
    return LocalState(folder)


def open_local(delivery: Delivery, environment: Environment) -> Target:
    """Return a target of this machine. Images that were not pushed come from the archives of past runs."""
    from pipeline.deploy.targets.local import LocalTarget

    return LocalTarget(
        environment=environment,
        state=state_of(delivery, environment),
        holder=(sys.executable, "-m", "pipeline.cli.holder", str(delivery.root)),
        archives=archives_of(delivery.state / "runs"),
    )


def open_command(delivery: Delivery, environment: Environment) -> Target:
    """Return a target that is changed by commands of the project."""
    from pipeline.deploy.targets.command import CommandTarget

    return CommandTarget(environment, state_of(delivery, environment), delivery.root)


def open_docker(delivery: Delivery, environment: Environment) -> Target:
    """Return a target of Docker hosts; the records are here if the first host is this machine."""
    from pipeline.deploy.targets.docker import DockerTarget

    return DockerTarget(environment=environment, folder=state_of(delivery, environment).folder)


def open_kubernetes(_delivery: Delivery, environment: Environment) -> Target:
    """Return a target in a cluster, which has the records as well."""
    from pipeline.deploy.targets.kubernetes import KubernetesTarget

    return KubernetesTarget(environment=environment)


OPENERS: Final[Mapping[str, Opener]] = {
    "local": open_local,
    "docker": open_docker,
    "kubernetes": open_kubernetes,
    "command": open_command,
}


def archives_of(runs: Path) -> dict[str, Path]:
    """Return the archives of images that past runs have kept, by the image's digest."""
    from pipeline.graph.history import list_runs, load_result

    found: dict[str, Path] = {}
    for run in list_runs(runs):
        stored = load_result(run, "container_build")
        result = stored.get("result") if stored is not None else None
        for image in result["images"] if isinstance(result, dict) else ():
            path = run / "stages" / "container_build" / "files" / str(image["archive"]["name"])
            if path.is_file():
                found[str(image["digest"])] = path
    return found
