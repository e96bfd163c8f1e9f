"""The running application looked at by the real command: flawed, sound, silent, and one that crashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipelines.projects import Ran, new_repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pipelines.projects import Repository

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]

APP = """
import html, json, os, sys, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND = sys.argv[1]
HEADERS = {
    "content-type": "text/html",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
HELLO = {"parameters": [{"name": "who", "in": "query", "required": True, "schema": {"type": "string"}}],
         "responses": {"200": {"content": {"text/html": {}}}}}
INFO = {"title": "a", "version": "1"}
DESCRIPTION = {"openapi": "3.1.0", "info": INFO, "paths": {"/hello": {"get": HELLO}}}


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        who = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)).get("who", "")
        if KIND == "crashing" and "'" in who:
            print("the last words", flush=True)
            os._exit(3)
        pages = {"/": '<a href="/hello?who=you">hello</a>', "/openapi.json": json.dumps(DESCRIPTION)}
        pages["/hello"] = "hello " + (who if KIND == "flawed" else html.escape(who))
        self.send_response(200 if path in pages else 404)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(pages.get(path, "not found").encode())

    def version_string(self):
        return "shop"


if KIND == "silent":
    print("listening to nobody", flush=True)
    import time
    time.sleep(600)
print("listening", flush=True)
ThreadingHTTPServer(("0.0.0.0", 8000), Answers).serve_forever()
"""
DOCKERFILE = """
FROM python:3.11-slim
COPY app.py /srv/app.py
EXPOSE 8000
CMD ["python3", "/srv/app.py", "sound"]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Repository:
    """A project of one image whose service is of several kinds."""
    files = {"app.py": APP, "Dockerfile": DOCKERFILE, ".gitignore": ".pipeline\n"}
    return new_repository(tmp_path_factory.mktemp("dast") / "shop", store, files)


def run(project: Repository, kind: str, **settings: Any) -> Ran:
    """Run the stage with settings, on a service of a kind."""
    given = {"service": ["python3", "/srv/app.py", kind], **settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in given.items()]
    project.write({"pyproject.toml": "\n".join(["[tool.pipeline.dast]", *lines, ""])})
    return project.run("--only", "dast")


def report(ran: Ran) -> dict[str, Any]:
    """What the stage kept of its verdict."""
    found: dict[str, Any] = json.loads((ran.files("dast") / "findings.json").read_text())
    return found


def states(ran: Ran) -> dict[str, str]:
    """The state of each scanner."""
    return {one["scanner"]: one["state"] for one in report(ran)["scans"]}


def test_a_flaw_blocks_and_is_seen_by_its_route(project: Repository) -> None:
    """With attacks of our own; two tools look."""
    ran = run(project, "flawed", scanners=["passive", "schemathesis"], active=True)

    assert ran.outcomes["dast"] == "failure", ran.log("dast")
    assert "1 finding blocks: GET /hello (who): a value comes back as markup [reflected]" in ran.stdout
    assert states(ran) == {"passive": "complete", "schemathesis": "complete"}
    assert "listening" in (ran.files("dast") / "service.log").read_text()


def test_a_sound_service_passes(project: Repository) -> None:
    ran = run(project, "sound", scanners=["passive"], active=True)

    assert ran.outcomes["dast"] == "success", ran.log("dast")
    assert states(ran) == {"passive": "complete"}


def test_a_service_that_crashes_is_in_error_and_its_last_lines_are_shown(project: Repository) -> None:
    ran = run(project, "crashing", scanners=["passive"])

    assert ran.outcomes["dast"] == "error", ran.log("dast")
    assert states(ran) == {"passive": "error"}
    assert "ended with exit code 3 while passive looked at it" in ran.log("dast")
    assert "the last words" in ran.log("dast")


def test_a_service_that_never_answers_is_in_error(project: Repository) -> None:
    ran = run(project, "silent", scanners=["passive"], start_within="3s")

    assert ran.outcomes["dast"] == "error", ran.log("dast")
    assert "was not ready within" in ran.stdout
    assert "listening to nobody" in ran.stdout


def test_an_address_nobody_agreed_to_is_refused(project: Repository) -> None:
    """Before anything is sent."""
    ran = run(project, "sound", address="http://shop.example.com")

    assert ran.outcomes["dast"] == "error", ran.log("dast")
    assert "cannot scan `http://shop.example.com`: nobody stated that its owner agrees" in ran.stdout
