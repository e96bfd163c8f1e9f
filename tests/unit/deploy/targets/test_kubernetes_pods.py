"""What pods say of themselves, and which of it is no use waiting for."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.deploy.target import Probe, Usage
from pipeline.deploy.targets.kubernetes_pods import (
    Stuck,
    Watched,
    find_stuck,
    probes_of,
    ready,
    usage_of,
)

LABELS = {"dagger-pipeline/service": "api"}
IMAGE = "registry.invalid/api@sha256:" + "a" * 64
TEMPLATE = {"containers": [{"name": "main", "image": IMAGE}]}


def _pod(name: str = "api-1", *, state: Any = None, conditions: Any = (), **status: Any) -> dict[str, Any]:
    main = {"name": "main", "restartCount": 0, "state": state or {"running": {}}, **status}
    return {
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"containers": [{"name": "main", "image": IMAGE}]},
        "status": {"phase": "Running", "conditions": list(conditions), "containerStatuses": [main]},
    }


def _deployment(replicas: int = 1, *, conditions: Any = (), **status: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    return {
        "metadata": {"name": "api-r-1", "labels": LABELS, "generation": 2},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": LABELS}, "spec": TEMPLATE}},
        "status": {"observedGeneration": 2, **counts, **status, "conditions": list(conditions)},
    }


READY = {"type": "Ready", "status": "True"}
HOMELESS = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available",
}


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("ImagePullBackOff", "manifest unknown", "its image cannot be pulled"),
        ("ErrImagePull", "not found", "its image cannot be pulled"),
        ("CreateContainerConfigError", "image will run as root", "its container cannot be set up"),
        ("RunContainerError", "no such file", "its container cannot be run"),
    ],
)
def test_what_waiting_does_not_help_is_said_at_once(reason: str, message: str, expected: str) -> None:
    """In one sentence, with the cluster's own reason."""
    pod = _pod(state={"waiting": {"reason": reason, "message": message}})

    found = find_stuck([_deployment()], [pod], Watched(), 0.0)

    assert found == Stuck(service="api", pod="api-1", what=f"{expected} ({reason}: {message})")


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ({"exitCode": 3, "reason": "Error"}, "it ended with code 3"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "it took more memory than it may"),
    ],
    ids=["exit code", "memory"],
)
def test_a_container_that_ends_again_and_again_says_how(ended: dict[str, Any], expected: str) -> None:
    """By its last end."""
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pod = _pod(state=waiting, lastState={"terminated": ended})

    found = find_stuck([_deployment()], [pod], Watched(), 0.0)

    assert found is not None
    assert found.what == f"its container ends again and again (CrashLoopBackOff: {expected})"


def test_a_pod_without_a_node_has_some_seconds() -> None:
    """A node may be on its way; how long is told by our own clock."""
    watched, pod = Watched(), _pod(conditions=[HOMELESS])

    first = find_stuck([_deployment()], [pod], watched, 100.0)
    later = find_stuck([_deployment()], [pod], watched, 115.0)

    assert first is None
    assert later is not None
    assert later.what == "no node takes it (0/1 nodes are available)"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (
            {
                "type": "ReplicaFailure",
                "status": "True",
                "reason": "FailedCreate",
                "message": "exceeded quota: q",
            },
            "the quota is used up (FailedCreate: exceeded quota: q)",
        ),
        (
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "denied"},
            "the cluster refuses its pods (FailedCreate: denied)",
        ),
        (
            {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": "timed out",
            },
            "it makes no progress (ProgressDeadlineExceeded: timed out)",
        ),
    ],
    ids=["quota", "refused", "no progress"],
)
def test_a_deployment_says_what_keeps_it(condition: dict[str, str], expected: str) -> None:
    """Though it has no pod that could."""
    found = find_stuck([_deployment(conditions=[condition])], [], Watched(), 0.0)

    assert found == Stuck(service="api", pod="", what=expected)


def test_a_leaving_pod_is_none_of_ours() -> None:
    """Neither stuck nor an instance."""
    pod = _pod(state={"waiting": {"reason": "ErrImagePull"}})
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert find_stuck([_deployment()], [pod], Watched(), 0.0) is None
    assert probes_of([_deployment(0)], [pod]) == ()


def test_instances_that_should_be_there_are_looked_at_too() -> None:
    """They have not passed."""
    found = probes_of([_deployment(2)], [_pod(conditions=[READY])])

    digest = "sha256:" + "a" * 64
    assert found == (
        Probe(service="api", instance="api-1", passed=True, said="ready", version=digest),
        Probe(service="api", instance="2 of 2", passed=False, said="it has no pod yet"),
    )


def test_an_instance_that_is_about_to_be_replaced_has_not_passed() -> None:
    """However ready it says that it is: it is made of the old template."""
    old = _pod(conditions=[READY])
    old["spec"]["containers"][0]["image"] = "registry.invalid/api@sha256:" + "b" * 64

    found = probes_of([_deployment()], [old])

    assert [(one.passed, one.said) for one in found] == [(False, "it is about to be replaced")]


def test_counts_of_before_the_last_change_count_for_nothing() -> None:
    """The cluster says which change it has seen."""
    old = _deployment(3, observedGeneration=1)

    assert (ready(old), ready(_deployment(3))) == (0, 3)


def test_usage_is_of_the_limit_and_says_who_ran_out_of_memory() -> None:
    """None where the cluster measures nothing."""
    measured = {
        "metadata": {"name": "api-1"},
        "containers": [{"usage": {"cpu": "250m", "memory": "64Mi"}}],
    }
    killed = _pod("api-2", restartCount=2, lastState={"terminated": {"reason": "OOMKilled"}})

    found = usage_of([_pod(), killed], [measured], {"api": 0.5})

    assert found == (
        Usage(service="api", instance="api-1", cpu_percent=50.0, memory_bytes=64 << 20),
        Usage(service="api", instance="api-2", restarts=2, out_of_memory=True),
    )
