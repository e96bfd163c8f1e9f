"""Smoke checks and visits against a real server on loopback."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from pipeline.config.delivery import (
    DeployedService,
    DeploySettings,
    Environment,
    ReadySettings,
    SmokeSettings,
    VisitSettings,
)
from pipeline.config.values import Command, Count, Port, Seconds
from pipeline.deploy.smoke import NothingToSmoke, SmokeFailed, public_service, smoke, visit
from pipeline.deploy.target import Deployment
from tests.unit.deploy.doubles import API, release

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


class Answers(BaseHTTPRequestHandler):
    """`/health` is well, `/slow` takes its time, `/moved` leads elsewhere, all else is broken."""

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(0.5)
        self.send_response({"/health": 200, "/slow": 200, "/moved": 302}.get(self.path, 500))
        self.send_header("Location", "/health")
        self.end_headers()
        self.wfile.write(b'{"status": "well"}' if self.path == "/health" else b"oh\nno")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _deployment(**settings: object) -> Deployment:
    service = replace(API, port=Port(80), health=ReadySettings(path="/health"))
    deploy = DeploySettings(**settings)  # type: ignore[arg-type]  # its fields
    environment = Environment(name="staging", deploy=deploy)
    return Deployment(id="d-1", environment=environment, new=release(2, service), old=None, fence=1)


def _sh(text: str) -> SmokeSettings:
    return SmokeSettings(command=Command(("sh", "-c", text)))


CHECKS = {
    "body": (SmokeSettings(path="/health", contains="well"), ""),
    "status": (SmokeSettings(path="/nowhere"), "expected 200, got 500 from {url}/nowhere: oh no"),
    "other-status": (SmokeSettings(path="/moved", status=Count(302)), ""),
    "contains": (
        SmokeSettings(path="/health", contains="ill"),
        'expected `ill` in the answer of {url}/health, got: {{"status": "well"}}',
    ),
    "slow": (
        SmokeSettings(path="/slow", within_s=Seconds(0.1)),
        "got no answer from {url}/slow within 0.1 s",
    ),
    "command": (_sh('test "$PIPELINE_ENVIRONMENT" = staging && test "$PIPELINE_URL" = {url}'), ""),
    "bad-command": (_sh("echo no such page; exit 3"), "ended with code 3: no such page"),
    "no-command": (
        SmokeSettings(command=Command(("no-such-program",))),
        "could not be started: No such file or directory",
    ),
    "no-service": (
        SmokeSettings(path="/", service="web"),
        "cannot be made: service `web` has no address",
    ),
}


@pytest.mark.parametrize(("check", "problem"), CHECKS.values(), ids=CHECKS)
async def test_each_check_says_what_is_wrong(check: SmokeSettings, problem: str) -> None:
    """Or passes."""
    with _server() as url:
        if check.command is not None:
            check = replace(
                check, command=Command(tuple(word.replace("{url}", url) for word in check.command))
            )
        deployment = _deployment(smoke={"it": check})
        told = ""
        try:
            await smoke(deployment, {"api": url})
        except SmokeFailed as error:
            told = str(error)

    expected = f"1 of 1 smoke check failed: `it` {problem.format(url=url)}" if problem else ""
    assert told == expected


async def test_health_paths_stand_in_for_checks_that_nobody_declared() -> None:
    """Without either nothing would be proved, which is said."""
    with _server() as url:
        done = await smoke(_deployment(), {"api": url})
        with pytest.raises(NothingToSmoke):
            await smoke(replace(_deployment(), new=release(2)), {"api": url})

    assert [(one.name, one.problem) for one in done] == [("health of api", "")]


async def test_a_server_that_is_gone_is_told_with_its_address() -> None:
    """In one line."""
    with _server() as url:
        pass

    with pytest.raises(SmokeFailed, match=f"`health of api` got no answer from {url}/health: "):
        await smoke(_deployment(), {"api": url})


async def test_visits_come_at_their_rate_and_count_errors() -> None:
    """Answers of 500 and more are errors."""
    with _server() as url:
        good = await visit(_deployment(visits=VisitSettings(rate=Count(100))), url, 0.2)
        bad = await visit(_deployment(visits=VisitSettings(rate=Count(100), path="/nowhere")), url, 0.1)
    gone = await visit(_deployment(visits=VisitSettings(rate=Count(100))), url, 0.05)
    off = await visit(_deployment(visits=VisitSettings(enabled=False)), url, 0.05)

    assert [(one.requests, one.errors) for one in (good, bad, gone, off)] == [
        (20, 0),
        (10, 10),
        (5, 5),
        (0, 0),
    ]
    assert len(good.latencies) == 20


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ({}, "api"),
        ({"worker": DeployedService()}, "api"),
        ({"web": DeployedService(port=Port(80))}, ""),
        ({"web": DeployedService(port=Port(80), public=True)}, "web"),
        ({"db": DeployedService(port=Port(80), public=False)}, "api"),
    ],
    ids=["alone", "beside-a-worker", "two", "said", "not-said"],
)
def test_the_public_service_is_the_only_one_with_a_port_or_the_one_that_is_said(
    services: dict[str, DeployedService], expected: str
) -> None:
    """Two without a word are none."""
    assert public_service(release(1, replace(API, port=Port(80)), **services)) == expected
