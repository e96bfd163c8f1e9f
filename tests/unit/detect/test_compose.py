"""Compose files: what becomes of each key, what is noted, and what is a problem."""

from __future__ import annotations

import pytest

from pipeline.config import HealthSettings, ServiceSettings
from pipeline.detect.compose import find_compose, parse_compose
from pipeline.detect.interpolate import Variables, parse_env_file

WHOLE = """
version: "3.9"
x-env: &env
  POSTGRES_PASSWORD: ${DB_PASSWORD:-hunter2}
services:
  db:
    image: postgres:${PG:-15}
    environment:
      <<: *env
      POSTGRES_DB: shop
      DEBUG: true
    ports: ["127.0.0.1:5433:5432"]
    volumes:
      - data:/var/lib/postgresql/data
      - ./db/init.sql:/docker-entrypoint-initdb.d/init.sql:ro
      - /var/run/docker.sock:/var/run/docker.sock
    tmpfs: /run:size=10m
    healthcheck:
      test: pg_isready -U shop
      interval: 5s
      retries: 20
    restart: always
  cache:
    image: redis:7
    command: redis-server --appendonly yes
    expose: [6379]
    healthcheck: { test: [CMD, redis-cli, ping], interval: 200ms, timeout: 3s }
  web:
    build: { context: ./web, dockerfile: Dockerfile.dev, args: [A=1], cache_from: [x] }
    env_file: [web.env, gone.env]
    environment: ["TOKEN", "COLOUR=red"]
    ports: ["8000-8001:8000-8001", {target: 9000, published: 9000}, "53:53/udp"]
    depends_on:
      db: { condition: service_healthy }
      migrate: { condition: service_completed_successfully }
    links: [cache]
    user: "1000"
    working_dir: /app
    privileged: true
  tools:
    image: debian:bookworm-slim
    profiles: [tools]
volumes: { data: {} }
"""
FILES = {".env": "PG=16\n", "web.env": "# colours\nCOLOUR=blue\nexport NAME='a b'\n"}


def test_a_compose_file_becomes_services_and_says_what_it_left_out() -> None:
    """Images, builds, variables, ports, health checks, needs, mounts; named volumes begin empty."""
    found = parse_compose("compose.yaml", WHOLE, FILES.get)

    assert found.problems == ()
    assert dict(found.services) == {
        "db": ServiceSettings(
            image="postgres:16",
            env={"POSTGRES_PASSWORD": "hunter2", "POSTGRES_DB": "shop", "DEBUG": "true"},
            ports=(5432,),  # type: ignore[arg-type]
            volumes={"/docker-entrypoint-initdb.d/init.sql": "db/init.sql"},  # type: ignore[dict-item]
            tmp=("/run",),
            healthcheck=HealthSettings(command=("sh", "-c", "pg_isready -U shop")),  # type: ignore[arg-type]
            timeout_s=100.0,  # type: ignore[arg-type]
        ),
        "cache": ServiceSettings(
            image="redis:7",
            command=("redis-server", "--appendonly", "yes"),  # type: ignore[arg-type]
            ports=(6379,),  # type: ignore[arg-type]
            healthcheck=HealthSettings(
                command=("redis-cli", "ping"),  # type: ignore[arg-type]
                interval_s=0.2,  # type: ignore[arg-type]
                timeout_s=3.0,  # type: ignore[arg-type]
            ),
        ),
        "web": ServiceSettings(
            dockerfile="web/Dockerfile.dev",  # type: ignore[arg-type]
            context="web",  # type: ignore[arg-type]
            build_args={"A": "1"},
            env={"COLOUR": "red", "NAME": "a b"},
            ports=(8000, 8001, 9000),  # type: ignore[arg-type]
            needs=("db", "cache"),
            user="1000",
            workdir="/app",
        ),
        "tools": ServiceSettings(image="debian:bookworm-slim"),
    }
    assert found.on_demand == {"tools"}
    assert found.notes == (
        "compose.yaml: `db`: not used: restart",
        "compose.yaml: `db`: `/var/run/docker.sock` is not mounted: it is outside the project",
        "compose.yaml: `web`: not used: privileged",
        "compose.yaml: `web`: not used: build.cache_from",
        "compose.yaml: `web`: env_file `gone.env` is not among the tracked files",
        "compose.yaml: `web`: the variable TOKEN has no value: the shell's are not passed on",
        "compose.yaml: `web`: port 53/udp is not waited for",
        "compose.yaml: `web`: it waits for `migrate` to end: jobs are not run",
    )


BOMB = (
    "services: {a: &a [x,x,x,x,x,x,x,x,x,x]"
    + "".join(
        f", {name}: &{name} [{','.join(['*' + before] * 10)}]"
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    + "}"
)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("services: {db: }}", ["compose.yaml:1: it cannot be read: expected <block end>, but found '}'"]),
        ("db: {}", ["compose.yaml: it has no table `services`"]),
        (BOMB, ["compose.yaml: it cannot be read: it has too many values, or contains itself"]),
        (
            "services: &a {db: *a}",
            ["compose.yaml: it cannot be read: it has too many values, or contains itself"],
        ),
        (
            "services: {db: {image: '${TAG:?set it}'}}",
            ["compose.yaml: it cannot be read: TAG has no value: set it"],
        ),
        (
            "services: {db: {ports: [x], command: 'a \"b'}, web: {build: ../x, depends_on: [dbs]}}",
            [
                "compose.yaml: `db`: command: it cannot be split into words: no closing quotation",
                'compose.yaml: `db`: ports.0: expected a port from 1 to 65535, got "x"',
                'compose.yaml: `web`: dockerfile: expected a path inside the project, got "../x/Dockerfile"',
                'compose.yaml: `web`: context: expected a path inside the project, got "../x"',
                "compose.yaml: `db`: expected one of `image` and `dockerfile`",
                'compose.yaml: `web`: needs: there is no service "dbs"; did you mean "db"?',
            ],
        ),
    ],
    ids=["no-yaml", "no-services", "bomb", "circular", "must-be-set", "wrong-values"],
)  # fmt: skip
def test_a_compose_file_that_cannot_be_used_says_everything_that_is_wrong(
    text: str, problems: list[str]
) -> None:
    """Also one made to harm whoever reads it."""
    found = parse_compose("compose.yaml", text, FILES.get)

    assert (list(found.problems), found.services) == (problems, {})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A ${A} $$A", "1 1 $A"),
        ("${B-x}|${EMPTY-x}|${EMPTY:-x}", "x||x"),
        ("${A:+yes}|${B:+yes}|${EMPTY+set}", "yes||set"),
        ("${B:-${A}}", "1"),
        ("${NONE}", ""),
    ],
)
def test_variables_are_filled_in_as_compose_does(text: str, filled: str) -> None:
    variables = Variables({"A": "1", "EMPTY": ""})

    assert variables.fill(text) == filled
    assert variables.missing == ({"NONE"} if "NONE" in text else set())


def test_lines_of_variables_lose_quotes_and_comments() -> None:
    text = 'A=1 # one\n#B=2\nexport C="x # y"\nD=\nnothing\n'

    assert parse_env_file(text) == {"A": "1", "C": "x # y", "D": ""}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=${A}2\nC=${NONE:-3}$$\n", {"A": "1", "B": "12", "C": "3$"}),
        ("A='${B} # no\nx'\n", {"A": "${B} # no\nx"}),
        ('A="one\\ttwo \\$B ${K}\nthree" # said\nD=4', {"A": "one\ttwo $B outer\nthree", "D": "4"}),
        ("K=inner\nA=$K\n", {"K": "inner", "A": "outer"}),
        ("K\nNONE\n", {"K": "outer"}),
        ("A: yaml\nB=a#b\nC= #c\nD= 1 # d\n", {"A": "yaml", "B": "a#b", "C": "#c", "D": "1"}),
        ("A='open\nB=2\n", {"A": "'open", "B": "2"}),
    ],
    ids=["variables", "single", "double", "outer-first", "names-alone", "other-forms", "never-ends"],
)
def test_files_of_variables_are_read_as_compose_does(text: str, values: dict[str, str]) -> None:
    assert parse_env_file(text, {"K": "outer"}) == values


def test_the_compose_file_at_the_root_is_found_in_composes_own_order() -> None:
    assert find_compose(["docker-compose.yml", "compose.yaml", "a/compose.yaml"]) == "compose.yaml"
    assert find_compose(["a/docker-compose.yml", "docker-compose.test.yml"]) is None
