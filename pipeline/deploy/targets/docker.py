"""The target `docker`: every service on one or more Docker hosts, each with a proxy that hands over.

All hosts do the same at once, but for parts of a rolling deployment. What fails on one host names it; undoing
is the executor's, and reaches all hosts.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.shell import Shell
from pipeline.deploy.smoke import public_service
from pipeline.deploy.ssh_state import SshState
from pipeline.deploy.state import LocalState
from pipeline.deploy.target import Drained, Fenced, Live, TargetFailed, Traffic
from pipeline.deploy.targets import docker_check as checks
from pipeline.deploy.targets import docker_moves as moves
from pipeline.deploy.targets import docker_plan as plans
from pipeline.deploy.targets import docker_proxy as proxies
from pipeline.deploy.targets.docker_host import DockerHost, View
from pipeline.deploy.targets.docker_look import evidence_of, probe_container, usage_of
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.config.delivery import Environment, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State
    from pipeline.deploy.target import Deployment, Probe, Usage
    from pipeline.deploy.targets.docker_host import Container

FETCH_LIMIT_S: Final = 900.0
REMOVE_LIMIT_S: Final = 3.0  # for requests in flight to a release that is given up
FOLDER: Final = "~/.local/state/pipeline/environments"


@dataclass(kw_only=True)
class DockerTarget:
    """One environment. `folder` has its records where the first host is this machine's own.

    `open_shell` opens a host by its address.
    """

    environment: Environment
    folder: Path
    open_shell: Callable[[str], Shell] = Shell
    state: State = field(init=False)
    hosts: tuple[DockerHost, ...] = field(init=False)
    _counted: dict[tuple[str, str], proxies.Counted] = field(default_factory=dict, init=False)
    _shifted: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        addresses = self.environment.hosts or ("unix:///var/run/docker.sock",)
        shells = [self.open_shell(one) for one in addresses]
        name = self.environment.name
        there = self.environment.state or f"{FOLDER}/{name}"
        folders = [there if one.is_remote else str(self.folder.absolute()) for one in shells]
        self.hosts = tuple(
            DockerHost(shell, name, f"{place}/hosts/{checks.place_of(shell.address)}")
            for shell, place in zip(shells, folders, strict=True)
        )
        self.state = SshState(shells[0], there) if shells[0].is_remote else LocalState(self.folder)

    @property
    def kind(self) -> str:
        return "docker"

    def find_refusal(self, strategy: StrategyKind) -> str:
        services = self.environment.deploy.services.values()
        if strategy == "canary" and services and not any(one.port for one in services):
            return "no service takes requests, so there is no traffic to share"
        return ""

    async def check(self, deployment: Deployment) -> None:
        checks.check_release(self.environment, deployment.new, len(self.hosts))
        for one in deployment.new.services.values():
            await read_secrets(self.state, one.secrets)
        await self._on_all(lambda _, host: checks.check_host(host))

    async def live(self) -> Live:
        views = await self._views()
        names = {name for view in views for name in view.shares}
        shares = {
            name: sum(view.shares.get(name, 0.0) for view in views if name in view.running()) / len(views)
            for name in names
        }
        here = [view.fetched | {one.release for one in view.containers} for view in views]
        return Live(
            shares={name: share for name, share in shares.items() if share},
            running=frozenset().union(*(view.running() for view in views)),
            here=frozenset.intersection(*here),
        )

    async def fetch(self, deployment: Deployment) -> None:
        images = sorted({one.image for one in deployment.new.services.values()})
        every = [*images, *([self.environment.proxy] if public_service(deployment.new) else [])]
        script = "exec 9>&-\n" + "".join(
            f"docker image inspect {one} >/dev/null 2>&1 || docker pull -q {one} >/dev/null\n"
            for one in map(shlex.quote, every)
        )
        script += f"printf '%s\\n' {shlex.join(images)} >\"$folder/fetched/{deployment.new.id}\"\n"

        async def pull(_: int, host: DockerHost) -> None:
            await host.act(deployment.fence, script, "fetch images", timeout_s=FETCH_LIMIT_S)

        await self._on_all(pull)

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        release = deployment.old if deployment.old is not None else deployment.new
        one = deployment.new.services[service]
        secrets = await read_secrets(self.state, one.secrets)
        name = f"{self.environment.name}-{service}-{deployment.new.id}-run-{deployment.id[-6:]}"
        network = plans.release_network(self.environment.name, release.id)
        argv = ["docker", "run", "--rm", "--pull", "never", "--name", name, "--network", network]
        argv += [*plans.environment_options(one), one.image, *command]
        script = plans.ensure_network(self.environment.name, network)
        script += f"exec 9>&-\ntrap 'docker rm -f {name} >/dev/null 2>&1' EXIT\n"
        call = f"timeout -k 5 {timeout_s:g} {shlex.join(argv)}"
        script += f"code=0; {plans.secret_words(secrets)}{call} 2>&1 || code=$?\n"
        script += 'echo; echo "$code"\n'
        said = await self.hosts[0].act(
            deployment.fence, script, f"run a command of `{service}`", timeout_s=timeout_s + 30
        )
        text, _, code = said.rstrip("\n").rpartition("\n")
        if code != "0":
            why = f"it took more than {timeout_s:g} s" if code == "124" else f"it ended with {code}"
            raise TargetFailed(f"cannot run `{shlex.join(command)}` in `{service}`: {why}", logs=text)
        return text.removesuffix("\n")

    async def start(self, deployment: Deployment, part: int) -> None:
        views = await self._views()
        slot = self._slot(deployment, views)
        public = public_service(deployment.new)
        secrets = {
            name: await read_secrets(self.state, one.secrets) for name, one in deployment.new.services.items()
        }

        async def begin(place: int, host: DockerHost) -> None:
            every = plans.instances_of(deployment, place, len(self.hosts), slot, public, secrets)
            mine = [one for one in every if one.part == part]
            view = views[place]
            config = proxies.config_text(host.environment, moves.servers_of(view, view.shares))
            script = plans.start_script(deployment, host, view, mine, is_public=bool(public), config=config)
            if mine:
                await host.act(deployment.fence, script, "start the release")

        await self._on_all(begin)

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        found: list[Probe] = []

        async def one_of(host: DockerHost, one: Container) -> None:
            found.append(await probe_container(host, one, release.services[one.service].settings))

        async def look(_: int, host: DockerHost) -> None:
            view = await host.look()
            is_new = release.id == deployment.new.id
            due = [one for one in view.of(release.id) if is_new or one.status not in ("exited", "created")]
            async with anyio.create_task_group() as group:
                for one in due:
                    group.start_soon(one_of, host, one)

        await self._on_all(look)
        return tuple(sorted(found, key=lambda probe: probe.instance))

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for host, view in zip(self.hosts, await self._views(), strict=True):
            for one in view.of(deployment.new.id):
                port = deployment.new.services[one.service].settings.port
                if port is not None and one.is_up and one.service not in found:
                    found[one.service] = f"http://{await host.shell.forward(one.address, port)}"
        return found

    async def shift(self, deployment: Deployment, share: float) -> None:
        views = await self._views()
        self._counted = {}

        async def move(place: int, host: DockerHost) -> None:
            shares = moves.plan_shares(deployment, views[place], place, len(self.hosts), share)
            counted = await moves.move(host, deployment.fence, views[place], shares)
            self._counted |= {(host.name, name): one for name, one in counted.items()}

        await self._on_all(move)
        self._shifted = time.time()

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        slots: dict[str, str] = {}
        totals = {slot: [0, 0] for slot in proxies.SLOTS}
        latencies: dict[str, list[float]] = {slot: [] for slot in proxies.SLOTS}
        for host, view in zip(self.hosts, await self._views(), strict=True):
            ids = [one.id for one in (deployment.old, deployment.new) if one is not None]
            slots |= {view.slot_of(name): name for name in ids if view.slot_of(name)}
            nothing = proxies.Counted(requests=0, errors=0, in_flight=0)
            for name, now in (await host.count(view)).items():
                before = self._counted.get((host.name, name), nothing)
                restarted = now.requests < before.requests
                before = nothing if restarted else before
                totals[name[0]][0] += now.requests - before.requests
                totals[name[0]][1] += now.errors - before.errors
            if view.proxy is not None and view.proxy.is_up:
                ask = proxies.ask_command(view.proxy.address, ["show events requests"])
                said = await host.do(ask, "ask the proxy")
                for slot, seen in proxies.read_latencies(said, self._shifted).items():
                    latencies.setdefault(slot, []).extend(seen)
        return {
            name: Traffic(requests=totals[slot][0], errors=totals[slot][1], latencies=tuple(latencies[slot]))
            for slot, name in slots.items()
            if public_service(deployment.new)
        }

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        found: list[Usage] = []
        services = deployment.new.services.items()
        cpus = {name: one.settings.resources.cpus or 1.0 for name, one in services}

        async def look(_: int, host: DockerHost) -> None:
            view = await host.look()
            found.extend(await usage_of(host, view.of(deployment.new.id), cpus))

        await self._on_all(look)
        return tuple(sorted(found, key=lambda one: one.instance))

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        ended: list[Drained] = []

        async def leave(place: int, host: DockerHost) -> None:
            view = await host.look()
            due = [one for one in self._old_part(deployment, view, place, part) if one.is_up]
            if deployment.old is not None and due:
                ended.append(await moves.leave(host, deployment.fence, view, due, deployment.old))

        await self._on_all(leave)
        return Drained(cut_off=sum(one.cut_off for one in ended), killed=sum(one.killed for one in ended))

    async def restore(self, deployment: Deployment, part: int) -> None:
        services = deployment.new.services

        async def again(place: int, host: DockerHost) -> None:
            view = await host.look()
            alone = {
                one.service
                for one in view.of(deployment.new.id)
                if one.is_up and services[one.service].settings.exclusive
            }
            old = self._old_part(deployment, view, place, part)
            names = shlex.join(one.name for one in old if one.service not in alone)
            if names:
                await host.act(deployment.fence, f"docker start {names} >/dev/null", "start the old release")

        await self._on_all(again)

    async def remove(self, deployment: Deployment, part: int) -> None:
        new = deployment.new
        most = plans.most_replicas(new)

        async def away(place: int, host: DockerHost) -> None:
            view = await host.look()
            due = [one for one in view.of(new.id) if self._part(deployment, place, one, most) == part]
            is_last = len(due) == len(view.of(new.id))
            shares = {name: share for name, share in view.shares.items() if not is_last or name != new.id}
            if due and view.proxy is not None and view.proxy.is_up:
                gone = {one.server for one in due}
                await moves.move(host, deployment.fence, view, shares, without=gone)
                await moves.until_idle(host, view, gone, REMOVE_LIMIT_S)
            script = plans.remove_script(deployment, host, view, due, is_last=is_last)
            await host.act(deployment.fence, script + host.say_traffic(shares), "remove the release")

        if not self._is_same(deployment):
            await self._on_all(away)

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}

        async def keep(_: int, host: DockerHost) -> None:
            found.update(await evidence_of(host, (await host.look()).of(deployment.new.id)))

        await self._on_all(keep)
        return dict(sorted(found.items()))

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        views = await self._views()
        safe = keep.union(*(view.running() for view in views))
        known = {one.release for view in views for one in view.containers}
        gone = known.union(*(view.fetched for view in views)) - safe - {""}

        async def clear(place: int, host: DockerHost) -> None:
            script = plans.prune_script(host, views[place], sorted(gone))
            await host.act(deployment.fence, script, "remove old releases")

        if gone:
            await self._on_all(clear)
        return tuple(sorted(gone))

    async def close(self) -> None:
        for host in self.hosts:
            await host.shell.close()

    async def _views(self) -> list[View]:
        found: dict[int, View] = {}

        async def look(place: int, host: DockerHost) -> None:
            found[place] = await host.look()

        await self._on_all(look)
        return [found[place] for place in sorted(found)]

    async def _on_all(self, act: Callable[[int, DockerHost], Awaitable[None]]) -> None:
        """Do the same on all hosts side by side; all come to their end before the first failure is raised.

        Raises:
            PipelineError: One failed; that of the first, unless a later deployer has been somewhere.
        """
        failures: list[PipelineError] = []

        async def one(place: int, host: DockerHost) -> None:
            try:
                await act(place, host)
            except PipelineError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for place, host in enumerate(self.hosts):
                group.start_soon(one, place, host)
        if failures:
            raise min(failures, key=lambda error: not isinstance(error, Fenced))

    def _slot(self, deployment: Deployment, views: Sequence[View]) -> str:
        """The slot of the new release: the one it has, or the one that the old one has not."""
        new, old = deployment.new.id, deployment.old.id if deployment.old is not None else ""
        own = {view.slot_of(new) for view in views} - {""}
        taken = {one.slot for view in views for one in view.containers if one.release == old}
        taken |= {one.slot for view in views for one in view.containers if one.is_up}
        return min(own) if own else min({*proxies.SLOTS} - taken or {*proxies.SLOTS})

    def _part(self, deployment: Deployment, place: int, one: Container, most: int) -> int:
        hosts = len(self.hosts)
        return plans.part_of(place, one.number, hosts=hosts, most=most, parts=deployment.parts)

    def _old_part(self, deployment: Deployment, view: View, place: int, part: int) -> list[Container]:
        """The old release's instances on a host that leave in a part; none where old and new are the same."""
        old = deployment.old
        if old is None or self._is_same(deployment):
            return []
        most = plans.most_replicas(old)
        return [one for one in view.of(old.id) if self._part(deployment, place, one, most) == part]

    @staticmethod
    def _is_same(deployment: Deployment) -> bool:
        """Whether a release is brought back to where it runs, wholly or in part."""
        return deployment.old is not None and deployment.old.id == deployment.new.id
