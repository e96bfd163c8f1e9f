"""What every target promises, whichever it is: each step can be done twice, and looks at the world first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pipeline.config.delivery import Environment
from pipeline.deploy.health import wait_until_ready
from pipeline.deploy.target import Deployment, Drained, Fenced, Live
from tests.deploy.docker import product as docker
from tests.deploy.docker.conftest import bed, host, images  # noqa: F401 - likewise
from tests.deploy.local.conftest import archive, store  # noqa: F401 - fixtures of the real target
from tests.deploy.local.product import WEB, again, end_all, local_target, release_of
from tests.unit.deploy.doubles import release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Target
    from tests.deploy.docker.bed import Bed

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of target: `connect` comes to the environment as another deployer does."""

    connect: Callable[[], Target]
    environment: Environment
    old: Release
    new: Release

    @property
    def first(self) -> Deployment:
        """The deployment of the old release, when there was none."""
        return Deployment(id="d-1", environment=self.environment, new=self.old, old=None, fence=1)

    @property
    def second(self) -> Deployment:
        """The deployment of the new release over the old one."""
        return Deployment(id="d-2", environment=self.environment, new=self.new, old=self.old, fence=2)

    async def twice(self, do: Callable[[Target], Awaitable[Any]]) -> Any:
        """Do something, and again as another deployer; return what came of it the second time."""
        await do(self.connect())
        return await do(self.connect())

    async def has_old(self) -> None:
        """Bring the old release to the environment."""
        target = self.connect()
        await target.fetch(self.first)
        await target.start(self.first, 1)
        await wait_until_ready(target, self.first, self.old)
        await target.shift(self.first, 100)


def docker_case(hosts: Bed, built: Mapping[str, str], folder: Path, address: str) -> Case:
    """Two releases on a Docker host."""
    environment = docker.environment(hosts.host(1), built, address, folder)
    old, new = (docker.release_of(built, number) for number in (1, 2))
    return Case(
        connect=lambda: docker.target(hosts, environment, folder), environment=environment, old=old, new=new
    )


REAL = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(
    params=["fake", *(pytest.param(kind, marks=REAL) for kind in ("local", "docker", "docker over ssh"))]
)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    if request.param == "fake":
        environment = Environment(name="staging")
        old, new = release(1), release(2)
        yield Case(connect=lambda: FakeTarget(tmp_path), environment=environment, old=old, new=new)
        return
    if request.param.startswith("docker"):
        one = request.getfixturevalue("host")
        address = one.ssh if request.param.endswith("ssh") else one.unix
        hosts, built = request.getfixturevalue("bed"), request.getfixturevalue("images")
        yield docker_case(hosts, built, tmp_path, address)
        return
    image, place = request.getfixturevalue("archive"), request.getfixturevalue("store")
    monkeypatch.setenv("PIPELINE_STORE", str(place))
    monkeypatch.setenv("PIPELINE_IMAGE_FALLBACK", "recipe")
    target = local_target(tmp_path, image)
    old, new = (
        release_of(image, {"web": replace(WEB, env={"SAYS": says})}, version)
        for says, version in (("old", "1.0.1"), ("new", "1.0.2"))
    )
    yield Case(connect=lambda: again(target), environment=target.environment, old=old, new=new)
    anyio.run(end_all, target)


async def test_a_release_is_brought_handed_over_to_and_given_up_again(case: Case) -> None:
    """At each step, done twice by different deployers, the target tells what runs and who has the traffic."""
    old, new, deployment = case.old.id, case.new.id, case.second
    await case.has_old()
    before = await case.connect().live()
    await case.twice(lambda target: target.fetch(deployment))
    fetched = await case.connect().live()
    await case.twice(lambda target: target.start(deployment, 1))
    probes = await wait_until_ready(case.connect(), deployment, case.new)
    started = await case.connect().live()
    await case.twice(lambda target: target.shift(deployment, 25))
    shared = await case.connect().live()
    await case.twice(lambda target: target.shift(deployment, 100))
    drained = await case.twice(lambda target: target.drain(deployment, 1))
    handed_over = await case.connect().live()
    await case.twice(lambda target: target.restore(deployment, 1))
    await wait_until_ready(case.connect(), deployment, case.old)
    await case.twice(lambda target: target.shift(deployment, 0))
    evidence = await case.connect().evidence(deployment)
    await case.twice(lambda target: target.remove(deployment, 1))
    given_up = await case.connect().live()

    both = frozenset({old, new})
    assert before == Live(shares={old: 100}, running=frozenset({old}), here=frozenset({old}))
    assert fetched == replace(before, here=both)
    assert {probe.passed for probe in probes} == {True}
    assert started == replace(fetched, running=both)
    assert shared == replace(started, shares={new: 25, old: 75})
    assert drained == Drained()
    assert handed_over == Live(shares={new: 100}, running=frozenset({new}), here=both)
    assert evidence
    assert (given_up.shares, given_up.running) == ({old: 100}, frozenset({old}))
    assert old in given_up.here


async def test_a_deployer_that_was_cut_off_changes_nothing(case: Case) -> None:
    """Once a later one has been here, all that would change something refuse."""
    await case.has_old()
    target, late = case.connect(), replace(case.second, fence=1)
    await target.fetch(case.second)
    before = await target.live()

    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: target.fetch(late),
        lambda: target.start(late, 1),
        lambda: target.shift(late, 100),
        lambda: target.drain(late, 1),
        lambda: target.restore(late, 1),
        lambda: target.remove(late, 1),
        lambda: target.prune(late, frozenset()),
    ]
    for call in calls:
        with pytest.raises(Fenced, match="our lock has number 1, by now there is 2"):
            await call()

    assert await target.live() == before


async def test_commands_run_and_only_what_nobody_needs_is_pruned(case: Case) -> None:
    """A command runs in a container of the new release; what runs stays, whatever is asked to be kept."""
    await case.has_old()
    target, service = case.connect(), next(iter(case.new.services))
    await target.fetch(case.second)

    said = await target.run(case.second, service, ["echo", "moved"], 60)
    await target.prune(case.second, frozenset({case.new.id}))
    kept = await target.live()

    assert "moved" in said
    assert kept == Live(
        shares={case.old.id: 100},
        running=frozenset({case.old.id}),
        here=frozenset({case.old.id, case.new.id}),
    )
