"""The settings of services: what they become, and every way they can be wrong told at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from pipeline.config import (
    ConfigInvalid,
    HealthSettings,
    ServiceSettings,
    load_config,
    service_of,
    settings_of,
)

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
[tool.pipeline.services.db]
image = "postgres:15"
ports = [5432]
env = { POSTGRES_PASSWORD = "hunter2" }
secrets = ["TOKEN"]
tmp = ["/run"]
timeout = "2m"
healthcheck = { command = ["pg_isready"], interval = "500ms", retries = 5 }

[tool.pipeline.services.web]
dockerfile = "./web//Dockerfile"
context = "web"
needs = ["db"]
volumes = { "/etc/web.conf" = "conf/web.conf" }
healthcheck = { http = ":8000/health" }
"""
DB = ServiceSettings(
    image="postgres:15",
    ports=(5432,),  # type: ignore[arg-type]
    env={"POSTGRES_PASSWORD": "hunter2"},
    secrets=("TOKEN",),
    tmp=("/run",),
    timeout_s=120.0,  # type: ignore[arg-type]
    healthcheck=HealthSettings(command=("pg_isready",), interval_s=0.5, retries=5),  # type: ignore[arg-type]
)
WEB = ServiceSettings(
    dockerfile="web/Dockerfile",  # type: ignore[arg-type]
    context="web",  # type: ignore[arg-type]
    needs=("db",),
    volumes={"/etc/web.conf": "conf/web.conf"},  # type: ignore[dict-item]
    healthcheck=HealthSettings(http=":8000/health"),
)
BAD = """
[tool.pipeline.services."d b"]
image = "postgres:15"
dockerfile = "../x"
ports = [0]
tmp = ["x"]
secrets = ["a b"]
healthcheck = { command = "pg_isready", tcp = 99999, http = "nope" }
needs = ["cach"]

[tool.pipeline.services.cache]
needs = ["c"]
timeout = 3
target = "small"

[tool.pipeline.services.c]
image = "a"
needs = ["cache"]
prots = [1]
healthcheck = { http = "/health" }
"""


def test_services_become_values_also_when_remembered(tmp_path: Path) -> None:
    """The second reading comes from the state folder; and each is itself again after `asdict`."""
    (tmp_path / "pyproject.toml").write_text(GOOD)
    (tmp_path / ".pipeline").mkdir()

    read = [load_config(tmp_path, {}).services for _ in range(2)]

    assert read == [{"db": DB, "web": WEB}] * 2
    assert [service_of(asdict(one)) for one in (DB, WEB)] == [DB, WEB]


def test_every_problem_of_services_is_told_in_one_pass(tmp_path: Path) -> None:
    """Single values, and what has to hold between them and between services."""
    (tmp_path / "pyproject.toml").write_text(BAD)

    with pytest.raises(ConfigInvalid) as caught:
        load_config(tmp_path, {})

    told = [(one.path.removeprefix("tool.pipeline.services."), one.message) for one in caught.value.problems]
    assert sorted(told) == sorted(
        [
            ("d b", 'expected a host name of letters, digits and `-` as its name, got "d b"'),
            ("d b", "expected one of `image` and `dockerfile`"),
            ("d b.dockerfile", 'expected a path inside the project, got "../x"'),
            ("d b.ports.0", "expected a port from 1 to 65535, got 0"),
            ("d b.tmp", 'expected absolute paths inside the service, got "x"'),
            ("d b.secrets", 'expected names of variables, got "a b"'),
            ("d b.healthcheck", "expected one of `command`, `http` and `tcp`"),
            ("d b.healthcheck.tcp", "expected a port from 1 to 65535, got 99999"),
            ("d b.healthcheck.http", 'expected a path such as ":8000/health", got "nope"'),
            ("d b.needs", 'there is no service "cach"; did you mean "cache"?'),
            ("cache", "expected one of `image` and `dockerfile`"),
            ("cache.timeout", 'expected a duration such as "30s" or "5m", got 3'),
            ("cache.target", "it belongs to a `dockerfile`, and there is none"),
            ("cache.needs", "they need each other: cache → c → cache"),
            ("c.prots", 'unknown key; did you mean "ports"?'),
            ("c.healthcheck.http", 'which port is not said: expected ":8000/health", or `ports`'),
        ]
    )


def test_settings_of_services_are_listed_with_their_origin(tmp_path: Path) -> None:
    """`explain --config` shows them, nested ones by their path."""
    (tmp_path / "pyproject.toml").write_text(GOOD)

    listed = {path: (value, origin) for path, value, origin in settings_of(load_config(tmp_path, {}))}

    assert listed["services.db.ports"] == ([5432], "pyproject.toml")
    assert listed["services.db.healthcheck.retries"] == (5, "pyproject.toml")
    assert listed["services.web.needs"] == (["db"], "pyproject.toml")
