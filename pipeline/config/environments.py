"""Environments as values: tables of `pyproject.toml` and the file of each, laid over each other."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.delivery import OVERLAYS, Environment
from pipeline.config.load import Layer, merge_layer, read_toml
from pipeline.config.services import HOST_NAME, VARIABLE, find_circle
from pipeline.config.values import ConfigInvalid, Problem, Table, show, suggest
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.config.delivery import DeployedService, DeploySettings
    from pipeline.config.values import Config

WITHOUT_SETTINGS: Final = ("local", "staging")
"""Environments that need none: they run on this machine."""
_SHARE: Final = re.compile(r"(?!0+(\.0*)?%)(100|\d{1,2}(\.\d+)?)%")


class EnvironmentUnknown(UsageError):
    """No environment has that name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        near = suggest(name, known) or f"; there are: {', '.join(known)}"
        super().__init__(f"there is no environment `{name}`{near}")
        self.hint = f"declare it as `[tool.pipeline.environments.{name}]`, or in `{OVERLAYS}/{name}.toml`"


def environment_names(root: Path, config: Config) -> tuple[str, ...]:
    """Return the names of all environments, sorted: those with settings, and those that need none."""
    files = {path.stem for path in (root / OVERLAYS).glob("*.toml")}
    return tuple(sorted({*WITHOUT_SETTINGS, *config.environments, *files}))


def load_environment(root: Path, config: Config, name: str) -> Environment:
    """Return one environment.

    Raises:
        EnvironmentUnknown: There is none of that name.
        ConfigUnreadable: Its file is not TOML in UTF-8.
        ConfigInvalid: Something in its tables cannot be used; carries every problem.
    """
    from pipeline.config import check

    known = environment_names(root, config)
    if name not in known:
        raise EnvironmentUnknown(name, known)
    layers = _layers(root, config, name)
    problems = [
        Problem(source=layer.source, path=layer.name_of(path), message=message)
        for layer in layers
        for path, message in check.find_environment_problems(layer.values)
    ]
    if problems:
        raise ConfigInvalid(problems)
    merged: Table = {}
    origins: dict[str, str] = {}
    for layer in layers:
        merge_layer(merged, layer, origins)
    found = replace(check.parse_environment({**merged, "name": name}), origins=origins)
    across = [
        Problem(source=f"environment `{name}`", path=path, message=message)
        for path, message in _find_misfits(found, known)
    ]
    if across:
        raise ConfigInvalid(across)
    return found


def _layers(root: Path, config: Config, name: str) -> list[Layer]:
    file = f"{OVERLAYS}/{name}.toml"
    project = "pyproject.toml"
    return [
        Layer(source=project, values={"deploy": dict(config.deploy)}, prefix="tool.pipeline."),
        Layer(
            source=project,
            values=dict(config.environments.get(name, {})),
            prefix=f"tool.pipeline.environments.{name}.",
        ),
        Layer(source=file, values=read_toml(root / file, file)),
    ]


def _find_misfits(one: Environment, known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What does not fit together, though each value by itself can be used: path and sentence."""
    if not HOST_NAME.fullmatch(one.name):
        yield "", f"expected a name of letters, digits and `-`, got {show(one.name)}"
    if one.target in ("docker", "compose", "swarm") and not one.hosts:
        yield "hosts", f"target `{one.target}` needs at least one, such as `unix:///var/run/docker.sock`"
    if one.target == "helm" and one.chart is None:
        yield "chart", "target `helm` needs one"
    for key in ("start", "ready") if one.target == "command" else ():
        if getattr(one.commands, key) is None:
            yield f"commands.{key}", "target `command` needs it"
    for key, other in (("promote_from", one.promote_from), ("standby_of", one.standby_of)):
        if other is not None and (other not in known or other == one.name):
            yield key, f"there is no other environment {show(other)}{suggest(other, known)}"
    if one.name.startswith("prod") and one.promote_from is None and not one.direct:
        what = "production takes what another environment has proved: name it, or say `direct = true`"
        yield "promote_from", what
    yield from _deploy_misfits(one.deploy)


def _deploy_misfits(deploy: DeploySettings) -> Iterator[tuple[str, str]]:
    for text in deploy.canary.steps:
        if not _SHARE.fullmatch(text):
            yield "deploy.canary.steps", f'expected percentages such as "25%", got {show(text)}'
    for name, service in deploy.services.items():
        for key, text in _service_misfits(name, service, deploy):
            yield ".".join(filter(None, ("deploy.services", name, key))), text
    circle = find_circle({name: service.needs for name, service in deploy.services.items()})
    if circle is not None:
        yield f"deploy.services.{circle[0]}.needs", f"they need each other: {' → '.join(circle)}"
    public = [name for name, service in deploy.services.items() if service.public]
    if len(public) > 1:
        yield f"deploy.services.{public[1]}.public", f"`{public[0]}` is public already"
    for name, smoke in deploy.smoke.items():
        if (smoke.path is None) == (smoke.command is None):
            yield f"deploy.smoke.{name}", "expected one of `path` and `command`"


def _service_misfits(name: str, one: DeployedService, deploy: DeploySettings) -> Iterator[tuple[str, str]]:
    if not HOST_NAME.fullmatch(name):
        yield "", f"expected a host name of letters, digits and `-` as its name, got {show(name)}"
    for need in one.needs:
        if need not in deploy.services:
            yield "needs", f"there is no service {show(need)}{suggest(need, list(deploy.services))}"
    for secret in one.secrets:
        if not VARIABLE.fullmatch(secret):
            yield "secrets", f"expected names of variables, got {show(secret)}"
    health = one.health
    if health is None:
        return
    if sum(kind is not None for kind in (health.path, health.command, health.tcp)) != 1:
        yield "health", "expected one of `path`, `command` and `tcp`"
    if health.path is not None and one.port is None:
        yield "port", "its health is asked by HTTP, and which port is not said"
    if not health.timeout_s < health.deadline_s < deploy.deadline_s:
        yield "health.deadline", "expected more than `timeout` and less than `deploy.deadline`"


def plain_settings(one: Environment) -> Iterator[tuple[str, Any, str]]:
    """Every setting of an environment: path, value, and where it came from."""
    from pipeline.config.load import leaves_of

    return leaves_of("", one, one.origins)
