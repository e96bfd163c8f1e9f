"""Compose projects of several files: what becomes of them, as compose itself would run them."""

from __future__ import annotations

from typing import Final

import pytest

from pipeline.config import ServiceSettings
from pipeline.detect.compose import ComposeFile, parse_compose

BASE: Final = """
services:
  db:
    image: postgres:15
    environment: [POSTGRES_DB=shop, POSTGRES_PASSWORD=first]
    ports: ["5432:5432"]
    volumes: ["./a.sql:/init/a.sql", "./b.sql:/init/b.sql"]
    command: [postgres, -c, fsync=off]
    env_file: common.env
    tmpfs: /run
    healthcheck: { test: [CMD, pg_isready], interval: 200ms, timeout: 3s }
  cache:
    image: redis:7
    expose: [6379]
"""
ENV_FILES: Final = {"common.env": "COMMON=1\n", "more.env": "MORE=2\n"}


def read(files: dict[str, str], **variables: str) -> ComposeFile:
    """The project of these files, of which `compose.yaml` is the first."""
    return parse_compose("compose.yaml", files["compose.yaml"], {**ENV_FILES, **files}.get, variables)


def test_an_override_file_stands_over_the_compose_file() -> None:
    """Tables are joined, lists grow, volumes go by their place, commands are replaced."""
    override = """
services:
  db:
    environment: { POSTGRES_PASSWORD: second, TZ: UTC }
    ports: ["5433:5433", "5432:5432"]
    volumes: ["./c.sql:/init/b.sql"]
    command: postgres
    env_file: [more.env]
    tmpfs: [/tmp]
    healthcheck: { timeout: 4s }
    depends_on: [cache]
  cache: { image: "redis:8" }
  web: { build: ./web }
"""

    found = read({"compose.yaml": BASE, "compose.override.yaml": override})

    db, cache, web = (found.services[name] for name in ("db", "cache", "web"))
    assert found.problems == ()
    given = {"POSTGRES_DB": "shop", "POSTGRES_PASSWORD": "second", "TZ": "UTC"}
    assert db.env == {"COMMON": "1", "MORE": "2", **given}
    assert (db.ports, db.volumes) == ((5432, 5433), {"/init/a.sql": "a.sql", "/init/b.sql": "c.sql"})
    assert (db.command, db.tmp, db.needs) == (("postgres",), ("/run", "/tmp"), ("cache",))
    assert db.healthcheck is not None
    assert (db.healthcheck.command, db.healthcheck.timeout_s) == (("pg_isready",), 4.0)
    assert (cache.image, cache.ports) == ("redis:8", (6379,))
    assert (web.dockerfile, web.context) == ("web/Dockerfile", "web")


def test_tags_take_away_and_replace() -> None:
    """`!reset` and `!override`, where lists would only grow."""
    override = """
services:
  db:
    ports: !reset null
    env_file: !reset []
    environment: !override { ONLY: this }
    volumes: !override ["./d.sql:/init/d.sql"]
"""

    db = read({"compose.yaml": BASE, "compose.override.yml": override}).services["db"]

    assert (db.ports, db.env, db.volumes) == ((), {"ONLY": "this"}, {"/init/d.sql": "d.sql"})


def test_a_service_extends_others_also_of_another_folder() -> None:
    """Its paths are told relative to its own file; what extends it stands over it."""
    files = {
        "compose.yaml": """
services:
  web:
    extends: { file: deploy/common.yaml, service: app }
    environment: { COLOUR: red }
  worker:
    extends: web
    command: [work]
""",
        "deploy/common.yaml": """
services:
  app:
    extends: base
    build: ../app
    env_file: app.env
    volumes: ["./conf:/etc/app", "data:/data"]
  base: { environment: { COLOUR: blue, SIZE: "1" }, user: "1000" }
""",
        "deploy/app.env": "FROM_FILE=yes\n",
    }

    found = read(files)

    app = {"dockerfile": "app/Dockerfile", "context": "app", "volumes": {"/etc/app": "deploy/conf"}}
    env = {"FROM_FILE": "yes", "COLOUR": "red", "SIZE": "1"}
    assert (found.problems, dict(found.services)) == (
        (),
        {
            "web": ServiceSettings(**app, env=env, user="1000"),  # type: ignore[arg-type]
            "worker": ServiceSettings(**app, env=env, user="1000", command=("work",)),  # type: ignore[arg-type]
        },
    )


def test_included_files_have_their_own_folder_and_variables() -> None:
    """The outer `.env` goes before theirs; the outer file stands over them; they include others."""
    files = {
        "compose.yaml": """
include:
  - infra/compose.yaml
  - path: [shared/a.yaml, shared/b.yaml]
    project_directory: .
    env_file: shared/own.env
services:
  web: { image: "web:1", depends_on: [db] }
  db: { environment: { OUTER: "1" } }
""",
        "infra/compose.yaml": """
include: [queue/compose.yaml]
services:
  db:
    image: "postgres:${PG}"
    env_file: db.env
    volumes: ["./init:/docker-entrypoint-initdb.d"]
""",
        "infra/.env": "PG=15\nTAG=inner\n",
        "infra/db.env": "FROM=file\n",
        "infra/queue/compose.yaml": "services: { queue: { image: 'queue:${TAG:-none}' } }",
        "shared/a.yaml": "services: { mail: { image: 'mail:${MAIL}', volumes: ['./m:/m'] } }",
        "shared/b.yaml": "services: { mail: { ports: [25] } }",
        "shared/own.env": "MAIL=3\n",
        ".env": "TAG=outer\n",
    }

    found = read(files)

    assert (found.problems, dict(found.services)) == (
        (),
        {
            "web": ServiceSettings(image="web:1", needs=("db",)),
            "db": ServiceSettings(
                image="postgres:15",
                env={"FROM": "file", "OUTER": "1"},
                volumes={"/docker-entrypoint-initdb.d": "infra/init"},  # type: ignore[dict-item]
            ),
            "queue": ServiceSettings(image="queue:outer"),
            "mail": ServiceSettings(image="mail:3", ports=(25,), volumes={"/m": "m"}),  # type: ignore[arg-type, dict-item]
        },
    )


@pytest.mark.parametrize(
    ("profiles", "waiting"),
    [("", {"a", "b"}), ("one", {"b"}), ("one, two", set()), ("*", set()), ("other", {"a", "b"})],
)
def test_profiles_are_turned_on_in_the_env_file(profiles: str, waiting: set[str]) -> None:
    text = "services: {a: {image: x, profiles: [one]}, b: {image: x, profiles: [two]}, c: {image: x}}"

    found = read({"compose.yaml": text, ".env": f"COMPOSE_PROFILES={profiles}\n"})

    assert found.on_demand == waiting


def test_the_env_file_may_name_other_compose_files() -> None:
    """Then no override file is looked for, as compose does; paths are relative to the first one's folder."""
    files = {
        "compose.yaml": BASE,
        "compose.override.yaml": "services: { db: { image: never } }",
        "deploy/a.yaml": "services: { db: { image: 'postgres:16', env_file: x.env } }",
        "deploy/x.env": "X=1\n",
        "test.yaml": "services: { db: { ports: [5432] } }",
        ".env": "COMPOSE_FILE=deploy/a.yaml:test.yaml\n",
    }

    found = read(files)

    assert dict(found.services) == {
        "db": ServiceSettings(image="postgres:16", env={"X": "1"}, ports=(5432,))  # type: ignore[arg-type]
    }


EXTENDS: Final = "services: {{a: {{image: x, extends: {}}}}}"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        pytest.param(
            {"compose.yaml": EXTENDS.format("b")},
            "compose.yaml: `a`: extends: there is no service `b` in `compose.yaml`",
            id="no-such-service",
        ),
        pytest.param(
            {"compose.yaml": EXTENDS.format("a")}, "compose.yaml: `a`: it extends itself", id="extends-itself"
        ),
        pytest.param(
            {"compose.yaml": EXTENDS.format("{file: gone.yaml, service: b}")},
            "gone.yaml: it is not among the tracked files",
            id="no-such-file",
        ),
        pytest.param(
            {"compose.yaml": EXTENDS.format("{file: ../up.yaml, service: b}")},
            "compose.yaml: `a`: extends: `../up.yaml` is outside the project",
            id="outside",
        ),
        pytest.param(
            {"compose.yaml": "include: ['https://example.org/a.git']\nservices: {a: {image: x}}"},
            "compose.yaml: include: `https://example.org/a.git` is not a file of the project",
            id="remote",
        ),
        pytest.param(
            {"compose.yaml": "include: [b.yaml]", "b.yaml": "include: [compose.yaml]"},
            "compose.yaml: it includes itself: compose.yaml → b.yaml → compose.yaml",
            id="includes-itself",
        ),
        pytest.param(
            {"compose.yaml": "include: [{path: b.yaml, env_file: gone.env}]", "b.yaml": BASE},
            "compose.yaml: `include`: env_file `gone.env` is not among the tracked files",
            id="env-file-of-include",
        ),
        pytest.param(
            {"compose.yaml": BASE, "compose.override.yaml": "services: {db: {ports: {a: 1}}}"},
            "compose.override.yaml: `db`: ports: it cannot stand over what another file says there",
            id="table-over-list",
        ),
        pytest.param(
            {"compose.yaml": BASE, "compose.override.yaml": "services: [db]"},
            "compose.override.yaml: it has no table `services`",
            id="no-table",
        ),
        pytest.param(
            {"compose.yaml": BASE, "compose.override.yaml": "services: {a: "},
            "compose.override.yaml:1: it cannot be read: expected the node content, but found '<stream end>'",
            id="no-yaml",
        ),
        pytest.param({"compose.yaml": "name: x\n"}, "compose.yaml: it has no table `services`", id="empty"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(files: dict[str, str], problem: str) -> None:
    found = read(files)

    assert (found.problems, dict(found.services)) == ((problem,), {})
