"""The stage `performance` on a real service: fast, slow, failing, broken, and slower than it was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.projects import Repository, new_repository

if TYPE_CHECKING:
    from tests.pipelines.projects import Ran

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

SERVER = """
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENAPI = {"openapi": "3.1.0", "paths": {"/": {"get": {}}, "/item": {"get": {}, "delete": {}}}}


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        status, body = 200, b"{}"
        if self.path == "/openapi.json":
            body = json.dumps(OPENAPI).encode()
        elif self.path == "/item":
            time.sleep(float(os.environ.get("DELAY", "0.02")))
            status = int(os.environ.get("STATUS", "200"))
        if self.path == "/item" and os.environ.get("DIES"):
            os._exit(9)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


if os.environ.get("BROKEN"):
    raise SystemExit("no database here")
print("listening", flush=True)
ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""

DOCKERFILE = """
FROM python:3.11-slim
COPY server.py /
EXPOSE 8000
USER nobody
HEALTHCHECK --interval=1s --retries=2 CMD ["sh", "-c", "test -z \\"$SICK\\""]
CMD ["python3", "/server.py"]
"""

SETTINGS = {"rate": 60, "duration": "4s", "warmup": "1s", "start_within": "20s", "minimum_requests": 100}

FILES = {
    "web/Dockerfile": DOCKERFILE,
    "web/server.py": SERVER,
    "pyproject.toml": "[tool.pipeline.performance]\n",
    ".gitignore": ".pipeline\n",
}

LOCUSTFILE = """
from locust import FastHttpUser, constant_throughput, task


class Visitor(FastHttpUser):
    wait_time = constant_throughput(6)

    @task
    def home(self):
        self.client.get("/")
"""


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The service's repository, with its image built."""
    kept = os.environ.get("PIPELINE_TEST_STORE")
    store = Path(kept) if kept else tmp_path_factory.mktemp("store")
    made = new_repository(tmp_path_factory.mktemp("web") / "project", store, FILES)
    assert made.run("--only", "container_build").code == 0
    return made


@pytest.fixture
def project(web: Repository, tmp_path: Path) -> Repository:
    """A copy of it for one test."""
    return web.copy(tmp_path / "project")


def load(project: Repository, env: dict[str, str] | None = None, **settings: object) -> Ran:
    """Run the stage with more settings, and variables for the service."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**SETTINGS, **settings}.items()]
    lines += [f'env.{name} = "{value}"' for name, value in (env or {}).items()]
    project.write({"pyproject.toml": "\n".join(["[tool.pipeline.performance]", *lines, ""])})
    return project.run("--only", "performance")


def verdict(ran: Ran) -> set[tuple[str, str, str]]:
    """Every line of the verdict that is not `pass`: verdict, subject, what."""
    rows: list[dict[str, Any]] = json.loads((ran.files("performance") / "verdict.json").read_text())
    return {(row["verdict"], row["subject"], row["what"]) for row in rows if row["verdict"] != "pass"}


def test_a_good_service_passes_and_leaves_its_evidence(project: Repository) -> None:
    """Both workloads: the generator by the service's own description, and Locust by the project's file."""
    project.write({"locustfile.py": LOCUSTFILE})
    project.commit()

    ran = load(project)

    assert ran.outcomes["performance"] == "success", ran.stdout + ran.stderr
    assert verdict(ran) == set()
    result = ran.result("performance")["result"]
    assert (result["verdict"], result["workloads"]) == ("pass", ["open", "closed"])
    kept = {str(path.relative_to(ran.files("performance"))) for path in ran.files("performance").rglob("*")}
    assert kept >= {
        *("performance.csv", "open.json", "open.svg", "open/plan.json", "closed.json", "closed.svg"),
        *("closed/locust.json", "closed/locust_stats.csv", "service.log", "verdict.json"),
    }
    rows = (ran.files("performance") / "performance.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:4]] == [
        ["open", name] for name in ("GET /", "GET /item", "total")
    ]
    assert rows[3].split(",")[2:4] == ["240", "0"]
    assert "DELETE /item is not sent: it may change something" in ran.log("performance")
    usage = json.loads((ran.files("performance") / "open.json").read_text())["usage"]
    assert 0 < usage["cpu"] < 1
    assert usage["memory_bytes"] > 5_000_000


@pytest.mark.parametrize(
    ("env", "settings", "line"),
    [
        ({"DELAY": "0.3"}, {"response_critical": "200ms"}, ("block", "GET /item", "response")),
        ({"STATUS": "500"}, {}, ("block", "GET /item", "errors")),
    ],
    ids=["slow", "failing"],
)
def test_a_bad_service_fails_for_what_is_bad(
    project: Repository, env: dict[str, str], settings: dict[str, object], line: tuple[str, str, str]
) -> None:
    ran = load(project, env, **settings)

    assert ran.outcomes["performance"] == "failure", ran.stdout + ran.stderr
    assert line in verdict(ran)
    assert ("block", "GET /", line[2]) not in verdict(ran)


def test_a_service_that_does_not_start_is_told_with_its_last_words(project: Repository) -> None:
    ran = load(project, {"BROKEN": "1"})

    assert ran.outcomes["performance"] == "error"
    assert (
        "the service ended with exit code 1; its last lines:\n  no database here" in ran.stdout + ran.stderr
    )


def test_a_service_that_dies_under_load_is_told(project: Repository) -> None:
    ran = load(project, {"DIES": "1"}, duration="1s")

    assert ran.outcomes["performance"] == "error"
    assert "the service ended with exit code 9 while it was measured" in ran.stdout + ran.stderr


def test_a_service_whose_own_check_fails_is_told_with_its_last_words(project: Repository) -> None:
    """The engine ends it then, so that nobody is left to ask for them."""
    ran = load(project, {"SICK": "1"})

    assert ran.outcomes["performance"] == "error"
    assert (
        'the service never became healthy: its image\'s check `sh -c test -z "$SICK"` ended with '
        "exit code 1; its last lines:\n  listening"
    ) in ran.stdout + ran.stderr


def test_a_service_slower_than_its_baseline_fails(project: Repository) -> None:
    """A baseline is made by copying a measurement; before there is one, the run says how."""
    only_item = {"duration": "10s", "baseline": "baseline.json", "requests.item.path": "/item"}
    first = load(project, {"DELAY": "0.05"}, **only_item)
    assert first.outcomes["performance"] == "success", first.stdout + first.stderr
    assert verdict(first) == {("warn", "total", "regression")}
    assert "cp .pipeline/runs/" in first.log("performance")
    shutil.copy(first.files("performance") / "open.json", project.root / "baseline.json")
    project.commit()

    slower = load(project, {"DELAY": "0.1"}, **only_item)

    assert slower.outcomes["performance"] == "failure", slower.stdout + slower.stderr
    assert verdict(slower) == {("block", "item", "regression")}
