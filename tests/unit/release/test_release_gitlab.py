"""Releases at GitLab, against a server that keeps packages and releases as its API does."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.release.api import ApiDenied
from pipeline.release.forge import ForgeConflict, body_of, open_forge
from pipeline.release.gitlab import GitLab, api_of
from pipeline.release.publish import publish
from tests.unit.release.world import wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.release.world import World

STEPS = ["notes", "files", "attestation", "tag", "push", "release", "close"]


@dataclass
class State:
    """The packages and releases of `ann/app`."""

    world: World
    address: str = ""
    files: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)  # id to tag, name, content
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    busy: bool = False  # each request is answered 503 once, after it was done


class _Handler(BaseHTTPRequestHandler):
    state: State

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        state, path = self.state, urlsplit(self.path).path
        state.requests.append(f"{self.command} {path}")
        if self.headers.get("PRIVATE-TOKEN") != "good":
            return self._answer(401, {"message": "401 Unauthorized"})
        rest = path.removeprefix("/projects/ann%2Fapp/")
        status, answer = self._act([unquote(part) for part in rest.split("/")], body)
        if state.busy and state.requests.count(f"{self.command} {path}") == 1:
            return self._answer(503, {"message": "busy"})
        return self._answer(status, answer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _act(self, parts: list[str], body: bytes) -> tuple[int, Any]:
        state = self.state
        match [self.command, *parts]:
            case ["GET", "releases", tag]:
                return (200, state.releases[tag]) if tag in state.releases else (404, {"message": "404"})
            case ["POST", "releases"]:
                table = json.loads(body)
                if table["tag_name"] in state.releases:
                    return 409, {"message": "Release already exists"}
                if table["tag_name"] not in state.world.remote_tags():
                    return 400, {"message": "Ref is not specified"}
                state.releases[table["tag_name"]] = table
                return 201, table
            case ["GET", "packages"]:
                tags = sorted({tag for tag, _, _ in state.files.values()})
                return 200, [{"id": n, "name": "release", "version": tag} for n, tag in enumerate(tags)]
            case ["GET", "packages", number, "package_files"]:
                tag = sorted({tag for tag, _, _ in state.files.values()})[int(number)]
                return 200, [
                    {"id": n, "file_name": name, "file_sha256": hashlib.sha256(data).hexdigest()}
                    for n, (of, name, data) in state.files.items()
                    if of == tag
                ]
            case ["PUT", "packages", "generic", "release", tag, name]:
                state.files[len(state.requests)] = (tag, name, body)
                return 201, {"message": "201 Created"}
            case ["GET", "packages", "generic", "release", tag, name]:
                found = [data for of, called, data in state.files.values() if (of, called) == (tag, name)]
                return (200, found[-1]) if found else (404, {"message": "404"})
            case ["DELETE", "packages", _, "package_files", number]:
                state.files.pop(int(number), None)
                return 204, b""
        return 404, {"message": "404 Not Found"}

    def _answer(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def gitlab(world: World) -> Iterator[State]:
    state = State(world=world)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def lab(world: World) -> Iterator[State]:
    world.commit("feat: begin")
    world.push()
    with gitlab(world) as state:
        yield state


def forge(lab: State, key: str = "good") -> GitLab:
    import dataclasses

    api = api_of(lab.address, "gitlab.com", {"GITLAB_TOKEN": key})
    return GitLab(api=dataclasses.replace(api, pause_s=0.01), project="ann/app")


@pytest.mark.parametrize("busy", [False, True])
def test_files_become_packages_and_the_release_links_to_them(
    world: World, lab: State, tmp_path: Path, busy: bool
) -> None:
    """Also where each request is done and answered 503 at first; asked again nothing is sent."""
    lab.busy = busy
    plan = world.plan(files=[wheel(tmp_path / "dist", "0.1.0")])

    told = publish(plan, world.places(forge=forge(lab)))
    sent = len(lab.requests)
    again = publish(plan, world.places(forge=forge(lab)))

    assert (told, again) == (dict.fromkeys(STEPS, "done"), dict.fromkeys(STEPS, "found"))
    assert {line.split()[0] for line in lab.requests[sent:]} == {"GET"}
    names = [*(one.name for one in plan.files), "provenance.intoto.json"]
    assert forge(lab).files("v0.1.0") == {
        **{one.name: one.digest for one in plan.files},
        names[-1]: forge(lab).files("v0.1.0")[names[-1]],  # type: ignore[index]  # the release is there
    }
    release = lab.releases["v0.1.0"]
    assert (release["name"], release["description"]) == ("app 0.1.0", body_of(plan))
    base = f"{lab.address}/projects/ann%2Fapp/packages/generic/release/v0.1.0"
    assert [link["url"] for link in release["assets"]["links"]] == [f"{base}/{name}" for name in names]
    assert forge(lab).download("v0.1.0", names[0]) == plan.files[0].read()


def test_a_package_of_an_earlier_plan_is_replaced_until_the_release_is_shown(
    world: World, lab: State, tmp_path: Path
) -> None:
    first = world.plan(files=[wheel(tmp_path / "dist", "0.1.0", content="x = 1\n")])
    forge(lab).prepare(first, first.files)
    plan = world.plan(files=[wheel(tmp_path / "dist", "0.1.0")])
    publish(plan, world.places(forge=forge(lab)))

    assert forge(lab).is_prepared(plan, plan.files)
    with pytest.raises(ForgeConflict, match="there is one already that was not made for this plan"):
        forge(lab).prepare(first, first.files)


def test_a_wrong_token_is_said(world: World, lab: State) -> None:
    with pytest.raises(ApiDenied, match=re.escape("the answer is 401: 401 Unauthorized")):
        publish(world.plan(), world.places(forge=forge(lab, "bad")))

    assert world.local_tags() == []


def test_the_forge_of_the_settings(world: World) -> None:
    """Of the remote's host; in its CI the job's own token is taken."""
    found = open_forge(
        ReleaseSettings(forge="gitlab"), "git@code.example.org:a/b/c.git", {"CI_JOB_TOKEN": "t"}
    )

    assert isinstance(found, GitLab)
    assert (found.project, found.api.address) == ("a/b/c", "https://code.example.org/api/v4")
    assert dict(found.api.headers)["JOB-TOKEN"] == "t"
