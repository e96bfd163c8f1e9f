"""What pods and Deployments say of themselves, as JSON: ready, on their way, or stuck and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pipeline.deploy.target import Probe, Usage
from pipeline.deploy.targets.kubernetes_manifests import CONTAINER, SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Thing: TypeAlias = "Mapping[str, Any]"

STUCK: Final = {
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImagePull": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node, and may not be pulled",
    "InvalidImageName": "its image has no name that can be used",
    "CreateContainerConfigError": "its container cannot be set up",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be run",
    "CrashLoopBackOff": "its container ends again and again",
}
"""Reasons to wait for which waiting longer does not help."""
UNSCHEDULABLE_S: Final = 15.0  # a node may be on its way; where that takes longer, have spare ones
UNITS: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "Ki": 1024.0, "Mi": 1024.0**2, "Gi": 1024.0**3, "k": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Something that does not get better by itself. `pod` is "" where there is not even one."""

    service: str
    pod: str
    what: str


@dataclass
class Watched:
    """Since when pods have found no node, by our own clock."""

    homeless: dict[str, float] = field(default_factory=dict)


def service_of(thing: Thing) -> str:
    """Return the service that an object belongs to."""
    return str(thing["metadata"].get("labels", {}).get(SERVICE, ""))


def name_of(thing: Thing) -> str:
    """Return an object's name."""
    return str(thing["metadata"]["name"])


def wanted(deployment: Thing) -> int:
    """Return how many pods it should have."""
    return int(deployment["spec"].get("replicas", 1))


def ready(deployment: Thing) -> int:
    """Return how many of its present pods are ready; 0 while the cluster has not seen its last change."""
    status = deployment.get("status", {})
    if int(status.get("observedGeneration", 0)) < int(deployment["metadata"].get("generation", 0)):
        return 0
    return min(int(status.get("readyReplicas", 0)), int(status.get("updatedReplicas", 0)))


def present(pods: Sequence[Thing]) -> list[Thing]:
    """Return the pods that are not leaving."""
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def find_stuck(
    deployments: Sequence[Thing], pods: Sequence[Thing], watched: Watched, now: float
) -> Stuck | None:
    """Return what will not become ready however long one waits; None when there is hope.

    Args:
        now: In seconds, of a clock that never jumps.
    """
    for pod in present(pods):
        what = _stuck_pod(pod) or _homeless(pod, watched, now)
        if what:
            return Stuck(service=service_of(pod), pod=name_of(pod), what=what)
    for one in deployments:
        what = _stuck_deployment(one)
        if what:
            return Stuck(service=service_of(one), pod="", what=what)
    return None


def _stuck_pod(pod: Thing) -> str:
    for status in _statuses(pod):
        waits = status.get("state", {}).get("waiting", {})
        reason = str(waits.get("reason", ""))
        if reason in STUCK:
            said = _ended(status) if reason == "CrashLoopBackOff" else str(waits.get("message", ""))
            return f"{STUCK[reason]} ({reason}{': ' + said if said else ''})"
    if pod.get("status", {}).get("phase") == "Failed":
        status = pod["status"]
        return f"it was ended by the cluster ({status.get('reason', 'Failed')}: {status.get('message', '')})"
    return ""


def _homeless(pod: Thing, watched: Watched, now: float) -> str:
    place = _condition(pod, "PodScheduled")
    if place.get("status") != "False" or place.get("reason") != "Unschedulable":
        watched.homeless.pop(name_of(pod), None)
        return ""
    since = watched.homeless.setdefault(name_of(pod), now)
    return (
        f"no node takes it ({place.get('message', 'Unschedulable')})"
        if now - since >= UNSCHEDULABLE_S
        else ""
    )


def _stuck_deployment(one: Thing) -> str:
    refused = _condition(one, "ReplicaFailure")
    if refused.get("status") == "True":
        message = str(refused.get("message", ""))
        why = "the quota is used up" if "exceeded quota" in message else "the cluster refuses its pods"
        return f"{why} ({refused.get('reason', '')}: {message})"
    moves = _condition(one, "Progressing")
    if moves.get("status") == "False":
        return f"it makes no progress ({moves.get('reason', '')}: {moves.get('message', '')})"
    return ""


def probes_of(deployments: Sequence[Thing], pods: Sequence[Thing]) -> tuple[Probe, ...]:
    """Return one look at each instance that should be there; others have numbers for names."""
    found: list[Probe] = []
    for one in deployments:
        service = service_of(one)
        own = [pod for pod in present(pods) if service_of(pod) == service]
        found += [_probe(service, pod, is_current=_is_made_of(pod, one["spec"]["template"])) for pod in own]
        missing = range(len(own) + 1, wanted(one) + 1)
        found += [
            Probe(service=service, instance=f"{n} of {wanted(one)}", passed=False, said="it has no pod yet")
            for n in missing
        ]
    return tuple(found)


def _is_made_of(pod: Thing, template: Thing) -> bool:
    """Whether a pod is one of the present template, not one that is about to be replaced."""
    labels, image = template["metadata"]["labels"], template["spec"]["containers"][0]["image"]
    return bool(labels.items() <= pod["metadata"]["labels"].items() and image == _image(pod))


def _image(pod: Thing) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _probe(service: str, pod: Thing, *, is_current: bool) -> Probe:
    condition = _condition(pod, "Ready")
    passed = condition.get("status") == "True" and is_current
    waits = [status["state"]["waiting"] for status in _statuses(pod) if "waiting" in status.get("state", {})]
    late = "it is about to be replaced" if not is_current else "not ready yet"
    said = "ready" if passed else str(condition.get("message") or condition.get("reason") or late)
    if waits:
        said = f"{waits[0].get('reason', '')}: {waits[0].get('message', '')}".strip(": ")
    return Probe(
        service=service,
        instance=name_of(pod),
        passed=passed,
        said=said,
        restarts=sum(int(status.get("restartCount", 0)) for status in _statuses(pod)),
        version=_image(pod).rpartition("@")[2],
    )


def usage_of(
    pods: Sequence[Thing], measured: Sequence[Thing], cpus: Mapping[str, float]
) -> tuple[Usage, ...]:
    """Return what pods take.

    Args:
        measured: What the cluster's metrics say; empty where it has none.
        cpus: Limits by service; 1 where there is none.
    """
    taken = {name_of(one): one for one in measured}
    return tuple(_usage(pod, taken.get(name_of(pod)), cpus) for pod in present(pods))


def _usage(pod: Thing, measured: Thing | None, cpus: Mapping[str, float]) -> Usage:
    service = service_of(pod)
    ends = [status.get("lastState", {}).get("terminated", {}) for status in _statuses(pod)]
    parts = [one["usage"] for one in measured["containers"]] if measured is not None else []
    cpu = sum(_number(str(part["cpu"])) for part in parts)
    return Usage(
        service=service,
        instance=name_of(pod),
        cpu_percent=100 * cpu / cpus.get(service, 1.0) if parts else None,
        memory_bytes=round(sum(_number(str(part["memory"])) for part in parts)) if parts else None,
        restarts=sum(int(status.get("restartCount", 0)) for status in _statuses(pod)),
        out_of_memory=any(end.get("reason") == "OOMKilled" for end in ends),
    )


def _number(text: str) -> float:
    """Read a quantity of the cluster: "250m" is 0.25, "64Mi" 67108864."""
    unit = text.lstrip("0123456789.")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1.0)


def _ended(status: Thing) -> str:
    end = status.get("lastState", {}).get("terminated", {})
    if end.get("reason") == "OOMKilled":
        return "it took more memory than it may"
    return f"it ended with code {end['exitCode']}" if "exitCode" in end else ""


def _statuses(pod: Thing) -> Iterator[Thing]:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status.get("name") == CONTAINER:
            yield status


def _condition(thing: Thing, kind: str) -> Thing:
    conditions: Sequence[Thing] = thing.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one.get("type") == kind), {})
