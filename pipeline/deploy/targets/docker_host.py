"""One Docker host: looks at what runs there, and changes it unless a later deployer has been there.

Everything goes by the `docker` command of the host itself, in a script over one connection: the comparison of
fencing numbers and the change are one step under one lock of that host, and each has its own limit of time,
which neither a socket carried over SSH nor the API would give.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.ssh_state import quote_home
from pipeline.deploy.target import Fenced, TargetFailed
from pipeline.deploy.targets.docker_proxy import (
    PORT,
    Counted,
    ask_command,
    read_stat,
)

if TYPE_CHECKING:
    from pipeline.deploy.shell import Said, Shell

LOOK_LIMIT_S: Final = 30.0
ACT_LIMIT_S: Final = 120.0
FENCED: Final = 97
LABEL: Final = "pipeline."
CUT: Final = "--- pipeline ---"

GUARD: Final = """\
umask 077
folder={folder}
mkdir -p "$folder"/fetched
exec 9>"$folder/lock"
flock -w 60 9 || {{ echo 'another deployer is at work there' >&2; exit 1; }}
seen=$(cat "$folder/fence" 2>/dev/null || echo 0)
if [ "$seen" -gt {fence} ]; then echo "$seen"; exit {fenced}; fi
echo {fence} >"$folder/fence.new"
sync "$folder/fence.new"
mv -f "$folder/fence.new" "$folder/fence"
"""

LOOK: Final = """\
folder={folder}
ids=$(docker ps -aq --no-trunc --filter label=pipeline.environment={environment})
if [ -n "$ids" ]; then docker inspect $ids 2>/dev/null || true; else echo '[]'; fi
echo '{cut}'
cat "$folder/traffic" 2>/dev/null || true
echo '{cut}'
for file in "$folder"/fetched/r-*; do
    [ -e "$file" ] || continue
    if xargs -r docker image inspect <"$file" >/dev/null 2>&1; then basename "$file"; fi
done
"""

# What Docker says, and what people are told.
KNOWN: Final = (
    (r"Cannot connect to the Docker daemon|error during connect", "its Docker daemon does not answer"),
    (r"permission denied while trying to connect", "the user may not use its Docker daemon"),
    (r"(?i)no space left on device", "its disk is full"),
    (r"No such image: (\S+)", "image `{0}` is not there any more"),
    (r"manifest for (\S+) not found|manifest unknown", "the registry does not have the image"),
    (r"pull access denied|unauthorized|no basic auth", "the registry lets it not have the image"),
    (r"port is already allocated|address already in use", "the port is taken by something else"),
    (r"dial tcp .*(refused|no such host|timeout)", "the registry does not answer"),
    (r"/dev/tcp/", "its proxy does not answer"),
    (r"command not found", "it lacks a program: {last}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of the environment, as Docker sees it."""

    name: str
    service: str  # "" for the proxy and for commands that ran once
    release: str
    slot: str
    part: int
    number: int
    status: str  # "running", "exited", "restarting", "created" …
    address: str
    port: int  # to which the proxy sends requests; 0: it sends it none
    exit_code: int
    restarts: int
    out_of_memory: bool

    @property
    def is_up(self) -> bool:
        return self.status == "running"

    @property
    def server(self) -> str:
        """What the proxy calls its place."""
        return f"{self.slot}{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one look at a host has shown. `shares` is what was said of traffic last, by release."""

    containers: tuple[Container, ...]
    proxy: Container | None
    shares: dict[str, float]
    fetched: frozenset[str]

    def of(self, release: str) -> tuple[Container, ...]:
        return tuple(one for one in self.containers if one.release == release)

    def slot_of(self, release: str) -> str:
        """The slot of a release's instances that are up; "" when none is."""
        return next((one.slot for one in self.of(release) if one.is_up), "")

    def running(self) -> frozenset[str]:
        return frozenset(one.release for one in self.containers if one.is_up)


class DockerHost:
    """One host of one environment; `folder` is where it keeps its fencing number there."""

    def __init__(self, shell: Shell, environment: str, folder: str) -> None:
        self.shell = shell
        self.environment = environment
        self._folder = quote_home(folder)

    @property
    def name(self) -> str:
        return self.shell.name

    async def look(self) -> View:
        """Look at all containers of the environment, up or not."""
        text = LOOK.format(folder=self._folder, environment=self.environment, cut=CUT)
        said = await self.do(text, "look at what runs", timeout_s=LOOK_LIMIT_S)
        plain, traffic, fetched = said.split(CUT)
        every = [_container(one) for one in json.loads(plain)]
        shares = dict(line.split() for line in traffic.strip().splitlines())
        return View(
            containers=tuple(sorted((one for one in every if one.service), key=lambda one: one.name)),
            proxy=next((one for one in every if one.name == self.proxy_name), None),
            shares={name: float(share) for name, share in shares.items()},
            fetched=frozenset(fetched.split()),
        )

    @property
    def proxy_name(self) -> str:
        return f"{self.environment}-proxy"

    @property
    def front(self) -> str:
        """The network that the proxy shares with instances that get requests from outside."""
        return f"{self.environment}-front"

    async def act(self, fence: int, script: str, act: str, *, timeout_s: float = ACT_LIMIT_S) -> str:
        """Change something, unless a later deployer has been here; `unlock` in the script lets others in.

        Raises:
            Fenced: One has; nothing was changed.
            TargetFailed: It did not work; one sentence says why.
        """
        guard = GUARD.format(folder=self._folder, fence=fence, fenced=FENCED)
        said = await self.shell.run(guard + script, timeout_s=timeout_s)
        if said.code == FENCED:
            raise Fenced(fence, int(said.out))
        return self._good(said, act)

    async def do(self, script: str, act: str, *, timeout_s: float = LOOK_LIMIT_S) -> str:
        """Run a script that changes nothing, and return what it printed.

        Raises:
            TargetFailed: It did not work; one sentence says why.
        """
        return self._good(await self.shell.run(script, timeout_s=timeout_s), act)

    async def count(self, view: View) -> dict[str, Counted]:
        """Count what the proxy's servers have answered; {} without a proxy."""
        if view.proxy is None or not view.proxy.is_up:
            return {}
        text = ask_command(view.proxy.address, ["show stat"])
        return read_stat(await self.do(text, "ask the proxy"))

    def say_traffic(self, shares: dict[str, float]) -> str:
        """Return the command that writes down which release has how much of the traffic."""
        lines = "".join(f"{name} {share:g}\n" for name, share in shares.items() if share)
        write = f"cat >\"$folder/traffic.new\" <<'END'\n{lines}END\n"
        return write + 'mv -f "$folder/traffic.new" "$folder/traffic"\n'

    def _good(self, said: Said, act: str) -> str:
        if said.code == 0:
            return said.out
        raise TargetFailed(
            f"cannot {act} on host `{self.name}`: {explain(said.err, said.code)}", logs=said.err
        )


def explain(said: str, code: int) -> str:
    """Say in one clause why a command has failed."""
    lines = [line for line in said.strip().splitlines() if line]
    last = re.sub(r"^(Error response from daemon|docker): ", "", lines[-1]) if lines else ""
    for pattern, text in KNOWN:
        if found := re.search(pattern, said):
            return text.format(*(one or "" for one in (found.groups() or ("",))), last=last)
    return last or f"it ended with {code}"


def publish(address: str) -> str:
    """Return where a host's proxy listens for an environment's address, as `docker create -p` takes it."""
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    host = str(parts.hostname)
    # Another address may be that of whatever stands before several hosts: it is none of this one's.
    local = host if host == "localhost" or host.startswith("127.") else ""
    where = f"{'127.0.0.1' if local == 'localhost' else local}:" if local else ""
    return f"{where}{parts.port or 80}:{PORT}"


def _container(plain: dict[str, Any]) -> Container:
    labels = plain["Config"]["Labels"] or {}

    def label(name: str) -> str:
        return str(labels.get(LABEL + name, ""))

    networks = plain["NetworkSettings"]["Networks"]
    addresses = {name: one["IPAddress"] for name, one in networks.items() if one["IPAddress"]}
    front = next((one for name, one in addresses.items() if name == f"{label('environment')}-front"), "")
    state = plain["State"]
    return Container(
        name=plain["Name"].lstrip("/"),
        service=label("service"),
        release=label("release"),
        slot=label("slot"),
        part=int(label("part") or 0),
        number=int(label("number") or 0),
        status=state["Status"],
        address=front or next(iter(addresses.values()), ""),
        port=int(label("port") or 0),
        exit_code=int(state["ExitCode"]),
        restarts=int(plain["RestartCount"]),
        out_of_memory=bool(state["OOMKilled"]),
    )
