"""HAProxy in front of an environment: two fixed slots of servers, told by its runtime socket, never reloaded.

What runs where is said at run time alone, so that the process that takes the requests is the same one before,
during and after a hand-over: no connection of a client ends because of it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.deploy.target import TargetFailed, Traffic
from pipeline.deploy.targets.units import short_path

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

SLOTS: Final = ("a", "b")
SERVERS: Final = 32  # of each slot
BACKEND: Final = "app"
ADMIN: Final = "admin.sock"
ANSWER_LIMIT_S: Final = 10.0
MOST_WEIGHT: Final = 256
SAMPLE: Final = 2000  # latencies of one release

# Instances get one connection for each request: one that ends cannot have an idle one that a request is just
# being written to. A refused connect is tried again elsewhere, whatever the method: nothing was sent yet.
# Without `nolinger` the kernel would track each of them for two minutes more, and its table would be full at
# 2,000 requests a second.
CONFIG: Final = """\
global
    stats socket unix@{admin} mode 600 level admin
    maxconn 8192
    hard-stop-after 60s
ring requests
    format raw
    maxlen 160
    size 2097152
defaults
    mode http
    timeout connect 2s
    timeout client 15m
    timeout server 15m
    timeout tunnel 1h
    timeout http-request 60s
    timeout http-keep-alive 5m
    timeout queue 5s
    option http-server-close
    option forwardfor
    retries 5
    option redispatch 1
    retry-on conn-failure
frontend front
    bind {address}
    log ring@requests format raw local0
    log-format "%s %ST %Ta %ts %[date(0,ms)]"
    default_backend {backend}
backend {backend}
    balance roundrobin
    option nolinger
    server-template a 1-{servers} 127.0.0.1:1 disabled
    server-template b 1-{servers} 127.0.0.1:1 disabled
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one server has answered since the proxy started, and what it is at."""

    requests: int
    errors: int
    in_flight: int


def config_text(address: str) -> str:
    """Return the configuration of a proxy that listens on `address`, "127.0.0.1:8080"."""
    return CONFIG.format(address=address, admin=ADMIN, backend=BACKEND, servers=SERVERS)


def plan_weights(shares: Mapping[str, float], servers: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the weight of each server, so that each slot gets its share, in percent.

    A slot without a share, or without servers, gets nothing.
    """
    raw = {
        server: shares[slot] / len(names)
        for slot, names in servers.items()
        for server in names
        if shares.get(slot, 0) > 0
    }
    most = max(raw.values(), default=0)
    return {server: max(1, round(MOST_WEIGHT * weight / most)) for server, weight in raw.items()}


class Proxy:
    """The proxy of one environment; `folder` has its configuration and its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def is_installed() -> bool:
        return shutil.which("haproxy") is not None

    def is_up(self) -> bool:
        try:
            self.ask("show info")
        except (OSError, TargetFailed):
            return False
        return True

    def ensure(self, address: str) -> bool:
        """Start it, unless it runs with that address; say whether it was started.

        One that listens elsewhere ends its connections in peace, beside the new one.

        Raises:
            TargetFailed: It does not start; carries what it said.
        """
        text = config_text(address)
        file = self.folder / "haproxy.cfg"
        is_up = self.is_up()
        if is_up and file.exists() and file.read_text() == text:
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pid = self._pid() if is_up else 0
        file.write_text(text)
        argv = ["haproxy", "-D", "-f", "haproxy.cfg", "-p", "haproxy.pid"]
        argv += ["-sf", str(pid)] if pid else []
        done = subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, timeout=30, check=False, close_fds=True
        )
        if done.returncode != 0:
            file.unlink()
            raise TargetFailed(
                f"cannot listen on `{address}`: the proxy does not start: {_last(done.stderr)}"
            )
        return True

    def set_address(self, server: str, address: str) -> None:
        """Say where a server is; requests on their way to the old place are tried again at the new one."""
        host, _, port = address.rpartition(":")
        self.tell([f"set server {BACKEND}/{server} addr {host} port {port}"])

    def apply(self, weights: Mapping[str, int], draining: Collection[str] = ()) -> None:
        """Give requests to these servers alone, those of weight first; `draining` end theirs.

        Returns when no new request goes by an older rule.
        """
        every = [f"{slot}{number}" for slot in SLOTS for number in range(1, SERVERS + 1)]
        ready = [
            line
            for name, weight in weights.items()
            for line in (
                f"set server {BACKEND}/{name} weight {weight}",
                f"set server {BACKEND}/{name} state ready",
            )
        ]
        others = [name for name in every if name not in weights]
        busy = {name for name, one in self.count().items() if one.in_flight} | {*draining}
        states = [
            f"set server {BACKEND}/{name} state {'drain' if name in busy else 'maint'}" for name in others
        ]
        self.tell([*ready, *states])

    def cut(self, servers: Sequence[str]) -> None:
        """End what is still in flight to these servers, which get nothing more."""
        for name in servers:
            self.tell(
                [
                    f"set server {BACKEND}/{name} state maint",
                    f"shutdown sessions server {BACKEND}/{name}",
                ]
            )

    def count(self) -> dict[str, Counted]:
        """Count by server."""
        text = self.ask("show stat").removeprefix("# ")
        rows = [row for row in csv.DictReader(io.StringIO(text)) if row["pxname"] == BACKEND]
        return {row["svname"]: _counted(row) for row in rows if row["svname"] not in ("BACKEND", "FRONTEND")}

    def latencies(self, since: float) -> dict[str, list[float]]:
        """The last latencies by server of requests answered after `since`, in seconds: a sample."""
        found: dict[str, list[float]] = {}
        for line in reversed(self.ask("show events requests").splitlines()):
            words = line.split()
            if len(words) != 5 or not words[4].isdecimal():
                continue
            if int(words[4]) < since * 1000:
                break
            sample = found.setdefault(words[0], [])
            if len(sample) < SAMPLE and words[2].isdecimal():
                sample.append(int(words[2]) / 1000)
        return found

    def tell(self, commands: Sequence[str]) -> None:
        """Send commands that answer nothing when they are done.

        Raises:
            TargetFailed: One was refused.
        """
        for first in range(0, len(commands), 50):
            said = self.ask(";".join(commands[first : first + 50])).strip()
            wrong = [line for line in said.splitlines() if line and "changed from" not in line]
            if wrong and not all("no need to change" in line or "nothing changed" in line for line in wrong):
                raise TargetFailed(f"cannot tell the proxy: {wrong[0]}")

    def ask(self, command: str) -> str:
        """Send a command and return the answer.

        Raises:
            TargetFailed: Nothing answers.
        """
        try:
            with (
                short_path(self.folder, ADMIN) as path,
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock,
            ):
                sock.settimeout(ANSWER_LIMIT_S)
                sock.connect(path)
                sock.sendall(command.encode() + b"\n")
                parts = []
                while part := sock.recv(1 << 16):
                    parts.append(part)
        except OSError as error:
            raise TargetFailed(f"cannot reach the proxy: {error}") from error
        return b"".join(parts).decode(errors="replace")

    def stop(self) -> None:
        """End it with its connections; not running is no error."""
        if not self.is_up():
            return
        pid = self._pid()
        os.kill(pid, 15)
        give_up = time.monotonic() + ANSWER_LIMIT_S
        while self.is_up() and time.monotonic() < give_up:
            time.sleep(0.02)

    def _pid(self) -> int:
        lines = self.ask("show info").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


def traffic_of(counted: Sequence[tuple[Counted, Counted]], latencies: Sequence[float]) -> Traffic:
    """Sum up servers, each with what it had counted before."""
    return Traffic(
        requests=sum(now.requests - before.requests for now, before in counted),
        errors=sum(now.errors - before.errors for now, before in counted),
        latencies=tuple(latencies[:SAMPLE]),
    )


def _counted(row: Mapping[str, str]) -> Counted:
    def number(name: str) -> int:
        return int(row.get(name) or 0)

    broken = number("econ") + number("eresp")
    answered = sum(number(f"hrsp_{kind}") for kind in ("2xx", "3xx", "4xx", "5xx", "other"))
    return Counted(requests=answered + broken, errors=number("hrsp_5xx") + broken, in_flight=number("scur"))


def _last(said: str) -> str:
    """The last alert but the summary, without what comes before it."""
    alerts = [line.partition(" : ")[2] for line in said.splitlines() if line.startswith("[ALERT]")]
    return next((one for one in alerts if "rror(s) found" not in one), said.strip())
