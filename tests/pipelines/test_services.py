"""Tests beside services, run by the command on small real projects: databases, failures, and hostile ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from defusedxml import ElementTree

from tests.pipelines.projects import new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Ran, Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

COMPOSE = """
services:
  db:
    image: postgres:15-alpine
    environment: { POSTGRES_PASSWORD: "${PASSWORD:-hunter2}", POSTGRES_USER: shop, POSTGRES_DB: shop }
    ports: ["5433:5432"]
    volumes: ["./db/init.sql:/docker-entrypoint-initdb.d/init.sql", "data:/var/lib/postgresql/data"]
    healthcheck: { test: pg_isready -U shop, interval: 5s }
    restart: always
  cache:
    image: redis:7
    ports: ["6379:6379"]
    command: redis-server --requirepass swordfish
volumes: { data: {} }
"""
SHOP = {
    "compose.yaml": COMPOSE,
    "db/init.sql": "CREATE TABLE things (name text);\nINSERT INTO things VALUES ('left-handed screwdriver');",
    "requirements.txt": "psycopg[binary]\nredis\npytest\n",
    "pytest.ini": "[pytest]\nmarkers =\n    e2e: from end to end\n",
    "tests/unit/test_one.py": """
import pytest, socket
def test_a_unit_test_has_no_services():
    with pytest.raises(OSError):
        socket.create_connection(("db", 5432), 2)
@pytest.mark.e2e
def test_marked():
    socket.create_connection(("db", 5432), 2).close()
""",
    "tests/integration/test_stores.py": """
import psycopg, redis
def test_database():
    with psycopg.connect("postgresql://shop:hunter2@db/shop") as connection:
        assert connection.execute("select name from things").fetchall() == [("left-handed screwdriver",)]
        connection.execute("delete from things")
def test_cache():
    client = redis.Redis("cache", password="swordfish")
    assert redis.Redis("localhost", password="swordfish").dbsize() == 0
    assert client.incr("visits") == 1
""",
    "tests/security/test_stores.py": """
import psycopg, pytest, redis
def test_password_is_asked_for():
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect("postgresql://shop@db/shop")
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis("cache").ping()
""",
    ".gitignore": ".pipeline\n",
}
ODD = "<&\\x00\\x1b[31m'\\u2028"
SERVER = ["python", "-u", "-m", "http.server"]


@pytest.fixture
def small(tmp_path: Path, store: Path) -> Repository:
    """A project of one integration test, without services."""
    files = {
        "tests/integration/test_a.py": "def test_a():\n    pass\n",
        ".gitignore": ".pipeline\n",
        "requirements.txt": "pytest\n",
    }
    return new_repository(tmp_path / "project", store, files)


def services(**tables: dict[str, Any]) -> str:
    """The settings of services, as TOML."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[tool.pipeline.services.{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def names_run(ran: Ran, stage: str) -> list[str]:
    """Return the names in a stage's JUnit file."""
    tree = ElementTree.parse(ran.files(stage) / "junit.xml")
    return [case.get("name", "") for case in tree.iter("testcase")]


def test_a_compose_file_gives_each_suite_healthy_services_of_its_own(tmp_path: Path, store: Path) -> None:
    """Nothing is configured: PostgreSQL with its schema, Redis with its password; what one stage deletes
    another still has; logs are kept; no test runs in two stages.
    """
    shop = new_repository(tmp_path / "project", store, SHOP)

    ran = shop.run("--skip", "quality,sast", "--keep-going")

    stages = ("unit", "integration", "e2e", "security_tests")
    assert {name: ran.outcomes[name] for name in stages} == dict.fromkeys(stages, "success"), ran.stdout
    assert {name: names_run(ran, name) for name in stages} == {
        "unit": ["test_a_unit_test_has_no_services"],
        "integration": ["test_database", "test_cache"],
        "e2e": ["test_marked"],
        "security_tests": ["test_password_is_asked_for"],
    }
    logs = ran.files("integration") / "services"
    assert "database system is ready to accept connections" in (logs / "db.log").read_text()
    assert "Ready to accept connections" in (logs / "cache.log").read_text()
    assert "compose.yaml: `db`: not used: restart" in ran.log("integration")
    assert any(
        "postgres 15 from Debian bookworm, not Alpine" in one for one in ran.result("e2e")["stand_ins"]
    )


def test_services_that_fail_are_named_with_their_last_lines(small: Repository) -> None:
    """One never takes connections, one ends at once, one ends while tests use it; all in one project."""
    image = {"image": "python:3.13-slim"}
    patient = "print('waiting for godot', flush=True); import time; time.sleep(600)"
    brief = "import time; print('so long', flush=True); time.sleep(6); raise SystemExit(3)"
    small.write(
        {
            "pyproject.toml": services(
                never={**image, "command": ["python", "-c", patient], "ports": [9999], "timeout": "3s"},
                ends={**image, "command": "echo no config >&2; exit 4", "ports": [80]},
                leaves={**image, "command": ["python", "-c", brief]},
            )
            + '[tool.pipeline.stages]\nintegration.services = ["never"]\n'
            + 'e2e.services = ["ends"]\nsecurity_tests.services = ["leaves"]\n',
            "tests/e2e/test_b.py": "def test_b():\n    pass\n",
            "tests/security/test_c.py": "import time\n\n\ndef test_c():\n    time.sleep(60)\n",
        }
    )
    small.commit()

    ran = small.run("--skip", "quality,sast,unit", "--keep-going")

    stages = ("integration", "e2e", "security_tests")
    assert {name: ran.outcomes[name] for name in stages} == dict.fromkeys(stages, "error")
    assert {name: ran.result(name)["failure"]["message"] for name in stages} == {
        "integration": "service `never` was not healthy within 3 s; its last lines:\nwaiting for godot",
        "e2e": "service `ends` ended before it was healthy: exit code: 4; its last lines:\nno config",
        "security_tests": (
            "service `leaves` ended with exit code 3 while it was in use; its last lines:\nso long"
        ),
    }
    assert (ran.files("integration") / "services/never.log").read_text() == "waiting for godot\n"


def test_a_service_of_the_projects_own_image_gets_its_secrets_and_needs(small: Repository) -> None:
    """Built from its Dockerfile, healthy by HTTP, after what it needs; the secret shows nowhere."""
    small.write(
        {
            "web/Dockerfile": 'FROM python:3.13-slim\nCOPY . /web\nWORKDIR /web\nCMD ["python", "web.py"]\n',
            "web/web.py": """
import os, sys, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
print("the token is", os.environ["TOKEN"], flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answer = urllib.request.urlopen("http://files:8000/hello.txt").read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer + os.environ["TOKEN"].upper().encode())

HTTPServer(("", 8080), Handler).serve_forever()
""",
            "files/hello.txt": "hello ",
            "pyproject.toml": services(
                web={
                    "dockerfile": "web/Dockerfile",
                    "context": "web",
                    "secrets": ["TOKEN"],
                    "needs": ["files"],
                    "healthcheck": {"http": ":8080/"},
                },
                files={
                    "image": "python:3.13-slim",
                    "command": SERVER,
                    "workdir": "/srv",
                    "ports": [8000],
                    "volumes": {"/srv": "files"},
                },
            ),
            "tests/integration/test_a.py": """
import os, urllib.request
def test_web():
    assert urllib.request.urlopen("http://web:8080/").read() == b"hello OPENSESAME"
    assert "TOKEN" not in os.environ
""",
        }
    )
    small.commit()

    ran = small.run("--only", "integration", TOKEN="opensesame")

    assert (ran.code, ran.outcomes["integration"]) == (0, "success"), ran.stdout
    assert (ran.files("integration") / "services/web.log").read_text().startswith("the token is ***\n")
    assert "opensesame" not in ran.log("integration")


BREAKING = {
    "killed": (
        "import os, signal\n\n\ndef test_a():\n    os.killpg(0, signal.SIGKILL)\n",
        ("error", "the test runner was killed by SIGKILL"),
    ),
    "none-collected": (
        "import pytest\n\npytest.importorskip('not_there')\n\n\ndef test_a():\n    pass\n",
        ("error", "cannot check anything: not one test of `integration` was collected"),
    ),
    "all-skipped": (
        "import pytest\n\n\n@pytest.mark.skip(reason='no database')\ndef test_a():\n    pass\n",
        ("skip", "nothing was checked: the one test of `integration` was skipped"),
    ),
    "odd-names": (
        f'import pytest\n\n\n@pytest.mark.parametrize("a", ["{ODD}"])\ndef test_a(a):\n    assert a == 1\n',
        ("failure", "1 of 1 tests failed; first: tests/integration/test_a.py::test_a["),
    ),
}


@pytest.mark.parametrize("how", BREAKING)
def test_tests_that_break_their_run_are_never_good(small: Repository, how: str) -> None:
    """What was not checked is an error or a skip, with the reason."""
    text, (outcome, message) = BREAKING[how]
    small.write({"tests/integration/test_a.py": text})

    ran = small.run("--only", "integration")

    said = ran.stages["integration"]["why"]
    if outcome != "skip":
        said = ran.result("integration")["failure"]["message"]
    assert (ran.outcomes["integration"], said[: len(message)]) == (outcome, message), ran.stdout
