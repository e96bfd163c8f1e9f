"""Publishing to a package index: to a real `pypi-server`, and to one that trusts a workflow's identity."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config.release import ReleaseSettings
from pipeline.errors import UsageError
from pipeline.release.api import ApiBusy
from pipeline.release.index import Index, IndexConflict, NothingUploaded, open_index, project_of
from pipeline.release.publish import ReleaseUnfinished, publish
from tests.unit.release.world import sdist, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.release.plan import ReleasePlan
    from tests.unit.release.world import World

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "UV_NO_CONFIG": "1"}
CREDENTIALS = {"UV_PUBLISH_USERNAME": "ann", "UV_PUBLISH_PASSWORD": "any"}
STEPS = ["notes", "packages", "attestation", "tag", "push", "close"]
START_LIMIT_S = 30.0
MINTED = base64.b64encode(b"__token__:minted").decode()


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running index and where it keeps its files."""

    url: str
    folder: Path

    def index(self, **environ: str) -> Index:
        return Index(
            upload=f"{self.url}/", simple=f"{self.url}/simple", environ={**ENVIRON, **CREDENTIALS, **environ}
        )


@pytest.fixture(scope="module", params=["sha256", "md5", "off"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`pypi-server` on loopback; it tells digests, others, or none."""
    folder = tmp_path_factory.mktemp("packages")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("pypi-server")
    argv = [
        str(program),
        "run",
        "-i",
        "127.0.0.1",
        "-p",
        str(port),
        "-P",
        ".",
        "-a",
        ".",
        "--disable-fallback",
    ]
    url = f"http://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [*argv, "--hash-algo", request.param, "--server", "wsgiref", str(folder)], **quiet
    ) as running:  # type: ignore[call-overload]  # DEVNULL twice
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert running.poll() is None
                time.sleep(0.05)
        yield Server(url=url, folder=folder)
        running.terminate()


def make_plan(world: World, tmp_path: Path, name: str, content: str = "") -> ReleasePlan:
    dist = tmp_path / "dist"
    return world.plan(files=[wheel(dist, "0.1.0", name, content=content), sdist(dist, "0.1.0", name)])


def name_of(request: pytest.FixtureRequest) -> str:
    """A project of its own for each test: the index is shared."""
    return f"app{hashlib.sha256(request.node.name.encode()).hexdigest()[:10]}"


def test_packages_are_published_once(
    world: World, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Asked again, from a machine that knows nothing of it, nothing is sent."""
    world.commit("feat: begin")
    name = name_of(request)
    plan = make_plan(world, tmp_path, name)

    first = publish(plan, world.places(index=server.index()))
    again = publish(plan, world.places(index=server.index(), folder=tmp_path / "elsewhere"))

    assert first == dict.fromkeys(STEPS, "done")
    assert again["packages"] == "found"
    kept = {path.name: path.read_bytes() for path in server.folder.glob(f"{name}-*")}
    assert kept == {one.name: one.read() for one in plan.files if one.name.startswith(name)}


def test_a_half_upload_is_completed(
    world: World, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The wheel is there already: only the source distribution is sent."""
    world.commit("feat: begin")
    name = name_of(request)
    plan = make_plan(world, tmp_path, name)
    (server.folder / plan.files[0].name).write_bytes(plan.files[0].read())

    assert [one.name for one in server.index().missing(plan)] == [f"{name}-0.1.0.tar.gz"]
    server.index().publish(plan)

    assert server.index().missing(plan) == []


def test_other_content_of_a_published_file_is_refused(
    world: World, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Before anything is done, whatever digest the index tells."""
    world.commit("feat: begin")
    name = name_of(request)
    server.index().publish(make_plan(world, tmp_path, name, content="first = True\n"))

    with pytest.raises(IndexConflict) as raised:
        publish(make_plan(world, tmp_path, name), world.places(index=server.index()))

    assert str(raised.value) == (
        f"cannot publish `{name}-0.1.0-py3-none-any.whl`: `{server.url}/` has that file with other content"
    )
    assert (raised.value.exit_code, world.local_tags()) == (3, [])


def test_an_index_that_does_not_answer_changes_nothing(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")
    index = Index(
        upload="http://127.0.0.1:9/", simple="http://127.0.0.1:9/simple", environ=ENVIRON, pause_s=0.01
    )

    with pytest.raises(ApiBusy, match=r"127\.0\.0\.1 does not answer"):
        publish(make_plan(world, tmp_path, "app"), world.places(index=index))

    assert world.local_tags() == []


@dataclass
class Trusting:
    """An index that mints tokens for one workflow, and lists its files in JSON."""

    address: str = ""
    ca_bundle: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lists: bool = True
    refuse: str = ""


class _Handler(BaseHTTPRequestHandler):
    state: Trusting

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.state.requests.append(f"GET {path}")
        if path == "/_/oidc/audience":
            self._answer(200, {"audience": "tests"})
        elif path == "/identity":
            is_asked_well = self.headers.get("Authorization", "").lower() == "bearer runner"
            self._answer(200 if is_asked_well else 401, {"value": "workflow of ann/app", "count": 1})
        elif path.startswith("/simple/"):
            files = [
                {
                    "filename": name,
                    "url": f"/files/{name}",
                    "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                }
                for name, data in self.state.files.items()
            ]
            self._answer(200, {"files": files if self.state.lists else []})
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        body = (
            self.rfile.read(int(self.headers["Content-Length"]))
            if "Content-Length" in self.headers
            else self._chunks()
        )
        self.state.requests.append(f"POST {self.path}")
        if self.path == "/_/oidc/mint-token":
            good = json.loads(body) == {"token": "workflow of ann/app"}
            self._answer(200 if good else 422, {"success": good, "token": "minted"})
        elif self.headers.get("Authorization") != f"Basic {MINTED}":
            self._answer(401, {"message": "no token"})
        elif self.state.refuse and (".tar.gz" not in self.state.refuse or b'.tar.gz"' in body):
            self._answer(400, {"message": self.state.refuse})
        else:
            head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
            for part in (
                email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts()
            ):
                if part.get_filename():
                    self.state.files[str(part.get_filename())] = part.get_payload(decode=True)  # type: ignore[assignment]  # bytes
            self._answer(200, {})

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        return found

    def _answer(self, status: int, table: Any) -> None:
        data = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def new_certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1 by an authority of its own, `cert.pem`; uv takes no other."""
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority, server = folder / "authority.key", folder / "server.pem"
    made = ("-subj", "/CN=tests", "-keyout", authority, "-out", folder / "cert.pem")
    subprocess.run([*new, *made], check=True, capture_output=True)
    more = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
    by = ("-CA", folder / "cert.pem", "-CAkey", authority, "-subj", "/CN=127.0.0.1")
    done = subprocess.run([*new, *by, *more, "-keyout", server], check=True, capture_output=True)
    with open(server, "ab") as both:
        both.write(done.stdout)
    return server


@contextmanager
def trusting(folder: Path) -> Iterator[Trusting]:
    """Serve such an index, by TLS: nobody asks for a token without."""
    state = Trusting(ca_bundle=str(folder / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(new_certificate(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.address = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def workflow(state: Trusting, **more: Any) -> Index:
    """The index as a workflow sees it that may ask for its identity."""
    environ = {
        **ENVIRON,
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{state.address}/identity?v=1",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner",
    }
    simple, trust = f"{state.address}/simple", state.ca_bundle
    return Index(upload=f"{state.address}/legacy/", simple=simple, environ=environ, ca_bundle=trust, **more)


def test_in_a_workflow_its_identity_is_the_token(world: World, tmp_path: Path) -> None:
    """No secret is kept anywhere: the index gives a token for the identity that CI speaks for."""
    world.commit("feat: begin")
    plan = make_plan(world, tmp_path, "app")

    with trusting(tmp_path) as state:
        publish(plan, world.places(index=workflow(state)))

    assert {"GET /identity", "POST /_/oidc/mint-token", "POST /legacy/"} <= set(state.requests)
    assert state.files == {one.name: one.read() for one in plan.files if one.name != "sbom.cdx.json"}


def test_an_index_that_refuses_is_quoted(world: World, tmp_path: Path) -> None:
    world.commit("feat: begin")

    with trusting(tmp_path) as state:
        state.refuse = "the project ann/app may not publish app"
        with pytest.raises(NothingUploaded, match="the project ann/app may not publish app") as raised:
            publish(make_plan(world, tmp_path, "app"), world.places(index=workflow(state)))

    assert (raised.value.exit_code, world.local_tags()) == (1, [])


def test_an_upload_that_stops_half_way_is_unfinished(world: World, tmp_path: Path) -> None:
    """The wheel is there and the source distribution was refused: the next run brings that one alone."""
    world.commit("feat: begin")
    plan = make_plan(world, tmp_path, "app")

    with trusting(tmp_path) as state:
        state.refuse = ".tar.gz"
        with pytest.raises(ReleaseUnfinished) as raised:
            publish(plan, world.places(index=workflow(state)))
        state.refuse = ""
        sent = state.requests.count("POST /legacy/")
        publish(plan, world.places(index=workflow(state)))

    assert (raised.value.exit_code, raised.value.step) == (7, "packages")
    assert state.requests.count("POST /legacy/") == sent + 1
    assert len(state.files) == 2


def test_what_was_taken_and_is_not_listed_is_not_believed(world: World, tmp_path: Path) -> None:
    """Mirrors lag: the next run finds the files, and goes on."""
    world.commit("feat: begin")
    plan = make_plan(world, tmp_path, "app")

    with trusting(tmp_path) as state:
        state.lists = False
        with pytest.raises(ReleaseUnfinished, match="and does not list it"):
            publish(plan, world.places(index=workflow(state, appears_within_s=0.1)))
        state.lists = True
        told = publish(plan, world.places(index=workflow(state)))

    assert told["packages"] == "found"
    assert world.local_tags() == ["v0.1.0"]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (ReleaseSettings(index="https://code.example.org/up"), "nothing says where `code.example.org` lists"),
        (ReleaseSettings(index="https://ann:pw@code.example.org/up"), "`index` holds a password"),
    ],
    ids=["unknown", "password"],
)  # fmt: skip
def test_an_index_has_to_be_known(settings: ReleaseSettings, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        open_index(settings, {})

    assert "pw" not in str(raised.value).replace("password", "")


def test_a_known_index_needs_no_more() -> None:
    found = open_index(
        ReleaseSettings(index="https://upload.pypi.org/legacy/"), {"UV_PUBLISH_TOKEN": "secret"}
    )

    assert found is not None
    assert found.simple == "https://pypi.org/simple"
    assert "secret" not in repr(found)


def test_what_is_no_package_cannot_be_published() -> None:
    assert project_of("My.App-1.0.tar.gz") == "my-app"
    with pytest.raises(UsageError, match="its name is not that of a package"):
        project_of("notes.whl")
