"""The proxy in front of a Docker host's instances: what it is configured with, told and asked.

HAProxy in a container, with two slots of servers that never change: each finds the instance that has its name
in the network. What gets traffic is told at run time, and written into the configuration as well, so that a
proxy that starts again goes on where it was; it is never reloaded.
"""

from __future__ import annotations

import base64
import csv
import io
import shlex
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.deploy.target import TargetFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SLOTS: Final = ("a", "b")
SERVERS: Final = 16  # of each slot, on each host
PORT: Final = 8080  # inside its container
ADMIN_PORT: Final = 9999
MOST_WEIGHT: Final = 256
SAMPLE: Final = 2000  # latencies of one slot
CONFIG_FOLDER: Final = "pipeline"

# Instances get one connection for each request: one that ends cannot have an idle one that a request is just
# being written to. A refused connect is tried again elsewhere, whatever the method: nothing was sent yet.
# Names are not looked up before it starts: what is not there would keep it waiting, once for each. Until then
# a server has an address that refuses, since only one of a known kind can be changed at run time.
# Only the host may tell it anything: requests to the port for that come from the network's gateway.
CONFIG: Final = """\
global
    stats socket abns@admin level admin
    maxconn 4096
    hard-stop-after 60s
ring requests
    format raw
    maxlen 160
    size 4194304
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
    retries 5
    option redispatch 1
    retry-on conn-failure
resolvers docker
    nameserver one 127.0.0.11:53
    resolve_retries 3
    timeout resolve 1s
    timeout retry 1s
    hold nx 5s
    hold valid 1s
listen admin
    mode tcp
    bind :{admin}
    timeout client 30s
    timeout server 30s
    tcp-request connection reject unless {{ src "$PIPELINE_GATEWAY" }}
    server admin abns@admin
frontend front
    bind :{port}
    option forwardfor
    log ring@requests format raw local0
    log-format "%s %ST %Ta %ts %Ts%ms"
    default_backend app
backend app
    balance roundrobin
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One place for an instance; the name that the instance has in the network is made of its name."""

    name: str  # "a1"
    port: int
    weight: int = 0  # 0: it gets nothing new
    address: str = ""  # "": the proxy finds it itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one server has answered since the proxy started, and what it is at."""

    requests: int
    errors: int
    in_flight: int
    takes: bool = True  # new requests


def alias_of(environment: str, server: str) -> str:
    """The name by which the proxy finds the instance of a server."""
    return f"{environment}-slot-{server}"


def config_text(environment: str, servers: Sequence[Server]) -> str:
    """Return a configuration in which these servers have their weights, and all others get nothing."""
    known = {one.name: one for one in servers}
    lines = [CONFIG.format(admin=ADMIN_PORT, port=PORT)]
    for slot in SLOTS:
        port = next((one.port for one in servers if one.name.startswith(slot)), 1)
        for number in range(1, SERVERS + 1):
            name = f"{slot}{number}"
            one = known.get(name, Server(name=name, port=port))
            state = f"weight {one.weight}" if one.weight else "disabled"
            where = f"{alias_of(environment, name)}:{one.port}"
            lines.append(f"    server {name} {where} resolvers docker init-addr 127.0.0.1 {state}\n")
    return "".join(lines)


def plan_weights(shares: Mapping[str, float], servers: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the weight of each server, so that each slot gets its share, in percent; others are left out."""
    raw = {
        server: shares[slot] / len(names)
        for slot, names in servers.items()
        for server in names
        if shares.get(slot, 0) > 0
    }
    most = max(raw.values(), default=0)
    return {server: max(1, round(MOST_WEIGHT * weight / most)) for server, weight in raw.items()}


def copy_config(proxy: str, text: str) -> str:
    """Return the command that puts a configuration into the proxy's container."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        data = text.encode()
        info = tarfile.TarInfo(f"{CONFIG_FOLDER}/haproxy.cfg")
        info.size, info.mode = len(data), 0o644
        tar.addfile(info, io.BytesIO(data))
    lines = base64.encodebytes(packed.getvalue()).decode()
    return f"base64 -d <<'END' | docker cp - {shlex.quote(proxy)}:/\n{lines}END\n"


def ask_command(address: str, commands: Sequence[str], *, limit_s: int = 10) -> str:
    """Return the command that sends lines to the proxy at `address`, and prints what it answers."""
    talk = f"exec 3<>/dev/tcp/{address}/{ADMIN_PORT} || exit 1; printf '%s\\n' \"$1\" >&3; cat <&3"
    batches = [";".join(commands[first : first + 40]) for first in range(0, len(commands), 40)]
    return "".join(
        f"timeout {limit_s} bash -c {shlex.quote(talk)} ask {shlex.quote(batch)}\n" for batch in batches
    )


def tell_lines(servers: Sequence[Server], busy: Sequence[str]) -> list[str]:
    """Return what gives requests to the servers with a weight alone; `busy` ones of the others end theirs."""
    ready = [
        line
        for one in servers
        if one.weight
        for line in (
            *([f"set server app/{one.name} addr {one.address} port {one.port}"] if one.address else []),
            f"set server app/{one.name} weight {one.weight}",
            f"set server app/{one.name} state ready",
        )
    ]
    chosen = {one.name for one in servers if one.weight}
    others = [name for name in _all_servers() if name not in chosen]
    return [
        *ready,
        *(f"set server app/{name} state {'drain' if name in busy else 'maint'}" for name in others),
    ]


def check_told(said: str) -> None:
    """See that the proxy has refused nothing.

    Raises:
        TargetFailed: It has.
    """
    fine = ("changed from", "no need to change", "nothing changed")
    wrong = [line for line in said.splitlines() if line.strip() and not any(one in line for one in fine)]
    if wrong:
        raise TargetFailed(f"cannot tell the proxy: {wrong[0]}", logs=said)


def read_stat(text: str) -> dict[str, Counted]:
    """Read what `show stat` says, by server."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
    return {
        row["svname"]: _counted(row)
        for row in rows
        if row["pxname"] == "app" and row["svname"] not in ("BACKEND", "FRONTEND")
    }


def read_latencies(text: str, since: float) -> dict[str, list[float]]:
    """Read what `show events requests` says of requests after `since`: the last of each slot, in seconds."""
    found: dict[str, list[float]] = {}
    for line in reversed(text.splitlines()):
        words = line.split()
        if len(words) < 5 or not words[4].isdecimal() or int(words[4]) < since * 1000:
            continue
        sample = found.setdefault(words[0][:1], [])
        if len(sample) < SAMPLE and words[2].isdecimal():
            sample.append(int(words[2]) / 1000)
    return found


def _all_servers() -> list[str]:
    return [f"{slot}{number}" for slot in SLOTS for number in range(1, SERVERS + 1)]


def _counted(row: Mapping[str, str]) -> Counted:
    def number(name: str) -> int:
        return int(row.get(name) or 0)

    # A refused connect is no error: it was tried again elsewhere, and counts there.
    broken = number("eresp")
    answered = sum(number(f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    return Counted(
        requests=answered + broken,
        errors=number("hrsp_5xx") + broken,
        in_flight=number("scur"),
        takes=_takes(row.get("status", "")),
    )


def _takes(status: str) -> bool:
    return status.startswith(("UP", "no check"))
