"""Servers for the tests: a real registry, a token server that it trusts, and scripted HTTP servers."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

USER = "ali"
PASSWORD = "open sesame"
IDENTITY_TOKEN = "identity-of-ali"
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
_START_LIMIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a scripted server was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What it answers; after `cut` bytes of the body the connection is closed; `drop`: without any answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    drop: bool = False


@dataclass(kw_only=True)
class Server:
    """A running scripted server and what it was asked so far."""

    address: str
    requests: list[Request] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RealRegistry:
    """A running docker-registry; `root` is its storage."""

    address: str
    root: Path


@dataclass(kw_only=True)
class TokenServer:
    """A running token server: `granted` are the scopes it gave, `posts` how often POST was used."""

    address: str
    certificate: Path
    key: Path
    lifetime_s: int = 300
    granted: list[str] = field(default_factory=list)
    posts: int = 0


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(script: Callable[[Request], Answer], host: str = "127.0.0.1") -> Iterator[Server]:
    """Run an HTTP server whose answers `script` gives."""
    server = Server(address="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=parts.path,
                query=parse_qs(parts.query),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            )
            server.requests.append(request)
            answer = script(request)
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.address = f"{host}:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        http.shutdown()
        thread.join()


def forward(address: str, request: Request) -> Answer:
    """Ask the server at `address` the same, and return what it answers."""
    query = "&".join(f"{name}={value}" for name, values in request.query.items() for value in values)
    asked = urllib.request.Request(
        f"http://{address}{request.path}" + (f"?{query}" if query else ""),
        method=request.method,
        data=request.body if request.method in {"POST", "PUT"} else None,
        headers={name: value for name, value in request.headers.items() if name != "host"},
    )
    try:
        with urllib.request.urlopen(asked) as response:  # noqa: S310 (http to ourselves)
            return Answer(status=response.status, headers=_kept(dict(response.headers)), body=response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(status=error.code, headers=_kept(dict(error.headers)), body=error.read())


@contextmanager
def real_registry(
    root: Path,
    *,
    users: bool = False,
    tokens: TokenServer | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[RealRegistry]:
    """Run docker-registry on a free port with its storage below `root`."""
    root.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    auth: dict[str, object] = {}
    if users:
        (root / "htpasswd").write_text(_HTPASSWD)
        auth = {"auth": {"htpasswd": {"realm": "tests", "path": str(root / "htpasswd")}}}
    if tokens is not None:
        settings = {
            "realm": f"http://{tokens.address}/token",
            "service": "tests",
            "issuer": "tests",
            "rootcertbundle": str(tokens.certificate),
        }
        auth = {"auth": {"token": settings}}
    http: dict[str, object] = {"addr": address, "secret": "tests"}
    if certificate is not None:
        http["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}},
        "http": http,
        **auth,
    }
    (root / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with open(root / "log", "wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(root / "config.yml")], stdout=log, stderr=log
        )
    try:
        _wait_for(address, process, root / "log")
        yield RealRegistry(address=address, root=root / "data")
    finally:
        process.terminate()
        process.wait(timeout=10)


def make_certificate(root: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1, signed by itself, and its key."""
    certificate, key = root / "certificate.pem", root / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-days", "2", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@contextmanager
def token_server(root: Path, users: dict[str, str]) -> Iterator[TokenServer]:
    """Run a token server whose tokens are signed by a certificate made for it."""
    root.mkdir(parents=True)
    certificate, key = make_certificate(root)
    state = TokenServer(address="", certificate=certificate, key=key)

    def script(request: Request) -> Answer:
        known = False
        scopes = request.query.get("scope", [])
        if request.method == "POST":
            state.posts += 1
            form = parse_qs(request.body.decode())
            scopes = form["scope"][0].split()
            known = form["refresh_token"] == [IDENTITY_TOKEN]
        elif header := request.headers.get("authorization"):
            name, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
            known = users.get(name) == password
        if not known and (request.method == "POST" or "authorization" in request.headers):
            return Answer(status=401)
        granted = [scope if known else f"{scope.rpartition(':')[0]}:pull" for scope in scopes]
        state.granted += granted
        body = {"token": _sign(state, granted), "expires_in": state.lifetime_s}
        return Answer(body=json.dumps(body).encode())

    with serve(script) as server:
        state.address = server.address
        yield state


def _sign(state: TokenServer, scopes: list[str]) -> str:
    pem = state.certificate.read_text()
    der = "".join(pem.split("-----")[2].split())
    access = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    now = int(time.time())
    claims = {"iss": "tests", "aud": "tests", "sub": "", "nbf": now - 5, "iat": now, "jti": str(now)}
    claims |= {"exp": now + state.lifetime_s, "access": access}
    head = _base64({"typ": "JWT", "alg": "RS256", "x5c": [der]}) + "." + _base64(claims)
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(state.key)],
        input=head.encode(),
        capture_output=True,
        check=True,
    ).stdout
    return head + "." + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _base64(table: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(table).encode()).rstrip(b"=").decode()


def _kept(headers: dict[str, str]) -> dict[str, str]:
    dropped = {"date", "server", "connection", "transfer-encoding"}
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    host, _, port = address.partition(":")
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended: {log.read_text()}")
        try:
            with socket.create_connection((host, int(port)), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"docker-registry does not answer at {address}")
