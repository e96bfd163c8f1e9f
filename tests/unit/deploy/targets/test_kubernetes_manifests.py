"""What a release is in a cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.config.delivery import (
    DeployedService,
    DrainSettings,
    Environment,
    KubernetesSettings,
    ReadySettings,
    ResourceSettings,
)
from pipeline.config.values import Command, Count, Percent, Port, Seconds, Size
from pipeline.deploy.release import Release, ReleasedService
from pipeline.deploy.targets.kubernetes_around import around
from pipeline.deploy.targets.kubernetes_manifests import (
    budget,
    deployment,
    job,
    public_service,
    secret_object,
    slot_services,
    switch,
    value_manifests,
)

IMAGE = "registry.invalid/api@sha256:" + "a" * 64
API = DeployedService(
    port=Port(8000),
    public=True,
    replicas=Count(3),
    needs=("store", "worker"),
    env={"LEVEL": "info"},
    secrets=("DB_PASSWORD",),
    health=ReadySettings(path="/health", interval_s=Seconds(2), deadline_s=Seconds(60)),
    drain=DrainSettings(timeout_s=Seconds(30), stop_timeout_s=Seconds(10)),
    resources=ResourceSettings(cpus=Percent(0.5), memory=Size(64 << 20)),
)
STORE = DeployedService(port=Port(6379), volumes={"/data": "store"}, exclusive=True)
WORKER = DeployedService(command=Command(("work",)), port=Port(9000))
STAGING = Environment(name="staging", target="kubernetes", address="https://shop.example.org")


def _release(**services: DeployedService) -> Release:
    made = {
        name: ReleasedService(image=IMAGE, settings=one, secrets=dict.fromkeys(one.secrets, "v-1"))
        for name, one in services.items()
    }
    return Release(services=made, version="1.2.3")


SHOP = _release(api=API, store=STORE, worker=WORKER)


def _template(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]
    return found


def _main(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _template(manifest)["spec"]["containers"][0]
    return found


def test_each_release_has_deployments_of_its_own() -> None:
    """What selects pods is what their template says: a server refuses anything else."""
    made = deployment(STAGING, SHOP, "api", replicas=3)

    labels = {
        "dagger-pipeline/environment": "staging",
        "dagger-pipeline/service": "api",
        "dagger-pipeline/release": SHOP.id,
    }
    assert made["metadata"]["name"] == f"api-{SHOP.id}"
    assert made["spec"]["selector"]["matchLabels"] == _template(made)["metadata"]["labels"] == labels
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_container_is_pinned_limited_and_may_do_little() -> None:
    """It runs as somebody, writes to `/tmp` alone, and its pod goes on until every node knows."""
    made = deployment(STAGING, SHOP, "api", replicas=3)

    main, pod = _main(made), _template(made)["spec"]
    assert main["image"] == IMAGE
    assert main["resources"] == {"limits": {"cpu": "500m", "memory": "67108864"}}
    assert main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert main["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert main["lifecycle"] == {"preStop": {"sleep": {"seconds": 15}}}
    assert (pod["terminationGracePeriodSeconds"], pod["securityContext"]["runAsNonRoot"]) == (55, True)


def test_what_an_image_needs_can_be_allowed_by_service() -> None:
    """Root, and a root file system that can be written; other services keep what they have."""
    allowed = KubernetesSettings(as_root=("api",), writable=("api",))

    made = deployment(replace(STAGING, kubernetes=allowed), SHOP, "api", replicas=3)

    assert "runAsNonRoot" not in _template(made)["spec"]["securityContext"]
    assert _main(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
    }
    assert _main(made)["volumeMounts"] == []


def test_probes_are_made_of_the_health_settings() -> None:
    """It has its deadline to start, is ready as told, and is restarted only when long dead."""
    main = _main(deployment(STAGING, SHOP, "api", replicas=3))

    look = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 2, "timeoutSeconds": 2}
    assert main["startupProbe"] == {**look, "failureThreshold": 30}
    assert main["readinessProbe"] == {**look, "failureThreshold": 3}
    assert main["livenessProbe"] == {**look, "failureThreshold": 10}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param(
            DeployedService(health=ReadySettings(command=Command(("ok",)))),
            {"exec": {"command": ["ok"]}},
            id="command",
        ),
        pytest.param(
            DeployedService(health=ReadySettings(tcp=Port(7000))), {"tcpSocket": {"port": 7000}}, id="tcp"
        ),
        pytest.param(DeployedService(port=Port(8000)), {"tcpSocket": {"port": 8000}}, id="its port"),
        pytest.param(DeployedService(), None, id="nothing to look at"),
    ],
)
def test_every_kind_of_health_has_its_probe(
    settings: DeployedService, expected: dict[str, Any] | None
) -> None:
    """Without settings the port is asked whether it takes connections."""
    probe = _main(deployment(STAGING, _release(api=settings), "api", replicas=1)).get("readinessProbe")

    how = {key: probe[key] for key in ("exec", "tcpSocket") if key in probe} if probe else None
    assert how == expected


def test_services_of_a_release_find_each_other() -> None:
    """By the addresses of its own Services; an exclusive one is the same for all releases."""
    made = deployment(STAGING, SHOP, "api", replicas=3, addresses={"worker": "10.96.0.9"})

    assert _template(made)["spec"]["hostAliases"] == [{"ip": "10.96.0.9", "hostnames": ["worker"]}]


def test_an_exclusive_service_has_one_deployment_that_never_runs_twice() -> None:
    """Another release in which it is the same changes nothing in its pods."""
    other = replace(SHOP, services={**SHOP.services, "api": replace(SHOP.services["api"], secrets={})})

    made, again = (deployment(STAGING, one, "store", replicas=1) for one in (SHOP, other))

    assert (made["metadata"]["name"], made["spec"]["strategy"]) == ("store", {"type": "Recreate"})
    assert made["spec"] == again["spec"]
    assert _template(made)["spec"]["volumes"][0] == {
        "name": "store",
        "persistentVolumeClaim": {"claimName": "staging-store"},
    }


def test_the_switch_selects_a_release_or_all() -> None:
    """And the release's own Service reaches only it."""
    one, shared = switch(STAGING, SHOP, "api"), switch(STAGING, SHOP, "api", is_shared=True)
    own = slot_services(STAGING, SHOP)

    every = {"dagger-pipeline/environment": "staging", "dagger-pipeline/service": "api"}
    assert one["spec"]["selector"] == {**every, "dagger-pipeline/release": SHOP.id}
    assert shared["spec"]["selector"] == every
    assert [made["metadata"]["name"] for made in own] == [f"worker-{SHOP.id}", f"api-{SHOP.id}"]
    assert own[1]["spec"]["selector"] == one["spec"]["selector"]


def test_values_are_objects_named_with_their_version() -> None:
    """A container names them; their values are nowhere else."""
    made = value_manifests("staging", SHOP, {"DB_PASSWORD": "hunter2"})

    name = secret_object("staging", "DB_PASSWORD", "v-1")
    assert name == "staging-db-password-v-1"
    assert [(one["metadata"]["name"], one["stringData"]) for one in made] == [(name, {"value": "hunter2"})]
    reference = {"secretKeyRef": {"name": name, "key": "value"}}
    rendered = deployment(STAGING, SHOP, "api", replicas=3)
    assert {"name": "DB_PASSWORD", "valueFrom": reference} in _main(rendered)["env"]
    assert "hunter2" not in str(rendered)


def test_nodes_are_emptied_of_one_instance_at_a_time() -> None:
    """Where there is more than one."""
    assert [one["spec"]["maxUnavailable"] for one in budget(STAGING, SHOP, "api")] == [1]
    assert budget(STAGING, SHOP, "store") == []


def test_what_surrounds_a_release_is_made_once() -> None:
    """Volumes, who may reach whom, and the way in for the host people use."""
    settings = KubernetesSettings(ingress_class="nginx", tls_secret="shop-tls")

    made = around(replace(STAGING, kubernetes=settings), SHOP)

    kinds = [(one["kind"], one["metadata"]["name"]) for one in made]
    assert kinds == [
        ("PersistentVolumeClaim", "staging-store"),
        ("NetworkPolicy", "staging-api"),
        ("NetworkPolicy", "staging-store"),
        ("NetworkPolicy", "staging-worker"),
        ("Ingress", "staging-api"),
    ]
    asker = {
        "podSelector": {
            "matchLabels": {"dagger-pipeline/environment": "staging", "dagger-pipeline/service": "api"}
        }
    }
    store = {"ports": [{"port": 6379, "protocol": "TCP"}], "from": [asker]}
    assert made[1]["spec"]["ingress"] == [{"ports": [{"port": 8000, "protocol": "TCP"}]}]
    assert made[2]["spec"]["ingress"] == [store]
    assert made[4]["spec"]["tls"] == [{"hosts": ["shop.example.org"], "secretName": "shop-tls"}]


def test_a_job_is_a_pod_of_the_service_without_requests() -> None:
    """It is tried once, and takes no probes: it ends."""
    made = job(STAGING, SHOP, "api", name="run-1", command=["migrate"], limit_s=90)

    main = _main(made)
    assert (main["command"], main["image"], "readinessProbe" in main) == (["migrate"], IMAGE, False)
    assert (made["spec"]["backoffLimit"], made["spec"]["activeDeadlineSeconds"]) == (0, 90)
    assert _template(made)["spec"]["restartPolicy"] == "Never"


def test_the_public_service_is_said_or_the_only_one_with_a_port() -> None:
    """Two that say nothing are none."""
    silent = DeployedService(port=Port(80))

    assert public_service(SHOP) == "api"
    assert public_service(_release(web=silent)) == "web"
    assert public_service(_release(a=silent, b=silent)) == ""
