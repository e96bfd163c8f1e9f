"""Git repositories for tests, and servers for them on loopback: git's own, HTTP with or without TLS, SSH."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENV = {
    "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C",
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
}  # fmt: skip
START_LIMIT_S = 10.0


def git(cwd: Path, *argv: str) -> str:
    """Run git with an identity and a date of the tests; return what it prints."""
    done = subprocess.run(["git", *argv], cwd=cwd, env=ENV, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(work: Path, **files: str) -> str:
    """Write files, commit all there is and return the commit."""
    for name, text in files.items():
        (work / name).write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "change")
    return git(work, "rev-parse", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worktree:
    """A repository with files to work on."""

    path: Path

    def __call__(self, *argv: str) -> str:
        """Run git in it."""
        return git(self.path, *argv)

    def commit(self, **files: str) -> str:
        """Commit files; return the commit."""
        return commit(self.path, **files)


def new_repository(path: Path) -> Worktree:
    """Make an empty repository whose branch is `main`."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", "-b", "main")
    return Worktree(path=path)


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nothing listens on port {port}")


@contextmanager
def running(*argv: str | Path, port: int) -> Iterator[None]:
    """Run a server until the body is done."""
    process = subprocess.Popen(argv, env=ENV, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def daemon(base: Path) -> Iterator[str]:
    """Serve the repositories below a directory over git's own protocol; lends the address."""
    port = free_port()
    options = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={base}"]
    with running("git", "daemon", *options, port=port):
        yield f"git://127.0.0.1:{port}"


@contextmanager
def smart_http(
    base: Path, authorization: str = "", *, certificate: Path | None = None
) -> Iterator[tuple[str, list[str | None]]]:
    """Serve over HTTP to those who send `authorization`; also lend the list of what was sent.

    With `certificate`, a file with a key too, it is HTTPS.
    """
    sent: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent.append(self.headers["Authorization"])
            if authorization and self.headers["Authorization"] != authorization:
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            length = int(self.headers["Content-Length"] or 0)
            env = ENV | {
                "GIT_PROJECT_ROOT": os.fspath(base), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "CONTENT_LENGTH": str(length),
                "CONTENT_TYPE": self.headers["Content-Type"] or "",
                "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
                "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            }  # fmt: skip
            body = self.rfile.read(length)
            done = subprocess.run(
                ["git", "http-backend"], env=env, input=body, capture_output=True, check=True
            )
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            scheme = "http" if certificate is None else "https"
            yield f"{scheme}://127.0.0.1:{server.server_address[1]}", sent
        finally:
            server.shutdown()
            thread.join()


def new_certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1, in one file with its key."""
    path = folder / "server.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", path, "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    with open(path, "a") as both:
        both.write((folder / "cert.pem").read_text())
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer:
    """An SSH server that lets one key in, as the user who runs it."""

    port: int
    user: str
    key: Path
    known_hosts: str

    @property
    def address(self) -> str:
        """Return the beginning of its addresses; an absolute path follows."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run one on loopback, with keys and settings in `folder`; an ordinary user's lets in that user alone."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("openssh-server is not installed")
    port = free_port()
    for name in ("host", "user"):
        new_key(folder / name)
    user = pwd.getpwuid(os.geteuid()).pw_name
    if user == "root":
        os.makedirs("/run/sshd", exist_ok=True)  # where it locks itself in
    settings = folder / "sshd_config"
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nStrictModes no\nUsePAM {'yes' if _is_locked(user) else 'no'}\n"
        "PermitRootLogin prohibit-password\n"
    )
    with running(program, "-D", "-f", settings, port=port):
        public = " ".join((folder / "host.pub").read_text().split()[:2])
        yield SshServer(
            port=port,
            user=user,
            key=folder / "user",
            known_hosts=f"[127.0.0.1]:{port} {public}\n",
        )


def _is_locked(user: str) -> bool:
    """Say whether an account has no password by a mark that only PAM looks past; only root can tell."""
    if os.geteuid() != 0:
        return False
    with open("/etc/shadow") as lines:
        return any(line.startswith(f"{user}:!") for line in lines)


def new_key(path: Path) -> None:
    """Make a pair of keys at `path` and `path.pub`."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@contextmanager
def ssh_agent(folder: Path, *keys: Path) -> Iterator[Path]:
    """Run an agent that has keys; lends its socket."""
    path = folder / f"agent-{os.urandom(3).hex()}"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for key in keys:
            env = {**ENV, "SSH_AUTH_SOCK": os.fspath(path)}
            subprocess.run(["ssh-add", "-q", key], env=env, check=True)
        yield path
    finally:
        process.terminate()
        process.wait()
