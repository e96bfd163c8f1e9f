"""The target `local`: the embedded engine runs the instances, HAProxy in front of them hands over.

Each release has a holder of its own, and each exclusive service that stays the same one that releases share:
a holder that dies takes nothing else with it. A release has one of two slots of the proxy's servers.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.smoke import public_service
from pipeline.deploy.target import Drained, Live, Probe, TargetUnfit, Traffic, Usage
from pipeline.deploy.targets.archives import keep_archive
from pipeline.deploy.targets.haproxy import SERVERS, Counted, traffic_of
from pipeline.deploy.targets.looking import Taken, probe_instance, taken_by
from pipeline.deploy.targets.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config.delivery import Environment, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import LocalState
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.units import Seen

LEAST_FREE_BYTES: Final = 1 << 30
REMOVE_LIMIT_S: Final = 2.0  # for requests in flight to a release that is given up


@dataclass(kw_only=True)
class LocalTarget:
    """One environment on this machine.

    `holder` starts a holder, and `archives` has the OCI archives of images that no registry has, by digest.
    """

    environment: Environment
    state: LocalState
    holder: tuple[str, ...]
    archives: Mapping[str, Path] = field(default_factory=dict)
    place: Place = field(init=False)
    _taken: dict[str, Taken] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.place = Place(environment=self.environment, state=self.state, holder=self.holder)

    @property
    def kind(self) -> str:
        return "local"

    @property
    def address(self) -> str:
        """The URL at which people reach it; "" before its first release came."""
        found = self.place.listens_on()
        return f"http://{found}" if found else ""

    def find_refusal(self, strategy: StrategyKind) -> str:
        return ""

    async def check(self, deployment: Deployment) -> None:
        release = deployment.new
        name = public_service(release)
        if name and not self.place.proxy.is_installed():
            error = TargetUnfit("cannot take requests: `haproxy` is not installed on this machine")
            error.hint = "install the package `haproxy`"
            raise error
        if name and release.services[name].settings.replicas > SERVERS:
            raise TargetUnfit(f"cannot run `{name}`: it has more than {SERVERS} replicas")
        address = self.environment.address or "http://"
        if not address.startswith("http://"):
            raise TargetUnfit(f"cannot take requests at `{address}`: this target speaks plain HTTP")
        free = shutil.disk_usage(self.state.folder).free
        if free < LEAST_FREE_BYTES:
            raise TargetUnfit(f"cannot take a release: the disk has only {free >> 20} MiB left")

    async def live(self) -> Live:
        world, place = self.place.world, self.place
        known = sorted({*world.fetched, *world.slots.values(), *world.shares})
        running = frozenset([name for name in known if await place.is_running(name)])
        is_sent = not world.slots or not world.shares or place.proxy.is_up() or not place.listens_on()
        here = {
            name
            for name, images in world.fetched.items()
            if all(one not in world.archived or place.archive(one).exists() for one in images)
        }
        shares = {name: share for name, share in world.shares.items() if name in running and is_sent}
        return Live(shares=shares, running=running, here=frozenset(here))

    async def fetch(self, deployment: Deployment) -> None:
        release, place = deployment.new, self.place
        place.guard(deployment)
        digests = await self._keep_archives(release)
        unit = place.unit(release.id)
        await unit.ensure()
        await unit.fetch(deployment.fence, await place.instances(release, release.services))
        with place.changing(deployment) as change:
            archived = {digest for digest in digests if place.archive(digest).exists()}
            change(
                fetched={**change.world.fetched, release.id: tuple(sorted(digests))},
                archived=tuple(sorted({*change.world.archived, *archived})),
            )

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        place = self.place
        place.guard(deployment)
        await self._keep_archives(deployment.new)
        await place.start_shared(deployment, deployment.new, unless_another=True)
        unit = place.unit(deployment.new.id)
        await unit.ensure()
        instance = (await place.instances(deployment.new, {service}))[0]
        return await unit.run(deployment.fence, instance, command, timeout_s)

    async def start(self, deployment: Deployment, part: int) -> None:
        self.place.take_slot(deployment)
        await self.place.start(deployment, deployment.new, part)
        await self.place.apply(deployment)

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        found = await self.place.seen(release)
        probes: dict[str, Probe] = {}

        async def look(seen: Seen) -> None:
            settings = release.services[seen.service].settings
            probes[seen.name] = await probe_instance(seen, settings.health, settings.port)

        async with anyio.create_task_group() as group:
            for seen in found:
                group.start_soon(look, seen)
        missing = sorted(release.services.keys() - {one.service for one in found})
        gone = [Probe(service=name, instance="1", passed=False, said="it does not run") for name in missing]
        return (*(probes[name] for name in sorted(probes)), *gone)

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for seen in await self.place.seen(deployment.new):
            if seen.address:
                found.setdefault(seen.service, f"http://{seen.address}")
        return found

    async def shift(self, deployment: Deployment, share: float) -> None:
        new, old, place = deployment.new, deployment.old, self.place
        shares = {new.id: share}
        if old is not None and old.id != new.id:
            shares[old.id] = 100 - share
        with place.changing(deployment) as change:
            change(shares={name: part for name, part in shares.items() if part > 0})
        await place.apply(deployment)
        counted = place.proxy.count() if place.proxy.is_up() else {}
        with place.changing(deployment) as change:
            before = {name: (one.requests, one.errors) for name, one in counted.items() if one.requests}
            change(shifted=time.time(), counted=before)

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        place, world = self.place, self.place.world
        if not public_service(deployment.new) or not place.proxy.is_up():
            return {}
        counted, latencies = place.proxy.count(), place.proxy.latencies(world.shifted)
        found: dict[str, Traffic] = {}
        for slot, release in world.slots.items():
            names = [name for name in counted if name.startswith(slot)]
            pairs = [(counted[name], _before(world.counted.get(name, (0, 0)))) for name in names]
            one = traffic_of(pairs, [taken for name in names for taken in latencies.get(name, ())])
            if one.requests or release in world.shares:
                found[release] = one
        return found

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        found = []
        for seen in await self.place.seen(deployment.new):
            taken = taken_by(seen.pid) if seen.up else None
            cpus = deployment.new.services[seen.service].settings.resources.cpus or 1.0
            before = self._taken.get(seen.name)
            found.append(
                Usage(
                    service=seen.service,
                    instance=seen.name.rpartition("-")[2],
                    cpu_percent=taken.percent_since(before, cpus) if taken and before else None,
                    memory_bytes=taken.memory_bytes if taken else None,
                    restarts=seen.restarts,
                )
            )
            if taken is not None:
                self._taken[seen.name] = taken
        return tuple(found)

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        old, new, place = deployment.old, deployment.new, self.place
        place.guard(deployment)
        if old is None or old.id == new.id:
            return Drained()
        drained = await place.empty(deployment, old, part, None)
        killed = await place.stop(deployment, old, part, beside=new)
        await place.apply(deployment)
        return Drained(cut_off=drained.cut_off, killed=killed)

    async def restore(self, deployment: Deployment, part: int) -> None:
        old, place = deployment.old, self.place
        place.guard(deployment)
        if old is not None and old.id != deployment.new.id:
            await place.start(deployment, old, part)
            await place.apply(deployment)

    async def remove(self, deployment: Deployment, part: int) -> None:
        new, old, place = deployment.new, deployment.old, self.place
        place.guard(deployment)
        if old is not None and old.id == new.id:
            return
        await place.empty(deployment, new, part, REMOVE_LIMIT_S)
        await place.stop(deployment, new, part, beside=old)
        if not await place.is_running(new.id):
            with place.changing(deployment) as change:
                world = change.world
                change(
                    shares={name: share for name, share in world.shares.items() if name != new.id},
                    slots={slot: name for slot, name in world.slots.items() if name != new.id},
                )
        if old is not None:
            await place.start_shared(deployment, old)

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for unit in self.place.units_of(deployment.new):
            found |= await unit.logs()
        seen = [asdict(one) for one in await self.place.seen(deployment.new)]
        found["instances.json"] = json.dumps(seen, indent=1).encode()
        if self.place.proxy.is_up():
            found["proxy.csv"] = self.place.proxy.ask("show stat").encode()
        return found

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        place = self.place
        place.guard(deployment)
        world, live = place.world, await self.live()
        stay = {*keep, *live.running, *live.shares}
        gone = tuple(sorted(name for name in world.fetched if name not in stay))
        left = {one for name, images in world.fetched.items() if name not in gone for one in images}
        for name in gone:
            await place.unit(name).quit()
            place.unit(name).remove()
            for digest in {*world.fetched[name]} - left:
                place.archive(digest).unlink(missing_ok=True)
        ours = {one.id for one in (deployment.new, deployment.old) if one is not None}
        await place.end_others({*ours, *live.shares})
        with place.changing(deployment) as change:
            change(
                fetched={name: one for name, one in change.world.fetched.items() if name not in gone},
                archived=tuple(one for one in change.world.archived if one in left),
                slots={slot: name for slot, name in change.world.slots.items() if name not in gone},
            )
        return gone

    async def close(self) -> None:
        """Hold nothing open: holders and the proxy go on."""

    async def _keep_archives(self, release: Release) -> set[str]:
        """Copy archives of the release's images beside the record; return the digests of all images."""
        digests = {one.image_digest for one in release.services.values()}
        for digest in digests & self.archives.keys():
            place = self.place.archive(digest)
            await anyio.to_thread.run_sync(keep_archive, self.archives[digest], digest, place)
        return digests


def _before(counted: tuple[int, int]) -> Counted:
    return Counted(requests=counted[0], errors=counted[1], in_flight=0)
