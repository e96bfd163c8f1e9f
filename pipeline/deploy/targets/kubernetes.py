"""The target `kubernetes`: a cluster, told by `kubectl`.

Each release has Deployments of its own; the Services named like the services are the switch. What objects are
like is for `kubernetes_manifests`, what pods say of themselves for `kubernetes_pods`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.deploy.steps import share_of
from pipeline.deploy.target import Drained, Live, Probe, TargetUnfit, Traffic, Usage
from pipeline.deploy.targets import kubernetes_manifests as manifests
from pipeline.deploy.targets import kubernetes_pods as reading
from pipeline.deploy.targets.kubernetes_around import around
from pipeline.deploy.targets.kubernetes_calls import CallFailed, Kubectl
from pipeline.deploy.targets.kubernetes_forward import Forwards
from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT, RELEASE, SERVICE
from pipeline.deploy.targets.kubernetes_moves import Moves, addresses_of, full_size, pods_of
from pipeline.deploy.targets.kubernetes_reports import Reports
from pipeline.deploy.targets.kubernetes_state import KubernetesState
from pipeline.deploy.targets.kubernetes_world import World, release_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.delivery import Environment, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.kubernetes_world import Seen


@dataclass(kw_only=True)
class KubernetesTarget:
    """One environment in one namespace."""

    environment: Environment
    kubectl: Kubectl = field(init=False)
    state: State = field(init=False)
    _world: World = field(init=False)
    _reports: Reports = field(init=False)
    _moves: Moves = field(init=False)
    _forwards: Forwards = field(init=False)
    _watched: reading.Watched = field(default_factory=reading.Watched, init=False)

    def __post_init__(self) -> None:
        one = self.environment
        self.kubectl = Kubectl(namespace=one.namespace or one.name, context=one.context)
        self.state = KubernetesState(kubectl=self.kubectl, environment=one.name)
        self._world = World(kubectl=self.kubectl, environment=one.name)
        self._reports = Reports(kubectl=self.kubectl)
        self._moves = Moves(
            environment=one, kubectl=self.kubectl, state=self.state, world=self._world, reports=self._reports
        )
        self._forwards = Forwards(kubectl=self.kubectl)

    @property
    def kind(self) -> str:
        return "kubernetes"

    def find_refusal(self, strategy: StrategyKind) -> str:
        services = self.environment.deploy.services.values()
        asked = [one for one in services if one.port is not None and one.public is not False]
        replicas = max((one.replicas for one in asked), default=1)
        shares = self.environment.deploy.canary.steps if strategy == "canary" else ()
        for text in shares:
            pods = replicas * share_of(text) / 100
            if abs(pods - round(pods)) > 1e-6:
                what = f"{text} of the traffic is {pods:g} of {replicas} pods, and a Service knows whole ones"
                return f"{what}; use steps that are multiples of {100 / replicas:.4g}%"
        return ""

    async def check(self, deployment: Deployment) -> None:
        names = [name for name in deployment.new.services if len(name) > manifests.LONGEST_SERVICE]
        if names:
            raise TargetUnfit(
                f"cannot run `{names[0]}`: its name has more than {manifests.LONGEST_SERVICE} characters"
            )
        await self._check_namespace()
        await self._check_owner(deployment.new)
        values = await self._moves.values(deployment.new)
        items = [
            *manifests.value_manifests(self.environment.name, deployment.new, values),
            *around(self.environment, deployment.new),
            *manifests.slot_services(self.environment, deployment.new),
            *self._moves.brought(deployment.new, full_size(deployment.new), {}),
        ]
        try:
            await self.kubectl.apply("use the release here", items, is_trial=True)
        except CallFailed as error:
            raise TargetUnfit(str(error)) from error

    async def _check_namespace(self) -> None:
        name = self.kubectl.namespace
        try:
            found = await self.kubectl.read(f"see namespace `{name}`", "namespace", name)
        except CallFailed as error:
            raise TargetUnfit(str(error)) from error
        if not found:
            unfit = TargetUnfit(f"cannot deploy to namespace `{name}`: there is none in the cluster")
            unfit.hint = f"make it with `kubectl create namespace {name}`"
            raise unfit

    async def _check_owner(self, release: Release) -> None:
        names = [name for name, one in release.services.items() if one.settings.port is not None]
        if not names:
            return
        found = await self.kubectl.read("see whose the Services are", "services")
        for one in found.get("items", []):
            name, labels = reading.name_of(one), one["metadata"].get("labels", {})
            if name in names and labels.get(ENVIRONMENT) != self.environment.name:
                whose = labels.get(ENVIRONMENT)
                by = f"environment `{whose}`" if whose else "somebody else"
                raise TargetUnfit(f"cannot take Service `{name}`: it belongs to {by}")

    async def live(self) -> Live:
        seen = await self._world.look()
        here = {release_of(one) for one in seen.deployments.values()} - {""}
        up = [one for one in seen.deployments.values() if int(one.get("status", {}).get("replicas", 0))]
        return Live(
            shares=_shares(seen), running=frozenset(release_of(one) for one in up), here=frozenset(here)
        )

    async def fetch(self, deployment: Deployment) -> None:
        """Bring the values of secrets. Nodes pull images as pods start, which have no traffic then."""
        await self._world.guard(deployment)
        await self._moves.bring_values(deployment.new)

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        await self._world.guard(deployment)
        await self._moves.bring_values(deployment.new)
        name = f"run-{deployment.id.lower()}"[:50]
        await self._world.change(
            deployment,
            "make the Services",
            lambda _: [
                *around(self.environment, deployment.new),
                *manifests.slot_services(self.environment, deployment.new),
            ],
        )
        made = manifests.job(
            self.environment,
            deployment.new,
            service,
            name=name,
            command=command,
            limit_s=timeout_s,
            addresses=addresses_of(await self._world.look(), deployment.new),
        )
        await self.kubectl.call(
            "clear the last job", "delete", "job", name, "--ignore-not-found", "--output=name"
        )
        await self.kubectl.apply("run the command", [made])
        try:
            return await self._reports.await_job(self._world, name, timeout_s)
        finally:
            await self.kubectl.call(
                "remove the job", "delete", "job", name, "--ignore-not-found", "--wait=false", "--output=name"
            )

    async def start(self, deployment: Deployment, part: int) -> None:
        release = deployment.new
        counts = self._counts(release, part, deployment.parts)
        if deployment.environment.deploy.strategy == "canary" and deployment.old is not None:
            public = manifests.public_service(release)
            first = share_of(deployment.environment.deploy.canary.steps[0])
            counts |= {public: pods_of(release, public, first)} if public else {}
        await self._moves.bring(deployment, release, counts)

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        seen = (await self._world.look()).of(release.id)
        pods = await self._world.pods(release.id)
        stuck = reading.find_stuck(seen, pods, self._watched, time.monotonic())
        if stuck is not None:
            raise await self._reports.failure(stuck)
        return reading.probes_of(seen, pods)

    async def preview(self, deployment: Deployment) -> Mapping[str, str]:
        release = deployment.new
        names = {
            name: manifests.slot_name(name, one, release.id)
            for name, one in release.services.items()
            if one.settings.port is not None
        }
        return {
            name: await self._forwards.open(there, release.services[name].settings.port or 0)
            for name, there in names.items()
        }

    async def shift(self, deployment: Deployment, share: float) -> None:
        await self._forwards.close()
        new, old = deployment.new, deployment.old
        public = manifests.public_service(new)
        strategy = deployment.environment.deploy.strategy
        if share <= 0 and old is not None:
            await self._moves.switch(deployment, old, old.services)
            await self._moves.bring(deployment, old, full_size(old))
        elif share >= 100 or old is None:
            if strategy == "canary" and old is not None:
                await self._moves.size(deployment, new, public, 100.0)
            await self._moves.switch(deployment, new, new.services)
        elif strategy == "rolling":
            await self._moves.switch(deployment, new, new.services, is_shared=True)
        elif public:
            await self._moves.size(deployment, new, public, share)
            await self._moves.switch(deployment, new, [public], is_shared=True)
            if public in old.services:
                rest = pods_of(new, public, 100 - share)
                name = manifests.slot_name(public, old.services[public], old.id)
                await self._world.scale(deployment, name, rest)
                await self._moves.await_gone(old, {public: rest})

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        return {}

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        pods = await self._world.pods(deployment.new.id)
        where = f"/apis/metrics.k8s.io/v1beta1/namespaces/{self.kubectl.namespace}/pods"
        try:
            said = await self.kubectl.call("read the metrics", "get", "--raw", where)
        except CallFailed as error:
            if error.why not in ("missing", "refused", "other"):
                raise
            said = b"{}"  # a cluster without metrics
        cpus = {name: one.settings.resources.cpus or 1.0 for name, one in deployment.new.services.items()}
        return reading.usage_of(pods, json.loads(said).get("items", []), cpus)

    async def drain(self, deployment: Deployment, part: int) -> Drained:
        old = deployment.old
        if old is None:
            return Drained()
        left = {
            name: sum(n > part for n in _parts(one.settings.replicas, deployment.parts))
            for name, one in old.services.items()
        }
        await self._moves.shrink(deployment, old, left)
        await self._moves.await_gone(old, left)
        return Drained()

    async def restore(self, deployment: Deployment, part: int) -> None:
        old = deployment.old
        if old is None:
            return
        counts = {
            name: sum(n >= part for n in _parts(one.settings.replicas, deployment.parts))
            for name, one in old.services.items()
        }
        await self._moves.bring(deployment, old, counts)

    async def remove(self, deployment: Deployment, part: int) -> None:
        await self._forwards.close()
        new, old = deployment.new, deployment.old
        if part > 1:
            await self._moves.shrink(deployment, new, self._counts(new, part - 1, deployment.parts))
            return
        await self._world.guard(deployment)
        if old is None or old.id != new.id:
            await self._moves.delete(f"{ENVIRONMENT}={self.environment.name},{RELEASE}={new.id}")
        theirs = old.services if old is not None else {}
        lone = [name for name, one in new.services.items() if one.settings.exclusive and name not in theirs]
        for name in lone:
            await self.kubectl.call(
                f"remove `{name}`", "delete", "deployment", name, "--ignore-not-found", "--output=name"
            )
        if old is not None:
            await self._moves.bring(
                deployment, old, {name: 1 for name, one in old.services.items() if one.settings.exclusive}
            )

    async def evidence(self, deployment: Deployment) -> Mapping[str, bytes]:
        pods = await self._world.pods(deployment.new.id)
        seen = (await self._world.look()).of(deployment.new.id)
        text = json.dumps([*seen, *pods], indent=1, sort_keys=True)
        found = {"objects.json": text.encode(), "events.txt": (await self._reports.events()).encode()}
        for pod in pods:
            name = reading.name_of(pod)
            found[f"{name}.log"] = (await self._reports.log(f"pod/{name}")).encode()
        return found

    async def prune(self, deployment: Deployment, keep: frozenset[str]) -> tuple[str, ...]:
        await self._world.guard(deployment)
        live = await self.live()
        gone = tuple(sorted(live.here - keep - live.running - live.shares.keys()))
        for release in gone:
            await self._moves.delete(f"{ENVIRONMENT}={self.environment.name},{RELEASE}={release}")
        if gone:
            await self._moves.drop_values()
        return gone

    async def close(self) -> None:
        await self._forwards.close()

    def _counts(self, release: Release, part: int, parts: int) -> dict[str, int]:
        """How many instances of each service the parts up to one have."""
        return {
            name: sum(n <= part for n in _parts(one.settings.replicas, parts))
            for name, one in release.services.items()
        }


def _parts(replicas: int, parts: int) -> list[int]:
    """Return the part that each instance belongs to; a service of few has them in early parts."""
    return [(n - 1) * parts // replicas + 1 for n in range(1, replicas + 1)]


def _shares(seen: Seen) -> dict[str, float]:
    """Who has the traffic: as the public Service selects; without Services, what runs alone."""
    service: dict[str, Any] = dict(seen.switches[0]) if seen.switches else {}
    selected = service.get("spec", {}).get("selector", {})
    if RELEASE in selected:
        return {str(selected[RELEASE]): 100.0}
    up = [
        (release_of(one), reading.ready(one), reading.wanted(one))
        for one in seen.deployments.values()
        if selected.get(SERVICE, reading.service_of(one)) == reading.service_of(one)
    ]
    place = 1 if any(ready for _, ready, _ in up) else 2  # where nobody is ready, as it should be
    counts: dict[str, int] = {}
    for one in up:
        counts[one[0]] = counts.get(one[0], 0) + int(one[place])
    whole = sum(counts.values())
    return {name: 100.0 * count / whole for name, count in counts.items() if count}
