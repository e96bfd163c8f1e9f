"""One environment's objects in a cluster, changed only by who has the highest fencing number.

The number lies in an object of its own and on every Deployment and Service. Each change names the version of
the object that it replaces: the server refuses a deployer that was cut off between looking and changing.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping  # the alias below is a value
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio

from pipeline.deploy.target import Fenced, TargetFailed
from pipeline.deploy.targets.kubernetes_calls import CallFailed
from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT, FENCE, PUBLIC, RELEASE, SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.kubernetes_calls import Kubectl
    from pipeline.deploy.targets.kubernetes_manifests import Manifest
    from pipeline.deploy.targets.kubernetes_pods import Thing

TRIES: Final = 20
"""The cluster itself writes to objects that we change: whoever meets that looks again."""
POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is there, by name."""

    deployments: Mapping[str, Thing] = field(default_factory=dict)
    services: Mapping[str, Thing] = field(default_factory=dict)

    def of(self, release: str) -> list[Thing]:
        """Return the Deployments that a release was brought up with last."""
        return [one for one in self.deployments.values() if release_of(one) == release]

    def version(self, kind: str, name: str) -> str:
        """Return the version of an object; "" when there is none."""
        found = {"Deployment": self.deployments, "Service": self.services}.get(kind, {}).get(name)
        return str(found["metadata"]["resourceVersion"]) if found is not None else ""

    @property
    def switches(self) -> list[Thing]:
        """Return the Services that give traffic to releases, the public one first."""
        found = [one for one in self.services.values() if RELEASE not in one["metadata"]["labels"]]
        return sorted(found, key=lambda one: PUBLIC not in one["metadata"]["labels"])


Change: TypeAlias = Callable[[Seen], "Sequence[Manifest]"]


def release_of(deployment: Thing) -> str:
    """Return the release that a Deployment was brought up for last."""
    return str(deployment["metadata"].get("annotations", {}).get(RELEASE, ""))


@dataclass(kw_only=True)
class World:
    """What an environment has in its cluster."""

    kubectl: Kubectl
    environment: str

    @property
    def own(self) -> str:
        return f"--selector={ENVIRONMENT}={self.environment}"

    @property
    def _fence_object(self) -> str:
        return f"pipeline-{self.environment}-fence"

    async def look(self) -> Seen:
        """Look at all Deployments and Services."""
        found = await self.kubectl.read("see what runs", "deployments,services", self.own)
        items: list[Thing] = found.get("items", [])
        kinds = {kind: [one for one in items if one["kind"] == kind] for kind in ("Deployment", "Service")}
        by_name = {
            kind: {str(one["metadata"]["name"]): one for one in those} for kind, those in kinds.items()
        }
        return Seen(deployments=by_name["Deployment"], services=by_name["Service"])

    async def pods(self, release: str = "") -> list[Thing]:
        """Look at all pods of services; those that one release was brought up with, where it is named."""
        found = await self.kubectl.read("see the pods", "pods", f"{self.own},{SERVICE}")
        pods: list[Thing] = found.get("items", [])
        if not release:
            return pods
        shared = {
            str(one["metadata"]["name"])
            for one in (await self.look()).of(release)
            if RELEASE not in one["metadata"]["labels"]
        }
        return [
            pod
            for pod in pods
            if (labels := pod["metadata"]["labels"]).get(RELEASE, "") == release
            or (RELEASE not in labels and labels[SERVICE] in shared)
        ]

    async def guard(self, deployment: Deployment) -> None:
        """Make sure that no later deployer has been here, and that no earlier one can change anything more.

        Raises:
            Fenced: A later one has been here.
        """
        for _ in range(TRIES):
            found = await self.kubectl.read("read the fence", "configmap", self._fence_object)
            theirs = int(found["data"]["fence"]) if found else 0
            if theirs > deployment.fence:
                raise Fenced(deployment.fence, theirs)
            if found and theirs == deployment.fence:
                return
            if await self._raise_fence(deployment.fence, found):
                await self._stamp(deployment.fence)
                return
        raise TargetFailed("cannot raise the fence: others change it without end")

    async def _raise_fence(self, fence: int, found: dict[str, Any]) -> bool:
        version = {"resourceVersion": found["metadata"]["resourceVersion"]} if found else {}
        labels = {ENVIRONMENT: self.environment}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._fence_object, "labels": labels, **version},
            "data": {"fence": str(fence)},
        }
        verb = "replace" if found else "create"
        try:
            await self.kubectl.call(
                "raise the fence", verb, "--filename=-", "--output=name", stdin=json.dumps(body).encode()
            )
        except CallFailed as error:
            if error.why in ("conflict", "exists", "missing"):
                return False
            raise
        return True

    async def _stamp(self, fence: int) -> None:
        """Give every object another version: a change by who has looked before is refused from now on."""
        seen = await self.look()
        for kind, those in (("deployment", seen.deployments), ("service", seen.services)):
            if those:
                words = ("annotate", kind, *sorted(those), f"{FENCE}={fence}", "--overwrite", "--output=name")
                await self.kubectl.call("raise the fence", *words)

    async def change(self, deployment: Deployment, what: str, change: Change) -> None:
        """Bring about what `change` makes of what is there; looks again where that has changed meanwhile.

        Raises:
            Fenced: A later deployer has been here.
            TargetFailed: The cluster refuses it.
        """
        for _ in range(TRIES):
            await self.guard(deployment)
            seen = await self.look()
            items = [self._fenced(deployment.fence, seen, one) for one in change(seen)]
            try:
                await self.kubectl.apply(what, items)
            except CallFailed as error:
                if error.why == "conflict":
                    continue
                raise
            return
        raise TargetFailed(f"cannot {what}: others change it without end")

    async def scale(self, deployment: Deployment, name: str, replicas: int) -> None:
        """Give a Deployment so many pods; nothing where there is no such Deployment."""
        for _ in range(TRIES):
            await self.guard(deployment)
            seen = await self.look()
            there = seen.deployments.get(name)
            if there is None or there["spec"].get("replicas", 1) == replicas:
                return
            _refuse_late(deployment.fence, there)
            version = f"--resource-version={seen.version('Deployment', name)}"
            words = ("scale", f"deployment/{name}", f"--replicas={replicas}", version, "--output=name")
            try:
                await self.kubectl.call(f"scale `{name}` to {replicas}", *words)
            except CallFailed as error:
                if error.why == "conflict" or "resource version" in error.logs:
                    continue
                raise
            return
        raise TargetFailed(f"cannot scale `{name}`: others change it without end")

    def _fenced(self, fence: int, seen: Seen, manifest: Manifest) -> Manifest:
        """Return an object with our number, and the version of that which it replaces."""
        kind, metadata = str(manifest["kind"]), manifest["metadata"]
        if kind not in ("Deployment", "Service"):
            return manifest
        there = {"Deployment": seen.deployments, "Service": seen.services}[kind].get(str(metadata["name"]))
        if there is not None:
            _refuse_late(fence, there)
        version = seen.version(kind, str(metadata["name"]))
        notes = {**metadata.get("annotations", {}), FENCE: str(fence)}
        own = {**metadata, "annotations": notes, **({"resourceVersion": version} if version else {})}
        return {**manifest, "metadata": own}

    async def wait(self, what: str, limit_s: float, is_done: Callable[[], Awaitable[str]]) -> None:
        """Look until it is done, half a second apart.

        Args:
            is_done: Says "" when it is, and else what is missing.

        Raises:
            TargetFailed: It is not within `limit_s`.
        """
        said, began = await is_done(), anyio.current_time()
        while said and anyio.current_time() - began < limit_s:
            await anyio.sleep(POLL_S)
            said = await is_done()
        if not said:
            return
        raise TargetFailed(f"cannot {what}: after {limit_s:g} s {said}")


def _refuse_late(fence: int, there: Thing) -> None:
    theirs = int(there["metadata"].get("annotations", {}).get(FENCE, 0))
    if theirs > fence:
        raise Fenced(fence, theirs)
