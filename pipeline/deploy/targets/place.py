"""What the target `local` is made of: its record, its holders with their instances, and its proxy.

Every change asks first whether a later deployer has been here: the record of it, and each holder, refuse one
whose number is lower.
"""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio

from pipeline.deploy.history import load_release
from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.smoke import public_service
from pipeline.deploy.target import Drained, Fenced
from pipeline.deploy.targets.haproxy import SLOTS, Proxy, plan_weights
from pipeline.deploy.targets.units import Instance, Seen, Unit
from pipeline.deploy.targets.world import (
    World,
    names_of_part,
    partner,
    read_world,
    shared_services,
    shared_unit,
    write_world,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import LocalState
    from pipeline.deploy.target import Deployment

LOOK_EVERY_S: Final = 0.02
FRONT: Final = ""  # the name of the proxy's own port among those of loopback


@dataclass(kw_only=True)
class Change:
    """A change of the record; it is written when the body that makes it has ended well."""

    world: World

    def __call__(self, **values: Any) -> None:
        self.world = replace(self.world, **values)


@dataclass(kw_only=True)
class Place:
    """One environment on this machine."""

    environment: Environment
    state: LocalState
    holder: tuple[str, ...]
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.state.folder / "proxy")

    @property
    def world(self) -> World:
        return read_world(self.state)

    @contextmanager
    def changing(self, deployment: Deployment) -> Iterator[Change]:
        """Keep others out while the body changes the record, and what can be changed at once.

        Raises:
            Fenced: A later deployer has been here.
        """
        with self.state.alone():
            world = read_world(self.state)
            if deployment.fence < world.fence:
                raise Fenced(deployment.fence, world.fence)
            change = Change(world=replace(world, fence=deployment.fence))
            if world.fence != deployment.fence:
                write_world(self.state, change.world)  # before anything of this deployer's can be seen
            yield change
            write_world(self.state, change.world)

    def guard(self, deployment: Deployment) -> None:
        """Refuse a deployer that is not the last one, and any that was before this one.

        Raises:
            Fenced: A later deployer has been here.
        """
        with self.changing(deployment):
            pass

    def unit(self, name: str) -> Unit:
        return Unit(folder=self.state.folder / "units" / name, command=self.holder)

    def archive(self, digest: str) -> Path:
        return self.state.folder / "images" / f"{digest.removeprefix('sha256:')}.tar"

    # ---- what runs ---------------------------------------------------------------------------

    def units_of(self, release: Release) -> tuple[Unit, ...]:
        """The holder of the release, then those of its exclusive services."""
        shared = shared_services(release)
        own = [release.id] if len(shared) < len(release.services) else []
        return tuple(
            self.unit(name)
            for name in (*own, *(shared_unit(name, release.services[name]) for name in shared))
        )

    async def seen(self, release: Release) -> tuple[Seen, ...]:
        """All instances of a release that should run."""
        return tuple([one for unit in self.units_of(release) for one in await unit.status()])

    async def is_running(self, release_id: str) -> bool:
        """Whether any instance is up that the release has for itself, or shares if it has no other."""
        release = await load_release(self.state, release_id)
        unit = self.unit(release_id) if release is None else self.units_of(release)[0]
        return any(one.up for one in await unit.status())

    async def instances(self, release: Release, services: Collection[str]) -> list[Instance]:
        """All instances of these services, each service after those it needs."""
        world = self.world
        named = {name: version for one in release.services.values() for name, version in one.secrets.items()}
        values = await read_secrets(self.state, named)
        return [
            self._instance(world, release, name, number, values)
            for name in release.in_order()
            if name in services
            for number in range(1, release.services[name].settings.replicas + 1)
        ]

    def _instance(
        self, world: World, release: Release, name: str, number: int, values: Mapping[str, str]
    ) -> Instance:
        one = release.services[name]
        settings, archive = one.settings, self.archive(one.image_digest)
        needs = {need: release.services[need].settings for need in settings.needs if need in release.services}
        told = {"PIPELINE_RELEASE": release.id, "PIPELINE_VERSION": release.version}
        slot = world.slot_of(release.id) if name == public_service(release) else ""
        return Instance(
            name=f"{name}-{number}",
            service=name,
            image=one.image,
            archive=str(archive) if archive.exists() else "",
            command=None if settings.command is None else tuple(settings.command),
            env={**({} if settings.exclusive else told), "PIPELINE_DIGEST": one.image_digest, **settings.env},
            secrets={secret: values[secret] for secret in settings.secrets},
            port=settings.port,
            front=world.fronts.get(name, 0) if settings.exclusive else 0,
            volumes={path: f"{self.state.folder} {volume}" for path, volume in settings.volumes.items()},
            bound={
                need: f"{need}-{partner(number, settings.replicas, its.replicas)}"
                for need, its in needs.items()
                if not its.exclusive
            },
            outside={
                need: (its.port, world.fronts.get(need, 0))
                for need, its in needs.items()
                if its.exclusive and its.port is not None
            },
            server=f"{slot}{number}" if slot else "",
        )

    # ---- starting and stopping ---------------------------------------------------------------

    async def start(self, deployment: Deployment, release: Release, part: int) -> None:
        """Start a part's instances, after the exclusive services."""
        await self.start_shared(deployment, release)
        own = release.services.keys() - shared_services(release)
        if own:
            unit = self.unit(release.id)
            await unit.ensure()
            wanted = names_of_part(release, part, deployment.parts)
            chosen = [one for one in await self.instances(release, own) if one.name in wanted]
            await unit.start(deployment.fence, chosen, str(self.proxy.folder))

    async def start_shared(
        self, deployment: Deployment, release: Release, *, unless_another: bool = False
    ) -> None:
        """Start the exclusive services of a release; those of others stop before.

        Args:
            unless_another: Leave those of others as they are, and begin none beside them.
        """
        for name in shared_services(release):
            one = release.services[name]
            if one.settings.port is not None and name not in self.world.fronts:
                with self.changing(deployment) as change:
                    change(fronts={**change.world.fronts, name: free_port()})
            own = self.unit(shared_unit(name, one))
            others = [unit for unit in self._units_like(name) if unit.id != own.id and unit.is_up()]
            if others and unless_another:
                continue
            for unit in others:
                await self._stop_unit(deployment, unit, release)
            await own.ensure()
            found = await self.instances(release, {name})
            await own.start(deployment.fence, found, str(self.proxy.folder))

    async def stop(
        self, deployment: Deployment, release: Release, part: int, *, beside: Release | None
    ) -> int:
        """Stop a part's instances, those that need others first; return how many had to be killed.

        The holder stays for a while: whoever goes back need not wait for an engine, and none takes processor
        time to end during a hand-over. With the last part go the exclusive services that `beside` has not.
        """
        unit, killed = self.unit(release.id), 0
        if unit.is_up():
            wanted = names_of_part(release, part, deployment.parts)
            limits = {
                f"{name}-{number}": float(release.services[name].settings.drain.stop_timeout_s)
                for name in reversed(release.in_order())
                for number in range(1, release.services[name].settings.replicas + 1)
                if f"{name}-{number}" in wanted
            }
            killed = await unit.stop(deployment.fence, limits)
        kept = {one.id for one in self.units_of(beside)} if beside is not None else set()
        for one in reversed(self.units_of(release)):
            if part == deployment.parts and one.id not in {unit.id, *kept} and one.is_up():
                killed += await self._stop_unit(deployment, one, release)
        return killed

    async def end_others(self, keep: Collection[str]) -> None:
        """End the holders of other releases than `keep`, with what an undoing that failed may have left."""
        for folder in sorted((self.state.folder / "units").glob("r-*")):
            if folder.name not in keep:
                await self.unit(folder.name).quit()

    def _units_like(self, service: str) -> list[Unit]:
        return [self.unit(path.name) for path in sorted((self.state.folder / "units").glob(f"x-{service}-*"))]

    async def _stop_unit(self, deployment: Deployment, unit: Unit, release: Release) -> int:
        limits = {
            one.name: float(release.services[one.service].settings.drain.stop_timeout_s)
            for one in await unit.status()
        }
        killed = await unit.stop(deployment.fence, limits)
        await unit.quit()
        return killed

    # ---- traffic -----------------------------------------------------------------------------

    def take_slot(self, deployment: Deployment) -> None:
        """Give the new release servers of the proxy that the old one has not."""
        new, old = deployment.new, deployment.old
        with self.changing(deployment) as change:
            slots = change.world.slots
            if not change.world.slot_of(new.id):
                taken = {old.id, *change.world.shares} if old is not None else {*change.world.shares}
                free = [slot for slot in SLOTS if slots.get(slot) not in taken]
                change(slots={**slots, (free or [self._other_slot(change.world, old)])[0]: new.id})

    @staticmethod
    def _other_slot(world: World, old: Release | None) -> str:
        return next(slot for slot in SLOTS if old is None or world.slots.get(slot) != old.id)

    async def apply(self, deployment: Deployment, without: Collection[str] = ()) -> None:
        """Make the proxy send what the record says to all instances that should run, except `without`.

        Returns when the last new request went by the old rule.
        """
        world = self.world
        places: dict[str, str] = {}  # server to address
        servers: dict[str, list[str]] = {}
        for release in filter(None, (deployment.new, deployment.old)):
            slot = world.slot_of(release.id)
            for one in await self.seen(release):
                server = f"{slot}{one.name.rpartition('-')[2]}"
                if slot and one.service == public_service(release) and one.address and server not in places:
                    places[server] = one.address
                    servers.setdefault(slot, []).append(server)
        if not places and not self.proxy.is_up():
            return
        usable = {slot: [one for one in names if one not in without] for slot, names in servers.items()}
        with self.changing(deployment) as change:
            address = self._listen_on(change)
            if self.proxy.ensure(address):
                for server, place in places.items():
                    self.proxy.set_address(server, place)
            shares = {slot: change.world.shares.get(name, 0.0) for slot, name in change.world.slots.items()}
            self.proxy.apply(plan_weights(shares, usable), without)

    async def empty(
        self, deployment: Deployment, release: Release, part: int, limit_s: float | None
    ) -> Drained:
        """Give a part's instances no more requests, and wait for those in flight.

        Args:
            limit_s: For the waiting; None: what the service says.
        """
        name, slot = public_service(release), self.world.slot_of(release.id)
        if not name or not slot or not self.proxy.is_up():
            return Drained()
        wanted = names_of_part(release, part, deployment.parts)
        leaving = [f"{slot}{one.rpartition('-')[2]}" for one in wanted if one.rpartition("-")[0] == name]
        await self.apply(deployment, leaving)
        drain = release.services[name].settings.drain.timeout_s if limit_s is None else limit_s
        give_up = time.monotonic() + drain
        while (left := self._in_flight(leaving)) and time.monotonic() < give_up:  # noqa: ASYNC110
            await anyio.sleep(LOOK_EVERY_S)
        with self.changing(deployment):
            self.proxy.cut(leaving)
        return Drained(cut_off=left)

    def _in_flight(self, servers: Collection[str]) -> int:
        return sum(one.in_flight for name, one in self.proxy.count().items() if name in servers)

    def listens_on(self) -> str:
        """Where the proxy listens, "127.0.0.1:8080"; "" when it has no port yet."""
        if self.environment.address is None:
            port = self.world.fronts.get(FRONT)
            return f"127.0.0.1:{port}" if port else ""
        parts = urlsplit(self.environment.address)
        return f"{parts.hostname}:{parts.port or 80}"

    def _listen_on(self, change: Change) -> str:
        if self.environment.address is None and FRONT not in change.world.fronts:
            change(fronts={**change.world.fronts, FRONT: free_port()})
            return f"127.0.0.1:{change.world.fronts[FRONT]}"
        return self.listens_on()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
