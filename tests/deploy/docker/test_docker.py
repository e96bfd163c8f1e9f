"""The Docker target on real daemons: whole deployments, hosts that fail, and what people are told then."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pipeline.deploy.execute import Request
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.secrets import keep_secrets
from pipeline.deploy.shell import HostGone
from pipeline.deploy.target import Deployment, TargetFailed, TargetUnfit
from tests.deploy.docker.bed import connects, stop, wait_for
from tests.deploy.docker.product import WEB, deployer_to, environment, release_of, target

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.deploy.release import Release
    from pipeline.deploy.targets.docker import DockerTarget
    from tests.deploy.docker.bed import Bed, BedHost

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]


class Load:
    """Asks again and again, with connections that stay and without; counts answers and what broke."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.said: Counter[str] = Counter()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n % 2 == 0,)) for n in range(4)]

    def __enter__(self) -> Load:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for one in self._threads:
            one.join()

    def _ask(self, stays: bool) -> None:
        headers = {} if stays else {"Connection": "close"}
        with httpx.Client(timeout=20, headers=headers, trust_env=False) as client:
            while not self._end.is_set():
                try:
                    answer = client.get(self.url)
                    self.said[answer.text.strip() if answer.status_code == 200 else "broken"] += 1
                except httpx.HTTPError:
                    self.said["broken"] += 1


async def test_releases_are_handed_over_and_gone_back_to_without_a_broken_request(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """The first release comes, the next one under load, and the first again."""
    place = environment(host, images, host.unix, tmp_path)
    one = target(bed, place, tmp_path)
    first, second = release_of(images, 1), release_of(images, 2)

    outcomes = [(await deployer_to(one).deploy(Request(release=first))).outcome]
    with Load(str(place.address)) as load:
        for release in (second, first):
            outcomes.append((await deployer_to(one).deploy(Request(release=release))).outcome)
    live = await one.live()

    assert outcomes == [Outcome.SUCCEEDED] * 3
    assert (live.release, live.running) == (first.id, frozenset({first.id}))
    assert set(load.said) == {"1.0.1", "1.0.2"}


async def test_a_restarted_proxy_goes_on_where_it_was(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """Weights are told at run time, and outlive the proxy."""
    place = environment(host, images, host.unix, tmp_path)
    one = target(bed, place, tmp_path)
    await deployer_to(one).deploy(Request(release=release_of(images, 1)))
    await deployer_to(one).deploy(Request(release=release_of(images, 2)))

    host.docker("restart", "-t", "1", "staging-proxy")

    assert _first_answer(str(place.address)) == "1.0.2"


async def test_an_instance_that_is_slow_to_answer_is_waited_for(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """A request in flight ends before its instance does."""
    place = environment(host, images, host.unix, tmp_path)
    one = target(bed, place, tmp_path)
    old, new = release_of(images, 1), release_of(images, 2)
    await deployer_to(one).deploy(Request(release=old))
    deployment = Deployment(id="d-1", environment=place, new=new, old=old, fence=9)
    answers: list[str] = []

    def ask() -> None:
        answers.append(_get(f"{place.address}/cgi-bin/slow"))

    await one.fetch(deployment)
    await one.start(deployment, 1)
    thread = threading.Thread(target=ask)
    thread.start()
    while not any(each.in_flight for each in (await one.hosts[0].count(await one.hosts[0].look())).values()):
        pass
    await one.shift(deployment, 100)
    drained = await one.drain(deployment, 1)
    thread.join()

    assert (answers, drained.cut_off, drained.killed) == (["slow\n"], 0, 0)


async def test_all_hosts_go_back_when_one_of_them_fails(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """The second of three cannot start the release: it is named, and all three answer as before."""
    hosts = [bed.host(number) for number in (1, 2, 3)]
    addresses = [each.unix for each in hosts]
    place = replace(environment(host, images, host.unix, tmp_path, *addresses[1:]), address=WIDE)
    one = target(bed, place, tmp_path)
    old, new = release_of(images, 1), release_of(images, 2)
    await deployer_to(one).deploy(Request(release=old))
    name = f"staging-web-{new.id}-1-1"
    hosts[1].docker("create", "--name", name, images["1"], "true")  # somebody else has the name

    result = await deployer_to(one).deploy(Request(release=new))
    answers = [_first_answer(f"http://{each.address}:8088") for each in hosts]
    for each in hosts[1:]:
        each.clear()

    assert result.outcome is Outcome.ROLLED_BACK
    assert f"cannot start the release on host `{hosts[1].folder}/docker.sock`: Conflict" in result.reason
    assert answers == ["1.0.1"] * 3


async def test_secrets_reach_the_instance_and_nothing_else(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """Neither evidence nor any list of arguments has a value, whatever signs it is made of."""
    place = environment(host, images, host.ssh, tmp_path)
    one = target(bed, place, tmp_path)
    value = 'it\'s $HOME "quoted"\nand long'
    versions = await keep_secrets(one.state, {"KEY": value})
    new = release_of(images, 1, replace(WEB, secrets=("KEY",)), versions)
    deployment = Deployment(id="d-1", environment=place, new=new, old=None, fence=1)
    await one.fetch(deployment)

    await one.start(deployment, 1)
    evidence = await one.evidence(deployment)
    url = (await one.preview(deployment))["web"]
    answer = _get(f"{url}/cgi-bin/env")
    created = host.docker("inspect", "-f", "{{.Args}} {{.Config.Labels}}", f"staging-web-{new.id}-1-1")
    await one.close()

    assert f"KEY={value}\n" in answer
    assert sorted(evidence) == [
        f"{host.address}:22.staging-web-{new.id}-1-1.{kind}" for kind in ("json", "log")
    ]
    assert [name for name, data in evidence.items() if b"quoted" in data] == []
    assert "quoted" not in created


async def test_pruning_leaves_other_environments_alone(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """What another environment on the same host could go back to stays, and so does its image."""
    here = target(bed, environment(host, images, host.unix, tmp_path), tmp_path)
    other_place = replace(here.environment, name="production", address=f"http://{host.address}:8089")
    there = target(bed, other_place, tmp_path / "other")
    first, second = release_of(images, 1), release_of(images, 2)
    for one in (here, there):
        for release in (first, second):
            await _put(one, release)

    gone = await here.prune(_deployment(here, second, 3), frozenset({second.id}))

    assert gone == (first.id,)
    assert (await here.live()).here == frozenset({second.id})
    assert (await there.live()).here == frozenset({first.id, second.id})


async def test_each_failure_is_one_clear_sentence(
    bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path
) -> None:
    """A taken port, an image that nobody has or that was removed, a daemon that is gone, a cut connection."""
    place = environment(host, images, host.ssh, tmp_path)
    one = target(bed, place, tmp_path)
    gone = images["1"].partition("@")[0] + "@sha256:" + "0" * 64
    nowhere = release_of({"1": gone}, 1)
    said = []

    await one.fetch(_deployment(one, release_of(images, 1), 1))
    listener = host.spawn("listener", sys.executable, "-m", "http.server", "8088")
    try:
        wait_for(lambda: connects(host.address, 8088), "the listener")
        said.append(await _sentence(one.start(_deployment(one, release_of(images, 1), 1), 1)))
    finally:
        stop(listener)
    said.append(await _sentence(one.fetch(_deployment(one, nowhere, 1))))
    said.append(await _sentence(one.start(_deployment(one, nowhere, 1), 1)))
    host.stop_daemon()
    said.append(await _sentence(one.check(_deployment(one, release_of(images, 1), 1))))
    host.start_daemon()
    host.stop_sshd()
    said.append(await _sentence(one.live()))
    host.start_sshd()
    await one.close()

    where = f"on host `{host.address}:22`"
    assert said[:4] == [
        f"TargetFailed: cannot start the release {where}: the port is taken by something else",
        f"TargetFailed: cannot fetch images {where}: the registry does not have the image",
        f"TargetFailed: cannot start the release {where}: image `{gone}` is not there any more",
        f"TargetUnfit: cannot look {where}: its Docker daemon does not answer",
    ]
    assert said[4].startswith(f"HostGone: cannot reach host `{host.address}:22`: ")
    assert "Connection refused" in said[4]


async def test_a_full_disk_is_told(bed: Bed, images: dict[str, str], host: BedHost, tmp_path: Path) -> None:
    """Before anything is changed, and in one sentence."""
    place = environment(host, images, host.unix, tmp_path)
    one = target(bed, place, tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        full = target(bed, place, small)
        fill = f"head -c 4000000 /dev/zero >{small}/rest 2>/dev/null || true\n"
        await full.hosts[0].do(fill, "fill")
        said = await _sentence(full.fetch(_deployment(one, release_of(images, 1), 1)))
    finally:
        subprocess.run(["umount", str(small)], check=True)

    assert said == f"TargetFailed: cannot fetch images on host `{host.folder}/docker.sock`: its disk is full"


WIDE = "http://product.invalid:8088"


def _deployment(one: DockerTarget, new: Release, fence: int) -> Deployment:
    return Deployment(id="d-000001", environment=one.environment, new=new, old=None, fence=fence)


async def _put(one: DockerTarget, release: Release) -> None:
    """Start a release beside what runs, give it the traffic and stop what ran."""
    live = (await one.live()).release
    old = release_of({"1": release.services["web"].image}, 1) if live else None
    deployment = _deployment(one, release, 1 if old is None else 2)
    await one.fetch(deployment)
    await one.start(deployment, 1)
    await one.shift(deployment, 100)
    view = await one.hosts[0].look()
    others = [each.name for each in view.containers if each.release != release.id and each.is_up]
    if others:
        await one.hosts[0].act(deployment.fence, f"docker stop -t 1 {' '.join(others)}", "stop the old one")


async def _sentence(call: Any) -> str:
    """Return how a call fails."""
    with pytest.raises((TargetFailed, TargetUnfit, HostGone)) as raised:
        await call
    return f"{type(raised.value).__name__}: {raised.value}"


def _get(url: str) -> str:
    return httpx.get(url, timeout=30, trust_env=False).text


def _first_answer(url: str) -> str:
    """Ask until there is an answer of the product's."""
    for _ in range(100):
        try:
            answer = httpx.get(url, timeout=5, trust_env=False)
        except httpx.HTTPError:
            continue
        if answer.status_code == 200:
            return answer.text.strip()
    return ""
