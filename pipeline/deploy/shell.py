"""Runs short scripts on a host of an environment: here, or over SSH.

A script goes through standard input, so that nothing in it shows in a list of processes. It is one function
that is called in the last line: what arrives cut off is a syntax error, and does nothing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from pipeline.deploy.target import TargetFailed
from pipeline.errors import PipelineError

CONNECT_LIMIT_S: Final = 10
GRACE_S: Final = 10.0  # the host ends a script itself; we wait so much longer for it to say so
AT_ONCE: Final = 6  # a server takes ten sessions of one connection, unless it is told otherwise
SSH_FAILED: Final = 255
TIMED_OUT: Final = (124, 137)  # of `timeout`, and of who it had to kill


class BadHost(PipelineError):
    """An address of a host that cannot be used."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot use host `{address}`: expected `ssh://USER@NAME` or `unix:///PATH`")


class HostGone(TargetFailed):
    """A host does not answer, or the connection to it ended."""

    def __init__(self, host: str, what: str, *, logs: str = "") -> None:
        super().__init__(f"cannot reach host `{host}`: {what}", logs=logs)
        self.host = host


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a script ended."""

    code: int
    out: str = field(repr=False)
    err: str = field(repr=False)


class Shell:
    """One host. Connections are shared until `close`.

    `ssh_options` are added to each call of `ssh`; `prefix` stands before what runs on this machine.
    """

    def __init__(
        self, address: str, *, ssh_options: tuple[str, ...] = (), prefix: tuple[str, ...] = ()
    ) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("ssh", "unix") or not (parts.hostname or parts.path):
            raise BadHost(address)
        self.address = address
        self.is_remote = parts.scheme == "ssh"
        self.name = parts.hostname or parts.path
        if parts.port is not None:
            self.name += f":{parts.port}"
        self._user_host = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        self._port = parts.port
        self._options = ssh_options
        self._prefix = prefix
        self._socket = parts.path
        self._folder: Path | None = None
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def run(self, script: str, *, timeout_s: float) -> Said:
        """Run a bash script that stops at its first failure, and return how it ended.

        Raises:
            HostGone: The host does not answer, or not in time.
        """
        text = f"main() {{\nset -euo pipefail\nexport LC_ALL=C\n{script}\n}}\nmain </dev/null\n"
        argv = ["timeout", "-k", "5", f"{timeout_s:g}", "bash", "-s"]
        env = dict(os.environ)
        if self.is_remote:
            argv = [*self._ssh(), self._user_host, shlex.join(argv)]
        else:
            argv = [*self._prefix, *argv]
            env["DOCKER_HOST"] = self.address
        async with self._limiter:
            done = await self._call(argv, text, env, timeout_s + CONNECT_LIMIT_S + GRACE_S)
        if self.is_remote and done.code == SSH_FAILED:
            said = done.err.strip().splitlines()
            raise HostGone(self.name, said[-1] if said else "the SSH connection ended", logs=done.err)
        if done.code in TIMED_OUT:
            raise HostGone(self.name, f"it did not answer within {timeout_s:g} s", logs=done.err)
        return done

    async def forward(self, host: str, port: int) -> str:
        """Return an address of this machine that leads to one that the host can reach, until `close`."""
        if not self.is_remote:
            return f"{host}:{port}"
        free = _free_port()
        argv = [*self._ssh(), "-O", "forward", "-L", f"127.0.0.1:{free}:{host}:{port}", self._user_host]
        await self.run(":", timeout_s=CONNECT_LIMIT_S)  # opens the shared connection where there is none
        done = await self._call(argv, "", dict(os.environ), CONNECT_LIMIT_S)
        if done.code != 0:
            raise HostGone(self.name, f"it does not lead to `{host}:{port}`: {done.err.strip()}")
        return f"127.0.0.1:{free}"

    async def close(self) -> None:
        """End the shared connection."""
        if self._folder is None:
            return
        await self._call([*self._ssh(), "-O", "exit", self._user_host], "", dict(os.environ), CONNECT_LIMIT_S)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    async def _call(self, argv: list[str], text: str, env: dict[str, str], limit_s: float) -> Said:
        try:
            with anyio.fail_after(limit_s):
                done = await anyio.run_process(
                    argv, input=text.encode(), check=False, env=env, stderr=subprocess.PIPE
                )
        except TimeoutError as error:
            raise HostGone(self.name, f"it did not answer within {limit_s:g} s") from error
        except OSError as error:
            raise HostGone(self.name, f"`{argv[0]}` does not start: {error}") from error
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return Said(code=done.returncode, out=out, err=err)

    def _ssh(self) -> list[str]:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="pipeline-ssh-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_LIMIT_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPersist": "60",
            "ControlPath": str(self._folder / "%C"),
        }
        port = ["-p", str(self._port)] if self._port else []
        return [
            "ssh",
            *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
            *port,
            *self._options,
        ]


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
