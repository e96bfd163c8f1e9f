"""What a deployment does in a cluster, in larger pieces: bring up, switch, size, shrink, remove."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.targets import kubernetes_manifests as manifests
from pipeline.deploy.targets import kubernetes_pods as reading
from pipeline.deploy.targets.kubernetes_around import around
from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT, RELEASE, SERVICE
from pipeline.deploy.targets.kubernetes_world import release_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.kubernetes_calls import Kubectl
    from pipeline.deploy.targets.kubernetes_manifests import Manifest
    from pipeline.deploy.targets.kubernetes_reports import Reports
    from pipeline.deploy.targets.kubernetes_world import Seen, World

SETTLE_LIMIT_S: Final = 60.0
KINDS: Final = "deployments,services,poddisruptionbudgets"


@dataclass(kw_only=True)
class Moves:
    """Moves in one environment. All but those about values and objects of no release heed the fence."""

    environment: Environment
    kubectl: Kubectl
    state: State
    world: World
    reports: Reports
    _watched: reading.Watched = field(default_factory=reading.Watched, init=False)

    async def values(self, release: Release) -> dict[str, str]:
        versions = {k: v for one in release.services.values() for k, v in one.secrets.items()}
        return await read_secrets(self.state, versions)

    async def bring_values(self, release: Release) -> None:
        values = await self.values(release)
        await self.kubectl.apply(
            "bring the secrets", manifests.value_manifests(self.environment.name, release, values)
        )

    async def bring(self, deployment: Deployment, release: Release, counts: Mapping[str, int]) -> None:
        """Bring up so many instances of services of a release, as it was recorded."""
        if not counts:
            return
        await self.world.guard(deployment)
        await self.bring_values(release)
        before = [
            *around(self.environment, release),
            *manifests.slot_services(self.environment, release),
        ]
        await self.world.change(deployment, "make the Services", lambda _: before)

        def after(seen: Seen) -> list[Manifest]:
            return self.brought(release, counts, addresses_of(seen, release))

        await self.world.change(deployment, "start the release", after)

    def brought(
        self, release: Release, counts: Mapping[str, int], addresses: Mapping[str, str]
    ) -> list[Manifest]:
        found: list[Manifest] = []
        for name in (one for one in release.in_order() if one in counts):
            made = manifests.deployment(
                self.environment, release, name, replicas=counts[name], addresses=addresses
            )
            found += [made, *manifests.budget(self.environment, release, name)]
        return found

    async def switch(
        self, deployment: Deployment, release: Release, names: Iterable[str], *, is_shared: bool = False
    ) -> None:
        """Give traffic to a release, and return when no node is told the old rule any more."""
        ported = [name for name in names if release.services[name].settings.port is not None]
        items = [manifests.switch(self.environment, release, name, is_shared=is_shared) for name in ported]
        await self.world.change(deployment, "shift the traffic", lambda _: items)
        if not is_shared:
            await self._await_switched(release, ported)

    async def _await_switched(self, release: Release, names: Sequence[str]) -> None:
        async def missing() -> str:
            ours = {reading.name_of(pod) for pod in await self.world.pods(release.id)}
            for name in names:
                where = f"--selector=kubernetes.io/service-name={name}"
                found = await self.kubectl.read("see the endpoints", "endpointslices", where)
                ends = [one for part in found.get("items", []) for one in part.get("endpoints") or ()]
                others = {str(one.get("targetRef", {}).get("name", "")) for one in ends} - ours
                if others:
                    return f"`{name}` still reaches {', '.join(sorted(others))}"
            return ""

        await self.world.wait("shift the traffic", SETTLE_LIMIT_S, missing)

    async def size(self, deployment: Deployment, release: Release, service: str, share: float) -> None:
        """Give a service of a release the pods of a share, and wait until they are ready."""
        if not service:
            return
        name = manifests.slot_name(service, release.services[service], release.id)
        count = pods_of(release, service, share)
        await self.world.scale(deployment, name, count)
        health = release.services[service].settings.health

        async def missing() -> str:
            one = (await self.world.look()).deployments[name]
            stuck = reading.find_stuck(
                [one], await self.world.pods(release.id), self._watched, time.monotonic()
            )
            if stuck is not None:
                raise await self.reports.failure(stuck)
            return "" if reading.ready(one) >= count else f"{reading.ready(one)} of {count} pods are ready"

        await self.world.wait(
            f"bring up `{service}`", health.deadline_s if health else SETTLE_LIMIT_S, missing
        )

    async def shrink(self, deployment: Deployment, release: Release, left: Mapping[str, int]) -> None:
        """Scale down; an exclusive service goes only where nobody has taken it over."""
        seen = await self.world.look()
        for name in reversed(release.in_order()):
            there = seen.deployments.get(manifests.slot_name(name, release.services[name], release.id))
            if there is not None and release_of(there) == release.id:
                await self.world.scale(deployment, reading.name_of(there), left[name])

    async def await_gone(self, release: Release, left: Mapping[str, int]) -> None:
        drain = [one.settings.drain for one in release.services.values()]
        limit_s = self.environment.kubernetes.leave_s + SETTLE_LIMIT_S
        limit_s += max(one.timeout_s + one.stop_timeout_s for one in drain)

        async def missing() -> str:
            seen = {reading.name_of(one) for one in (await self.world.look()).of(release.id)}
            pods = await self.world.pods(release.id)
            for name, count in left.items():
                if manifests.slot_name(name, release.services[name], release.id) not in seen:
                    continue
                there = sum(reading.service_of(pod) == name for pod in pods)
                if there > count:
                    return f"{there - count} pods of `{name}` have not ended"
            return ""

        await self.world.wait(f"stop release `{release.id}`", limit_s, missing)

    async def delete(self, selector: str) -> None:
        await self.kubectl.call(
            "remove a release", "delete", KINDS, f"--selector={selector}", "--output=name", "--wait=false"
        )

    async def drop_values(self) -> None:
        """Remove the Secrets that no Deployment names any more."""
        where = f"--selector={ENVIRONMENT}={self.environment.name},{manifests.VALUE_OF}=value"
        said = await self.kubectl.call("see the secrets", "get", "secrets", where, "--output=name")
        used = {
            variable["valueFrom"]["secretKeyRef"]["name"]
            for one in (await self.world.look()).deployments.values()
            for variable in one["spec"]["template"]["spec"]["containers"][0].get("env", ())
            if "secretKeyRef" in variable.get("valueFrom", {})
        }
        names = {line.removeprefix("secret/") for line in said.decode().split()}
        if unused := sorted(names - used):
            await self.kubectl.call("remove old secrets", "delete", "secret", *unused, "--output=name")


def full_size(release: Release) -> dict[str, int]:
    """Return how many instances each service has."""
    return {name: one.settings.replicas for name, one in release.services.items()}


def pods_of(release: Release, service: str, share: float) -> int:
    """Return how many of a service's pods make up a share of its traffic."""
    return round(release.services[service].settings.replicas * share / 100)


def addresses_of(seen: Seen, release: Release) -> dict[str, str]:
    """Return where the release's own Services answer, by service."""
    return {
        str(one["metadata"]["labels"][SERVICE]): str(one["spec"]["clusterIP"])
        for one in seen.services.values()
        if one["metadata"]["labels"].get(RELEASE) == release.id and one["spec"].get("clusterIP")
    }
