"""What a release is in a cluster: objects for `kubectl apply`, made of settings alone. Pure.

Each release has Deployments of its own, `<service>-<release>`, and Services that reach only it; the Service
named like the service itself is the switch. An exclusive service has one Deployment that releases share.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pipeline.digest import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.config.delivery import DeployedService, Environment, ReadySettings
    from pipeline.deploy.release import Release, ReleasedService

Manifest: TypeAlias = dict[str, Any]

ENVIRONMENT: Final = "dagger-pipeline/environment"
SERVICE: Final = "dagger-pipeline/service"
RELEASE: Final = "dagger-pipeline/release"
CONTENT: Final = (
    "dagger-pipeline/content"  # of an exclusive service: releases in which it is the same share it
)
PUBLIC: Final = "dagger-pipeline/public"
FENCE: Final = "dagger-pipeline/fence"
CONTAINER: Final = "main"
VALUE: Final = "value"
VALUE_OF: Final = "dagger-pipeline/kind"
LONGEST_SERVICE: Final = 48  # `<service>-r-<12>` is a name of at most 63 characters
LIVENESS_MISSES: Final = 10


def list_of(items: Sequence[Manifest]) -> Manifest:
    """Return objects as one."""
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def slot_name(service: str, one: ReleasedService, release: str) -> str:
    """Return the name of a service's Deployment."""
    return service if one.settings.exclusive else f"{service}-{release}"


def secret_object(environment: str, name: str, version: str) -> str:
    """Return the name of the Secret that has this version of a value."""
    return f"{environment}-{name.lower().replace('_', '-').strip('-')}-{version}"


def public_service(release: Release) -> str:
    """Return the service that traffic from outside reaches; "" when there is none."""
    with_port = [name for name, one in release.services.items() if one.settings.port is not None]
    said = [name for name in with_port if release.services[name].settings.public]
    silent = [name for name in with_port if release.services[name].settings.public is None]
    return (said or (silent if len(silent) == 1 else [""]))[0]


def value_manifests(environment: str, release: Release, values: Mapping[str, str]) -> list[Manifest]:
    """Return a Secret for each value of a release; `values` are by name."""
    versions = {name: version for one in release.services.values() for name, version in one.secrets.items()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": secret_object(environment, name, version),
                "labels": {ENVIRONMENT: environment, VALUE_OF: "value"},
            },
            "immutable": True,
            "stringData": {VALUE: values[name]},
        }
        for name, version in sorted(versions.items())
    ]


def slot_services(environment: Environment, release: Release) -> list[Manifest]:
    """Return the Services that reach only this release, and are there before its pods."""
    return [
        _service(
            environment.name,
            name,
            one.settings,
            labels={ENVIRONMENT: environment.name, RELEASE: release.id},
            name=slot_name(name, one, release.id),
            selector={ENVIRONMENT: environment.name, SERVICE: name, RELEASE: release.id},
        )
        for name, one in _with_port(release)
        if not one.settings.exclusive
    ]


def switch(environment: Environment, release: Release, service: str, *, is_shared: bool = False) -> Manifest:
    """Return the Service whose selector gives a service's traffic to a release.

    Args:
        is_shared: To all releases that have pods, by how many each has.
    """
    one = release.services[service]
    selector = {ENVIRONMENT: environment.name, SERVICE: service}
    labels = {ENVIRONMENT: environment.name}
    if service == public_service(release):
        labels[PUBLIC] = "true"
    if not is_shared and not one.settings.exclusive:
        selector[RELEASE] = release.id
    return _service(environment.name, service, one.settings, labels=labels, name=service, selector=selector)


def _service(
    environment: str,
    service: str,
    settings: DeployedService,
    *,
    labels: dict[str, str],
    name: str,
    selector: dict[str, str],
) -> Manifest:
    port = {"name": "main", "port": settings.port, "targetPort": settings.port, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {**labels, SERVICE: service}},
        "spec": {"type": "ClusterIP", "selector": selector, "ports": [port]},
    }


def deployment(
    environment: Environment,
    release: Release,
    service: str,
    *,
    replicas: int,
    addresses: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the Deployment of one service.

    Args:
        addresses: Of the release's own Services, by service: its pods find each other, not old ones.
    """
    one = release.services[service]
    settings = one.settings
    labels = {ENVIRONMENT: environment.name, SERVICE: service}
    own = {} if settings.exclusive else {RELEASE: release.id}
    content = {CONTENT: digest_of(one).removeprefix("sha256:")[:12]} if settings.exclusive else {}
    rollout: Manifest = {"type": "Recreate"}
    if not settings.exclusive:
        rollout = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    health = settings.health
    patience = math.ceil(health.deadline_s + health.healthy_for_s) if health else 60
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": slot_name(service, one, release.id),
            "labels": {**labels, **own},
            "annotations": {RELEASE: release.id},
        },
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": patience,
            "strategy": rollout,
            "selector": {"matchLabels": {**labels, **own}},
            "template": {
                "metadata": {"labels": {**labels, **own, **content}},
                "spec": _pod(environment, release, service, addresses or {}),
            },
        },
    }


def budget(environment: Environment, release: Release, service: str) -> list[Manifest]:
    """Return the rule that nodes are emptied of one instance at a time; none for a single instance."""
    one = release.services[service]
    if one.settings.replicas < 2:
        return []
    labels = {ENVIRONMENT: environment.name, SERVICE: service}
    own = {} if one.settings.exclusive else {RELEASE: release.id}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": slot_name(service, one, release.id), "labels": {**labels, **own}},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {**labels, **own}}},
        }
    ]


def job(
    environment: Environment,
    release: Release,
    service: str,
    *,
    name: str,
    command: Sequence[str],
    limit_s: float,
    addresses: Mapping[str, str] | None = None,
) -> Manifest:
    """Return the Job that runs a command once in a pod like those of a service, which takes no requests."""
    pod = _pod(environment, release, service, addresses or {})
    main = dict(pod["containers"][0])
    for key in ("readinessProbe", "livenessProbe", "startupProbe", "lifecycle", "ports", "args"):
        main.pop(key, None)
    main["command"] = list(command)
    labels = {ENVIRONMENT: environment.name, VALUE_OF: "job"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(limit_s),
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "containers": [main], "restartPolicy": "Never"},
            },
        },
    }


def _pod(environment: Environment, release: Release, service: str, addresses: Mapping[str, str]) -> Manifest:
    one, extra = release.services[service], environment.kubernetes
    settings = one.settings
    leave_s = extra.leave_s if settings.port is not None else 0.0
    grace_s = leave_s + settings.drain.timeout_s + settings.drain.stop_timeout_s
    near = [{"ip": addresses[need], "hostnames": [need]} for need in settings.needs if need in addresses]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {ENVIRONMENT: environment.name, SERVICE: service}},
    }
    pod: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(grace_s),
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            **({} if service in extra.as_root else {"runAsNonRoot": True}),
        },
        "containers": [_container(environment, release, service, leave_s)],
        "volumes": _mounted(environment, settings, is_writable=service in extra.writable),
    }
    if near:
        pod["hostAliases"] = near
    if settings.replicas > 1:
        pod["topologySpreadConstraints"] = [spread]
    if extra.pull_secret is not None:
        pod["imagePullSecrets"] = [{"name": extra.pull_secret}]
    return pod


def _container(environment: Environment, release: Release, service: str, leave_s: float) -> Manifest:
    one, extra = release.services[service], environment.kubernetes
    settings = one.settings
    told = {} if settings.exclusive else {"PIPELINE_RELEASE": release.id, "PIPELINE_VERSION": release.version}
    plain = {**told, "PIPELINE_DIGEST": one.image_digest, **settings.env}
    main: Manifest = {
        "name": CONTAINER,
        "image": one.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [
            *({"name": name, "value": value} for name, value in plain.items()),
            *_secret_variables(environment.name, one),
        ],
        "volumeMounts": [
            *({"name": volume, "mountPath": path} for path, volume in sorted(settings.volumes.items())),
            *([] if service in extra.writable else [{"name": "tmp", "mountPath": "/tmp"}]),  # noqa: S108 - its
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": service not in extra.writable,
            **({} if service in extra.as_root else {"capabilities": {"drop": ["ALL"]}}),
        },
    }
    limits = _limits(settings)
    if limits:
        main["resources"] = {"limits": limits}
    if settings.command is not None:
        main["command"] = list(settings.command)
    if settings.port is not None:
        main["ports"] = [{"name": "main", "containerPort": settings.port, "protocol": "TCP"}]
    if leave_s:
        main["lifecycle"] = {"preStop": {"sleep": {"seconds": math.ceil(leave_s)}}}
    main.update(_probes(settings))
    return main


def _secret_variables(environment: str, one: ReleasedService) -> Iterator[Manifest]:
    for name, version in sorted(one.secrets.items()):
        where = {"name": secret_object(environment, name, version), "key": VALUE}
        yield {"name": name, "valueFrom": {"secretKeyRef": where}}


def _limits(settings: DeployedService) -> dict[str, str]:
    cpus, memory = settings.resources.cpus, settings.resources.memory
    return {
        **({"cpu": f"{round(cpus * 1000)}m"} if cpus is not None else {}),
        **({"memory": str(memory)} if memory is not None else {}),
    }


def _probes(settings: DeployedService) -> Manifest:
    """Ready as the settings say; alive as long as that has not failed for long; both once it has started."""
    health = settings.health
    how = _look(settings, health)
    if not how:
        return {}
    every_s = max(1, round(health.interval_s)) if health else 1
    timeout_s = max(1, math.ceil(health.timeout_s)) if health else 2
    deadline_s = health.deadline_s if health else 60.0
    look = {**how, "periodSeconds": every_s, "timeoutSeconds": timeout_s}
    return {
        "startupProbe": {**look, "failureThreshold": max(1, math.ceil(deadline_s / every_s))},
        "readinessProbe": {**look, "failureThreshold": 3},
        "livenessProbe": {**look, "failureThreshold": LIVENESS_MISSES},
    }


def _look(settings: DeployedService, health: ReadySettings | None) -> Manifest:
    if health is not None and health.path is not None:
        return {"httpGet": {"path": health.path, "port": settings.port}}
    if health is not None and health.command is not None:
        return {"exec": {"command": list(health.command)}}
    port = health.tcp if health is not None and health.tcp is not None else settings.port
    return {"tcpSocket": {"port": port}} if port is not None else {}


def _mounted(environment: Environment, settings: DeployedService, *, is_writable: bool) -> list[Manifest]:
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{environment.name}-{name}"}}
        for name in sorted(set(settings.volumes.values()))
    ]
    return [*claims, *([] if is_writable else [{"name": "tmp", "emptyDir": {}}])]


def _with_port(release: Release) -> list[tuple[str, ReleasedService]]:
    return [(name, release.services[name]) for name in release.in_order() if _has_port(release, name)]


def _has_port(release: Release, name: str) -> bool:
    return release.services[name].settings.port is not None
