"""The target `kubernetes`: a cluster, told by `kubectl`.

Each release has Deployments of its own; the Services named like the services are the switch. What objects are
like is for `kubernetes_manifests`, what pods say of themselves for `kubernetes_pods`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.secrets import read_secrets
from pipeline.deploy.steps import share_of
from pipeline.deploy.target import Drained, Live, Probe, TargetUnfit, Traffic, Usage
from pipeline.deploy.targets import kubernetes_manifests as manifests
from pipeline.deploy.targets import kubernetes_pods as reading
from pipeline.deploy.targets.kubernetes_around import around
from pipeline.deploy.targets.kubernetes_calls import CallFailed, Kubectl
from pipeline.deploy.targets.kubernetes_forward import Forwards
from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT, RELEASE, SERVICE
from pipeline.deploy.targets.kubernetes_reports import Reports
from pipeline.deploy.targets.kubernetes_state import KubernetesState
from pipeline.deploy.targets.kubernetes_world import World, release_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.config.delivery import Environment, StrategyKind
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.kubernetes_manifests import Manifest
    from pipeline.deploy.targets.kubernetes_world import Seen

SETTLE_LIMIT_S: Final = 60.0
KINDS: Final = "deployments,services,poddisruptionbudgets"


@dataclass(kw_only=True)
class KubernetesTarget:
    """One environment in one namespace."""

    environment: Environment
    kubectl: Kubectl = field(init=False)
    state: State = field(init=False)
    _world: World = field(init=False)
    _reports: Reports = field(init=False)
    _forwards: Forwards = field(init=False)
    _watched: reading.Watched = field(default_factory=reading.Watched, init=False)

    def __post_init__(self) -> None:
        one = self.environment
        self.kubectl = Kubectl(namespace=one.namespace or one.name, context=one.context)
        self.state = KubernetesState(kubectl=self.kubectl, environment=one.name)
        self._world = World(kubectl=self.kubectl, environment=one.name)
        self._reports = Reports(kubectl=self.kubectl)
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
        values = await self._values(deployment.new)
        items = [
            *manifests.value_manifests(self.environment.name, deployment.new, values),
            *around(self.environment, deployment.new),
            *manifests.slot_services(self.environment, deployment.new),
            *self._brought(deployment.new, self._full(deployment.new), {}),
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
        await self._bring_values(deployment.new)

    async def run(
        self, deployment: Deployment, service: str, command: Sequence[str], timeout_s: float
    ) -> str:
        await self._world.guard(deployment)
        await self._bring_values(deployment.new)
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
            addresses=_addresses(await self._world.look(), deployment.new),
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
            counts |= {public: _pods(release, public, first)} if public else {}
        await self._bring(deployment, release, counts)

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
            await self._switch(deployment, old, old.services)
            await self._bring(deployment, old, self._full(old))
        elif share >= 100 or old is None:
            if strategy == "canary" and old is not None:
                await self._size(deployment, new, public, 100.0)
            await self._switch(deployment, new, new.services)
        elif strategy == "rolling":
            await self._switch(deployment, new, new.services, is_shared=True)
        elif public:
            await self._size(deployment, new, public, share)
            await self._switch(deployment, new, [public], is_shared=True)
            if public in old.services:
                rest = _pods(new, public, 100 - share)
                name = manifests.slot_name(public, old.services[public], old.id)
                await self._world.scale(deployment, name, rest)
                await self._await_gone(old, {public: rest})

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
        await self._shrink(deployment, old, left)
        await self._await_gone(old, left)
        return Drained()

    async def restore(self, deployment: Deployment, part: int) -> None:
        old = deployment.old
        if old is None:
            return
        counts = {
            name: sum(n >= part for n in _parts(one.settings.replicas, deployment.parts))
            for name, one in old.services.items()
        }
        await self._bring(deployment, old, counts)

    async def remove(self, deployment: Deployment, part: int) -> None:
        await self._forwards.close()
        new, old = deployment.new, deployment.old
        if part > 1:
            await self._shrink(deployment, new, self._counts(new, part - 1, deployment.parts))
            return
        await self._world.guard(deployment)
        if old is None or old.id != new.id:
            await self._delete(f"{ENVIRONMENT}={self.environment.name},{RELEASE}={new.id}")
        theirs = old.services if old is not None else {}
        lone = [name for name, one in new.services.items() if one.settings.exclusive and name not in theirs]
        for name in lone:
            await self.kubectl.call(
                f"remove `{name}`", "delete", "deployment", name, "--ignore-not-found", "--output=name"
            )
        if old is not None:
            await self._bring(
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
            await self._delete(f"{ENVIRONMENT}={self.environment.name},{RELEASE}={release}")
        if gone:
            await self._drop_values()
        return gone

    async def close(self) -> None:
        await self._forwards.close()

    async def _values(self, release: Release) -> dict[str, str]:
        versions = {k: v for one in release.services.values() for k, v in one.secrets.items()}
        return await read_secrets(self.state, versions)

    async def _bring_values(self, release: Release) -> None:
        values = await self._values(release)
        await self.kubectl.apply(
            "bring the secrets", manifests.value_manifests(self.environment.name, release, values)
        )

    async def _bring(self, deployment: Deployment, release: Release, counts: Mapping[str, int]) -> None:
        """Bring up so many instances of services of a release, as it was recorded."""
        if not counts:
            return
        await self._world.guard(deployment)
        await self._bring_values(release)
        before = [
            *around(self.environment, release),
            *manifests.slot_services(self.environment, release),
        ]
        await self._world.change(deployment, "make the Services", lambda _: before)

        def after(seen: Seen) -> list[Manifest]:
            return self._brought(release, counts, _addresses(seen, release))

        await self._world.change(deployment, "start the release", after)

    def _brought(
        self, release: Release, counts: Mapping[str, int], addresses: Mapping[str, str]
    ) -> list[Manifest]:
        found: list[Manifest] = []
        for name in (one for one in release.in_order() if one in counts):
            made = manifests.deployment(
                self.environment, release, name, replicas=counts[name], addresses=addresses
            )
            found += [made, *manifests.budget(self.environment, release, name)]
        return found

    async def _switch(
        self, deployment: Deployment, release: Release, names: Iterable[str], *, is_shared: bool = False
    ) -> None:
        """Give traffic to a release, and return when no node is told the old rule any more."""
        ported = [name for name in names if release.services[name].settings.port is not None]
        items = [manifests.switch(self.environment, release, name, is_shared=is_shared) for name in ported]
        await self._world.change(deployment, "shift the traffic", lambda _: items)
        if not is_shared:
            await self._await_switched(release, ported)

    async def _await_switched(self, release: Release, names: Sequence[str]) -> None:
        async def missing() -> str:
            ours = {reading.name_of(pod) for pod in await self._world.pods(release.id)}
            for name in names:
                where = f"--selector=kubernetes.io/service-name={name}"
                found = await self.kubectl.read("see the endpoints", "endpointslices", where)
                ends = [one for part in found.get("items", []) for one in part.get("endpoints") or ()]
                others = {str(one.get("targetRef", {}).get("name", "")) for one in ends} - ours
                if others:
                    return f"`{name}` still reaches {', '.join(sorted(others))}"
            return ""

        await self._world.wait("shift the traffic", SETTLE_LIMIT_S, missing)

    async def _size(self, deployment: Deployment, release: Release, service: str, share: float) -> None:
        """Give a service of a release the pods of a share, and wait until they are ready."""
        if not service:
            return
        name = manifests.slot_name(service, release.services[service], release.id)
        count = _pods(release, service, share)
        await self._world.scale(deployment, name, count)
        health = release.services[service].settings.health

        async def missing() -> str:
            one = (await self._world.look()).deployments[name]
            stuck = reading.find_stuck(
                [one], await self._world.pods(release.id), self._watched, time.monotonic()
            )
            if stuck is not None:
                raise await self._reports.failure(stuck)
            return "" if reading.ready(one) >= count else f"{reading.ready(one)} of {count} pods are ready"

        await self._world.wait(
            f"bring up `{service}`", health.deadline_s if health else SETTLE_LIMIT_S, missing
        )

    async def _shrink(self, deployment: Deployment, release: Release, left: Mapping[str, int]) -> None:
        """Scale down; an exclusive service goes only where nobody has taken it over."""
        seen = await self._world.look()
        for name in reversed(release.in_order()):
            there = seen.deployments.get(manifests.slot_name(name, release.services[name], release.id))
            if there is not None and release_of(there) == release.id:
                await self._world.scale(deployment, reading.name_of(there), left[name])

    async def _await_gone(self, release: Release, left: Mapping[str, int]) -> None:
        drain = [one.settings.drain for one in release.services.values()]
        limit_s = self.environment.kubernetes.leave_s + SETTLE_LIMIT_S
        limit_s += max(one.timeout_s + one.stop_timeout_s for one in drain)

        async def missing() -> str:
            seen = {reading.name_of(one) for one in (await self._world.look()).of(release.id)}
            pods = await self._world.pods(release.id)
            for name, count in left.items():
                if manifests.slot_name(name, release.services[name], release.id) not in seen:
                    continue
                there = sum(reading.service_of(pod) == name for pod in pods)
                if there > count:
                    return f"{there - count} pods of `{name}` have not ended"
            return ""

        await self._world.wait(f"stop release `{release.id}`", limit_s, missing)

    async def _delete(self, selector: str) -> None:
        await self.kubectl.call(
            "remove a release", "delete", KINDS, f"--selector={selector}", "--output=name", "--wait=false"
        )

    async def _drop_values(self) -> None:
        """Remove the Secrets that no Deployment names any more."""
        where = f"--selector={ENVIRONMENT}={self.environment.name},{manifests.VALUE_OF}=value"
        said = await self.kubectl.call("see the secrets", "get", "secrets", where, "--output=name")
        used = {
            variable["valueFrom"]["secretKeyRef"]["name"]
            for one in (await self._world.look()).deployments.values()
            for variable in one["spec"]["template"]["spec"]["containers"][0].get("env", ())
            if "secretKeyRef" in variable.get("valueFrom", {})
        }
        names = {line.removeprefix("secret/") for line in said.decode().split()}
        if unused := sorted(names - used):
            await self.kubectl.call("remove old secrets", "delete", "secret", *unused, "--output=name")

    def _full(self, release: Release) -> dict[str, int]:
        return {name: one.settings.replicas for name, one in release.services.items()}

    def _counts(self, release: Release, part: int, parts: int) -> dict[str, int]:
        """How many instances of each service the parts up to one have."""
        return {
            name: sum(n <= part for n in _parts(one.settings.replicas, parts))
            for name, one in release.services.items()
        }


def _parts(replicas: int, parts: int) -> list[int]:
    """Return the part that each instance belongs to; a service of few has them in early parts."""
    return [(n - 1) * parts // replicas + 1 for n in range(1, replicas + 1)]


def _pods(release: Release, service: str, share: float) -> int:
    """Return how many of a service's pods make up a share of its traffic."""
    return round(release.services[service].settings.replicas * share / 100)


def _addresses(seen: Seen, release: Release) -> dict[str, str]:
    """Return where the release's own Services answer, by service."""
    return {
        str(one["metadata"]["labels"][SERVICE]): str(one["spec"]["clusterIP"])
        for one in seen.services.values()
        if one["metadata"]["labels"].get(RELEASE) == release.id and one["spec"].get("clusterIP")
    }


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
