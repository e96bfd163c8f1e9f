"""What stays in a cluster when releases change: volumes, rules of the network, the way in. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.deploy.targets.kubernetes_manifests import ENVIRONMENT, SERVICE, public_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config.delivery import Environment
    from pipeline.deploy.release import Release
    from pipeline.deploy.targets.kubernetes_manifests import Manifest


def around(environment: Environment, release: Release) -> list[Manifest]:
    """Return what stays when releases change: volumes, rules of the network, the way in from outside."""
    return [
        *_volumes(environment, release),
        *(_rules(environment, release) if environment.kubernetes.isolated else ()),
        *_ingress(environment, release),
    ]


def _volumes(environment: Environment, release: Release) -> Iterator[Manifest]:
    extra = environment.kubernetes
    single: dict[str, bool] = {}
    for one in release.services.values():
        alone = one.settings.exclusive or one.settings.replicas == 1
        for name in one.settings.volumes.values():
            single[name] = alone and name not in single
    for name in sorted(single):
        spec: Manifest = {
            "accessModes": ["ReadWriteOnce" if single[name] else "ReadWriteMany"],
            "resources": {"requests": {"storage": str(extra.volume_size)}},
        }
        if extra.storage_class is not None:
            spec["storageClassName"] = extra.storage_class
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{environment.name}-{name}", "labels": {ENVIRONMENT: environment.name}},
            "spec": spec,
        }


def _rules(environment: Environment, release: Release) -> Iterator[Manifest]:
    """For each service who may reach it: everybody for the public one, else who needs it."""
    public = public_service(release)
    for name, one in sorted(release.services.items()):
        askers = sorted(other for other, its in release.services.items() if name in its.settings.needs)
        pods = [
            {"podSelector": {"matchLabels": {ENVIRONMENT: environment.name, SERVICE: asker}}}
            for asker in askers
        ]
        allowed: Manifest = {"ports": [{"port": one.settings.port, "protocol": "TCP"}]}
        if name != public:
            allowed["from"] = pods
        is_reached = one.settings.port is not None and (name == public or pods)
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": f"{environment.name}-{name}",
                "labels": {ENVIRONMENT: environment.name, SERVICE: name},
            },
            "spec": {
                "podSelector": {"matchLabels": {ENVIRONMENT: environment.name, SERVICE: name}},
                "policyTypes": ["Ingress"],
                "ingress": [allowed] if is_reached else [],
            },
        }


def _ingress(environment: Environment, release: Release) -> Iterator[Manifest]:
    public, extra = public_service(release), environment.kubernetes
    host = urlsplit(environment.address or "").hostname
    if not public or extra.ingress_class is None or host is None:
        return
    port = {"number": release.services[public].settings.port}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": public, "port": port}}}
    tls = {"tls": [{"hosts": [host], "secretName": extra.tls_secret}]} if extra.tls_secret else {}
    yield {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": f"{environment.name}-{public}", "labels": {ENVIRONMENT: environment.name}},
        "spec": {
            "ingressClassName": extra.ingress_class,
            "rules": [{"host": host, "http": {"paths": [path]}}],
            **tls,
        },
    }
