"""Environments: where their settings come from, and what is said when they do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.config import ConfigInvalid, load_config
from pipeline.config.delivery import Environment, ReadySettings
from pipeline.config.environments import (
    EnvironmentUnknown,
    environment_names,
    load_environment,
    plain_settings,
)
from pipeline.config.values import Seconds

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[tool.pipeline.deploy]
bake = "30s"
services.api = { port = 8000, replicas = 2, health = { path = "/health" }, needs = ["redis"] }
services.redis = { image = "redis:7", port = 6379, volumes = { "/data" = "redis-data" }, exclusive = true }
[tool.pipeline.environments.staging]
target = "docker"
hosts = ["unix:///var/run/docker.sock"]
[tool.pipeline.environments.production]
promote_from = "staging"
deploy.strategy = "canary"
"""


def _project(folder: Path, text: str = PROJECT, **files: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    for name, more in files.items():
        (folder / "ci/environments").mkdir(parents=True, exist_ok=True)
        (folder / f"ci/environments/{name}.toml").write_text(more)
    return folder


def _load(root: Path, name: str) -> Environment:
    return load_environment(root, load_config(root, {}), name)


def test_an_environment_is_what_holds_for_all_with_its_own_laid_over(tmp_path: Path) -> None:
    """The file goes last, and each value knows where it came from."""
    root = _project(tmp_path, production="[deploy.services.api]\nreplicas = 4\n")

    production = _load(root, "production")

    api = production.deploy.services["api"]
    assert (api.port, api.replicas, api.health) == (8000, 4, ReadySettings(path="/health"))
    assert production.deploy == replace(production.deploy, strategy="canary", bake_s=Seconds(30))
    origins = {path: origin for path, _, origin in plain_settings(production)}
    assert origins["deploy.strategy"] == "pyproject.toml"
    assert origins["promote_from"] == "pyproject.toml"
    assert origins["deploy.deadline"] == "default"
    assert production.origins["deploy.services.api.replicas"] == "ci/environments/production.toml"


def test_a_project_without_settings_has_what_needs_none(tmp_path: Path) -> None:
    """They run on this machine."""
    assert environment_names(tmp_path, load_config(tmp_path, {})) == ("local", "staging")
    assert _load(tmp_path, "staging") == Environment(name="staging")


def test_a_file_alone_makes_an_environment(tmp_path: Path) -> None:
    """It need not be named elsewhere."""
    root = _project(tmp_path, dr='target = "kubernetes"\nstandby_of = "production"\n')

    assert _load(root, "dr").target == "kubernetes"
    assert environment_names(root, load_config(root, {})) == ("dr", "local", "production", "staging")


def test_settings_that_were_checked_before_come_back_equal(tmp_path: Path) -> None:
    """The second command reads them from the state folder."""
    root = _project(tmp_path)
    (root / ".pipeline").mkdir()

    first, second = (load_config(root, {}) for _ in range(2))

    assert first == second
    assert load_environment(root, second, "production") == load_environment(root, first, "production")


def test_an_unknown_environment_names_the_nearest(tmp_path: Path) -> None:
    """And how to declare one."""
    with pytest.raises(
        EnvironmentUnknown, match='there is no environment `producton`; did you mean "production"'
    ):
        _load(_project(tmp_path), "producton")


MISFITS = {
    'target = "dokcer"': 'target: expected "local" or',
    'strateg = "canary"': "strateg: unknown key",
    '[deploy]\nstrategy = "bluegreen"': 'deploy.strategy: expected "blue_green"',
    "[deploy]\nbake = 5": 'deploy.bake: expected a duration such as "30s" or "5m", got 5',
    'target = "swarm"': "hosts: target `swarm` needs at least one",
    'target = "command"': "commands.start: target `command` needs it",
    'promote_from = "stagin"': 'there is no other environment "stagin"; did you mean "staging"?',
    '[deploy.canary]\nsteps = ["5%", "0%"]': 'canary.steps: expected percentages such as "25%", got "0%"',
    '[deploy.services.web]\nneeds = ["rediss"]': 'there is no service "rediss"; did you mean "redis"?',
    '[deploy.services.redis]\nneeds = ["api"]': "api.needs: they need each other: api → redis → api",
    '[deploy.services.web]\nhealth = { path = "/" }': "services.web.port: its health is asked by HTTP",
    '[deploy.services.api.health]\ncommand = "true"': "expected one of `path`, `command` and `tcp`",
    '[deploy.services.api.health]\ndeadline = "2h"': "more than `timeout` and less than `deploy.deadline`",
    '[deploy.smoke.home]\nmethod = "GET"': "deploy.smoke.home: expected one of `path` and `command`",
    'name = "x"': "name: an environment is named by its table, or by its file",
}


@pytest.mark.parametrize(("text", "told"), MISFITS.items(), ids=MISFITS)
def test_what_does_not_fit_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    """Whether by itself or with the rest."""
    root = _project(tmp_path, qa=text)

    with pytest.raises(ConfigInvalid) as error:
        _load(root, "qa")

    assert told in str(error.value)


def test_production_is_never_deployed_to_by_accident(tmp_path: Path) -> None:
    """It names what proved a release, or says that nothing has to."""
    root = _project(tmp_path, "[tool.pipeline.environments.production]\n")

    with pytest.raises(ConfigInvalid, match="production takes what another environment has proved"):
        _load(root, "production")
