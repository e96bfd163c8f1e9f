"""Releases on this machine, with the engine, HAProxy, and clients that never retry."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from pipeline.config.delivery import DeployedService, DrainSettings
from pipeline.config.values import Count, Port, Seconds
from pipeline.deploy.execute import Request
from pipeline.deploy.outcome import Outcome, Told
from pipeline.deploy.secrets import keep_secrets
from pipeline.deploy.target import Live
from pipeline.deploy.watch import Watch
from tests.deploy.local.product import HEALTH, WEB, again, release_of
from tests.unit.deploy.doubles import deployer

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.deploy.execute import Deployer
    from pipeline.deploy.outcome import Result
    from pipeline.deploy.release import Release
    from pipeline.deploy.targets.local import LocalTarget

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]


def deployer_to(target: LocalTarget, *, told: list[Told] | None = None, **settings: object) -> Deployer:
    """Who deploys there: it finds every release well, or watches it if `watch` is set."""
    judge = Watch(every_s=0.3) if settings.pop("watch", False) else None
    return deployer(target, judge=judge, told=told, **settings)  # type: ignore[arg-type]


async def deploy(target: LocalTarget, new: Release, **settings: object) -> Result:
    """Deploy as a deployer of its own, as another command would."""
    return await deployer_to(again(target), **settings).deploy(Request(release=new))  # type: ignore[arg-type]


async def get(target: LocalTarget, path: str = "/") -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(target.address + path)
        return answer.status_code, answer.text


async def test_nobody_notices_that_releases_are_handed_over(target: LocalTarget, archive: Path) -> None:
    """By each strategy, with clients that keep their connections and with others, no request breaks."""
    web = replace(WEB, replicas=Count(2))
    releases = [release_of(archive, {"web": replace(web, env={"SAYS": str(n)})}) for n in range(2)]
    await deploy(target, releases[0])
    loads = [
        await asyncio.create_subprocess_exec(
            *["wrk", "-t1", "-c16", "-d1h", "--timeout", "10s", *header, target.address],
            stdout=asyncio.subprocess.PIPE,
        )
        for header in ([], ["-H", "Connection: close"])
    ]

    strategies = ("blue_green", "canary", "rolling")
    try:
        results = [
            await deploy(target, releases[n % 2], strategy=strategy)
            for n, strategy in enumerate(strategies, 1)
        ]
    finally:
        for load in loads:
            load.send_signal(signal.SIGINT)
    said = [(await load.communicate())[0].decode() for load in loads]

    assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 3
    for text in said:
        assert int(re.findall(r"(\d+) requests in", text)[0]) > 100
        assert "errors" not in text, text
        assert "Non-2xx" not in text, text


async def test_a_bad_release_is_gone_seconds_after_it_was_found_out(
    target: LocalTarget, archive: Path
) -> None:
    """Its errors are counted at the proxy; the old release has all the traffic within five seconds."""
    good = release_of(archive, {"web": replace(WEB, env={"SAYS": "good"})})
    bad = release_of(archive, {"web": replace(WEB, env={"FAILS": "30"})})
    await deploy(target, good)
    told: list[Told] = []
    answers: list[tuple[float, int]] = []

    async def visit() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                answer = await client.get(target.address)
                answers.append((time.time(), answer.status_code))

    def tell(one: Told) -> None:
        told.append(one)
        if one.what == "failed":
            found_out.append(time.time())

    found_out: list[float] = []
    visiting = [asyncio.ensure_future(visit()) for _ in range(4)]
    try:
        subject = deployer_to(again(target), watch=True, bake_s=Seconds(60.0))
        subject.helpers = replace(subject.helpers, tell=tell)
        result = await subject.deploy(Request(release=bad))
        await asyncio.sleep(0.5)
    finally:
        for task in visiting:
            task.cancel()
        await asyncio.gather(*visiting, return_exceptions=True)

    last_bad = max(at for at, code in answers if code != 200)
    assert (result.outcome, result.release) == (Outcome.ROLLED_BACK, good.id), result
    assert last_bad - found_out[0] < 5
    assert {code for _, code in answers} == {200, 500}
    assert await target.live() == Live(
        shares={good.id: 100.0}, running=frozenset({good.id}), here=frozenset({good.id, bad.id})
    )


async def test_what_ends_by_itself_starts_again_and_what_was_killed_is_seen_as_gone(
    target: LocalTarget, archive: Path
) -> None:
    """An instance is started again where it is; a dead holder or proxy makes the environment empty, and the
    same release brings it back.
    """
    release = release_of(archive, {"web": replace(WEB, env={"SAYS": "here"})})
    await deploy(target, release)
    unit = target.place.unit(release.id)
    before = (await unit.status())[0]

    os.kill(before.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while (seen := (await unit.status())[0]).restarts == 0 or not seen.up:
            await asyncio.sleep(0.1)
        while (answered := await get(target)) != (200, "here"):
            await asyncio.sleep(0.1)
    for pid in holders_of(target):
        os.kill(pid, signal.SIGKILL)
    target.place.proxy.stop()
    async with asyncio.timeout(30):
        while unit.is_up():
            await asyncio.sleep(0.05)
    gone = await target.live()
    result = await deploy(target, release)

    assert answered == (200, "here")
    assert gone == Live(here=frozenset({release.id}))
    assert (result.outcome, await get(target)) == (Outcome.SUCCEEDED, (200, "here"))


def holders_of(target: LocalTarget) -> list[int]:
    """The processes that hold the environment's units."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    argv = file.read().split(b"\0")
            except OSError:
                continue
            folder = os.fsencode(target.state.folder / "units")
            if b"pipeline.cli.holder" in argv and any(one.startswith(folder) for one in argv):
                found.append(int(name))
    return found


async def test_services_find_each_other_and_a_store_outlives_releases(
    target: LocalTarget, archive: Path
) -> None:
    """A service reaches those it needs by name; an exclusive one that stays the same is never restarted, and
    its volume is there for the next one; secrets reach their service.
    """
    versions = await keep_secrets(target.state, {"TOKEN": "swordfish"})
    store = DeployedService(
        port=Port(8000),
        public=False,
        health=HEALTH,
        exclusive=True,
        env={"SAYS": "store"},
        volumes={"/kept": "visits"},
        drain=DrainSettings(stop_timeout_s=Seconds(5.0)),
    )
    api = DeployedService(port=Port(8000), public=False, health=HEALTH, needs=("store",))

    def product(says: str, of_store: DeployedService = store) -> Release:
        web = replace(WEB, public=True, needs=("api", "store"), secrets=("TOKEN",))
        services = {"web": web, "api": replace(api, env={"SAYS": says}), "store": of_store}
        made = release_of(archive, services)
        with_secret = replace(made.services["web"], secrets=versions)
        return replace(made, services={**made.services, "web": with_secret})

    results = [await deploy(target, product("first"))]
    first = [(await get(target, path))[1] for path in ("/ask/api", "/ask/store", "/secret")]
    pid = next(one.pid for one in await target.place.seen(product("first")) if one.service == "store")
    results.append(await deploy(target, product("second")))
    second = [(await get(target, path))[1] for path in ("/ask/api", "/ask/store", "/secret")]
    same = next(one.pid for one in await target.place.seen(product("second")) if one.service == "store")
    other = replace(store, env={"SAYS": "other"})
    results.append(await deploy(target, product("second", other)))
    third = [(await get(target, path))[1] for path in ("/ask/api", "/ask/store")]

    assert [result.outcome for result in results] == [Outcome.SUCCEEDED] * 3, results
    assert first == ["first", "store", "swordfish"]
    assert second == ["second", "store", "swordfish"]
    assert same == pid
    assert third == ["second", "other"]
