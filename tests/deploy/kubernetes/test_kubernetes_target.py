"""The target in a cluster.

Where PIPELINE_TEST_KUBECONFIG names a cluster, these run against it: a real control plane, whose one node
is `kubelet.py` and runs nothing. Elsewhere they replay what such a control plane (v1.34) has answered to the
very same calls, recorded in `tapes/`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pipeline.config.delivery import (
    CanarySettings,
    DeployedService,
    DeploySettings,
    DrainSettings,
    Environment,
    ReadySettings,
)
from pipeline.config.values import Command, Count, Port, Seconds
from pipeline.deploy.release import Release, ReleasedService
from pipeline.deploy.secrets import keep_secrets
from pipeline.deploy.target import Deployment, Fenced, Live, TargetFailed, TargetUnfit
from pipeline.deploy.targets.kubernetes import KubernetesTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.deploy.kubernetes.conftest import Cluster

pytestmark = pytest.mark.anyio

QUICK = ReadySettings(
    path="/health",
    interval_s=Seconds(0.2),
    passes=Count(1),
    healthy_for_s=Seconds(0.1),
    deadline_s=Seconds(30),
)
API = DeployedService(
    port=Port(8000),
    replicas=Count(2),
    health=QUICK,
    drain=DrainSettings(timeout_s=Seconds(1), stop_timeout_s=Seconds(1)),
)
STORE = DeployedService(port=Port(6379), public=False, exclusive=True)


def _release(
    number: int,
    told: str = "good",
    *,
    api: DeployedService = API,
    store: int = 0,
    secrets: Mapping[str, str] | None = None,
) -> Release:
    image = f"registry.invalid/{told}/api@sha256:{number:064x}"
    services = {"api": ReleasedService(image=image, settings=api, secrets=secrets or {})}
    if store:
        kept = f"registry.invalid/good/store@sha256:{store:064x}"
        services["store"] = ReleasedService(image=kept, settings=STORE)
    return Release(services=services, version=f"1.0.{number}")


def _environment(cluster: Cluster, **settings: Any) -> Environment:
    return Environment(
        name="staging",
        target="kubernetes",
        namespace=cluster.namespace,
        deploy=DeploySettings(services={"api": API}, **settings),
    )


def _deployment(
    environment: Environment, new: Release, old: Release | None = None, *, fence: int = 1, parts: int = 1
) -> Deployment:
    return Deployment(id="d-1", environment=environment, new=new, old=old, fence=fence, parts=parts)


async def _see_ready(target: KubernetesTarget, deployment: Deployment, release: Release) -> list[str]:
    """Wait until all instances that should be there have passed; return what they say they run."""
    while True:
        probes = await target.probe(deployment, release)
        if probes and all(probe.passed for probe in probes):
            return sorted(probe.version for probe in probes)
        await anyio.sleep(0.5)


async def _bring_up(target: KubernetesTarget, release: Release, *, fence: int = 1) -> Deployment:
    """Let a release be the first one, with all traffic."""
    first = _deployment(target.environment, release, fence=fence)
    await target.fetch(first)
    await target.start(first, 1)
    await _see_ready(target, first, release)
    await target.shift(first, 100)
    return first


def _whole(*up: Release, live: Release, here: tuple[Release, ...] = ()) -> Live:
    return Live(
        shares={live.id: 100.0},
        running=frozenset(one.id for one in up),
        here=frozenset(one.id for one in (*up, *here)),
    )


async def test_traffic_goes_to_the_new_release_at_once_and_back(cluster: Cluster) -> None:
    """The old one stays to be started; what is undone leaves nothing but it."""
    target = KubernetesTarget(environment=_environment(cluster))
    old, new = _release(1), _release(2)
    await _bring_up(target, old)
    hand_over = _deployment(target.environment, new, old)

    await target.check(hand_over)
    await target.start(hand_over, 1)
    versions = await _see_ready(target, hand_over, new)
    started = await target.live()
    await target.shift(hand_over, 100)
    shifted = await target.live()
    await target.drain(hand_over, 1)
    drained = await target.live()
    await target.restore(hand_over, 1)
    await _see_ready(target, hand_over, old)
    await target.shift(hand_over, 0)
    back = await target.live()
    await target.remove(hand_over, 1)
    undone = await target.live()

    assert versions == [new.services["api"].image_digest] * 2
    assert started == _whole(old, new, live=old)
    assert shifted == _whole(old, new, live=new)
    assert drained == _whole(new, live=new, here=(old,))
    assert back == _whole(old, new, live=old)
    assert undone == _whole(old, live=old)


async def test_doing_a_thing_twice_is_the_same_as_once(cluster: Cluster) -> None:
    """Every step looks at the world first."""
    target = KubernetesTarget(environment=_environment(cluster))
    old, new = _release(1), _release(2)
    await _bring_up(target, old)
    hand_over = _deployment(target.environment, new, old)

    for _ in range(2):
        await target.start(hand_over, 1)
    await _see_ready(target, hand_over, new)
    for _ in range(2):
        await target.shift(hand_over, 100)
    for _ in range(2):
        await target.drain(hand_over, 1)
    for _ in range(2):
        await target.prune(hand_over, frozenset({new.id}))

    assert await target.live() == _whole(new, live=new)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("bad", "its image cannot be pulled (ImagePullBackOff: Back-off pulling image: manifest unknown)"),
        (
            "config",
            "its container cannot be set up (CreateContainerConfigError: container has runAsNonRoot and "
            "image will run as root)",
        ),
        ("crash", "its container ends again and again (CrashLoopBackOff: it ended with code 3)"),
    ],
)
async def test_a_pod_that_is_stuck_ends_the_wait(cluster: Cluster, told: str, said: str) -> None:
    """With the reason in one sentence, and the pod's last lines; the old release keeps the traffic."""
    target = KubernetesTarget(environment=_environment(cluster))
    old, new = _release(1), _release(2, told)
    await _bring_up(target, old)
    hand_over = _deployment(target.environment, new, old)
    await target.start(hand_over, 1)

    with pytest.raises(TargetFailed) as caught:
        await _see_ready(target, hand_over, new)
    evidence = await target.evidence(hand_over)
    await target.remove(hand_over, 1)

    assert str(caught.value).startswith(f"`api` cannot start: {said} (pod `api-{new.id}-")
    assert "cannot open the database" in caught.value.logs
    logs = [text for name, text in evidence.items() if name.endswith(".log")]
    assert logs == [b"cannot open the database\n"] * 2
    assert {"events.txt", "objects.json"} < evidence.keys()
    assert await target.live() == _whole(old, live=old)


async def test_a_used_up_quota_ends_the_wait(cluster: Cluster) -> None:
    """Though there is no pod that could say so."""
    quota = (
        '{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"few"},"spec":{"hard":{"pods":"1"}}}'
    )
    cluster.kubectl("create", "-f", "-", stdin=quota)
    target = KubernetesTarget(environment=_environment(cluster))
    new = _release(1)
    first = _deployment(target.environment, new)
    await target.start(first, 1)

    with pytest.raises(
        TargetFailed, match=r"`api` cannot start: the quota is used up \(FailedCreate: pods .*"
    ):
        await _see_ready(target, first, new)


async def test_canary_shares_are_shares_of_the_pods(cluster: Cluster) -> None:
    """As many of the new release as its share, the rest of the old one; all of one at 100 %, and at 0 %."""
    settings = replace(API, replicas=Count(4))
    environment = _environment(cluster, strategy="canary", canary=CanarySettings(steps=("25%", "100%")))
    target = KubernetesTarget(environment=environment)
    old, new = _release(1, api=settings), _release(2, api=settings)
    await _bring_up(target, old)
    hand_over = _deployment(environment, new, old)

    await target.start(hand_over, 1)
    await _see_ready(target, hand_over, new)
    await target.shift(hand_over, 25)
    quarter = await target.live()
    await target.shift(hand_over, 0)
    await _see_ready(target, hand_over, old)
    back = await target.live()
    await target.shift(hand_over, 100)
    whole = await target.live()

    assert quarter.shares == {new.id: 25.0, old.id: 75.0}
    assert (back.release, whole.release) == (old.id, new.id)


async def test_rolling_goes_part_by_part(cluster: Cluster) -> None:
    """There are never fewer instances than there should be."""
    environment = _environment(cluster, strategy="rolling")
    target = KubernetesTarget(environment=environment)
    old, new = _release(1), _release(2)
    await _bring_up(target, old)
    hand_over = _deployment(environment, new, old, parts=2)
    shares: list[Mapping[str, float]] = []

    for part in (1, 2):
        await target.start(hand_over, part)
        await _see_ready(target, hand_over, new)
        await target.shift(hand_over, 50.0 * part)
        await target.drain(hand_over, part)
        shares.append((await target.live()).shares)

    assert shares == [{new.id: 50.0, old.id: 50.0}, {new.id: 100.0}]
    assert (await target.live()).running == {new.id}


async def test_an_exclusive_service_is_replaced_and_comes_back(cluster: Cluster) -> None:
    """It is one Deployment, whose old pod ends before the new one is made."""
    target = KubernetesTarget(environment=_environment(cluster))
    old, new = _release(1, store=1), _release(2, store=2)
    await _bring_up(target, old)
    hand_over = _deployment(target.environment, new, old)

    await target.start(hand_over, 1)
    new_versions = await _see_ready(target, hand_over, new)
    await target.remove(hand_over, 1)
    old_versions = await _see_ready(target, hand_over, old)

    assert f"sha256:{2:064x}" in new_versions
    assert set(old_versions) == {f"sha256:{1:064x}"}
    assert await target.live() == _whole(old, live=old)


async def test_an_earlier_deployer_changes_nothing(cluster: Cluster) -> None:
    """Whatever it tries."""
    target = KubernetesTarget(environment=_environment(cluster))
    old, new = _release(1), _release(2)
    await _bring_up(target, old, fence=8)
    late = _deployment(target.environment, new, old, fence=7)

    for act in (
        target.start(late, 1),
        target.shift(late, 100),
        target.drain(late, 1),
        target.restore(late, 1),
        target.remove(late, 1),
        target.prune(late, frozenset()),
    ):
        with pytest.raises(Fenced, match="our lock has number 7, by now there is 8"):
            await act

    assert await target.live() == _whole(old, live=old)


@pytest.mark.parametrize(("told", "fails"), [("good", False), ("fails", True)], ids=["good", "bad"])
async def test_a_command_runs_once_in_a_pod_of_its_own(cluster: Cluster, told: str, *, fails: bool) -> None:
    """What it printed comes back, or goes into the error."""
    target = KubernetesTarget(environment=_environment(cluster))
    first = _deployment(target.environment, _release(1, told))
    said, error = "", ""

    try:
        said = await target.run(first, "api", Command(("migrate", "up")), 30)
    except TargetFailed as failed:
        said, error = failed.logs, str(failed)

    assert (said, error.startswith("the command failed")) == ("cannot open the database\n", fails)


async def test_values_of_secrets_are_objects_of_their_own(cluster: Cluster) -> None:
    """They go with the last release that needs them."""
    target = KubernetesTarget(environment=_environment(cluster))
    await target.state.write("secrets/key.json", b'{"value":"00"}\n', version="")
    one = await keep_secrets(target.state, {"DB_PASSWORD": "hunter2"})
    two = await keep_secrets(target.state, {"DB_PASSWORD": "hunter3"})
    api = replace(API, secrets=("DB_PASSWORD",))
    old, new = _release(1, api=api, secrets=one), _release(2, api=api, secrets=two)
    await _bring_up(target, old)
    hand_over = _deployment(target.environment, new, old)
    where = "--selector=dagger-pipeline/kind=value"

    await target.fetch(hand_over)
    both = await target.kubectl.call("look", "get", "secrets", where, "--output=name")
    await target.start(hand_over, 1)
    await _see_ready(target, hand_over, new)
    await target.shift(hand_over, 100)
    await target.drain(hand_over, 1)
    pruned = await target.prune(hand_over, frozenset({new.id}))
    left = await target.kubectl.call("look", "get", "secrets", where, "--output=name")

    names = {f"secret/staging-db-password-{version['DB_PASSWORD']}" for version in (one, two)}
    assert (set(both.decode().split()), pruned) == (names, (old.id,))
    assert left.decode().split() == [f"secret/staging-db-password-{two['DB_PASSWORD']}"]


async def test_what_belongs_to_somebody_else_is_left_alone(cluster: Cluster) -> None:
    """A Service of that name that is not ours is refused before anything is changed."""
    cluster.kubectl("create", "service", "clusterip", "api", "--tcp=80:80")
    target = KubernetesTarget(environment=_environment(cluster))

    with pytest.raises(TargetUnfit, match="cannot take Service `api`: it belongs to somebody else"):
        await target.check(_deployment(target.environment, _release(1)))


async def test_the_server_is_asked_before_anything_is_changed(cluster: Cluster) -> None:
    """What it would refuse is refused by the check, in its own words."""
    target = KubernetesTarget(environment=_environment(cluster))
    wrong = _release(1, api=replace(API, env={"not a=name": "1"}, volumes={"/data": "Not_A_Name"}))

    with pytest.raises(TargetUnfit, match=r"cannot use the release here: .*Not_A_Name"):
        await target.check(_deployment(target.environment, wrong))

    assert await target.live() == Live()


async def test_a_namespace_that_is_not_there_is_said(cluster: Cluster) -> None:
    """With the command that makes it."""
    target = KubernetesTarget(environment=replace(_environment(cluster), namespace="nowhere"))

    with pytest.raises(TargetUnfit, match="namespace `nowhere`: there is none in the cluster") as caught:
        await target.check(_deployment(target.environment, _release(1)))

    assert caught.value.hint == "make it with `kubectl create namespace nowhere`"
