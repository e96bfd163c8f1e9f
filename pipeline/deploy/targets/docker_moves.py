"""Moves traffic on one Docker host: who gets how much, and how instances leave."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.smoke import public_service
from pipeline.deploy.target import Drained, TargetFailed
from pipeline.deploy.targets.docker_plan import most_replicas, part_of, stop_command
from pipeline.deploy.targets.docker_proxy import (
    Server,
    ask_command,
    check_told,
    config_text,
    copy_config,
    plan_weights,
    tell_lines,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Deployment
    from pipeline.deploy.targets.docker_host import Container, DockerHost, View
    from pipeline.deploy.targets.docker_proxy import Counted

POLL_S: Final = 0.2
FIND_LIMIT_S: Final = 15.0
KILLED: Final = 137


def plan_shares(deployment: Deployment, view: View, host: int, hosts: int, share: float) -> dict[str, float]:
    """Return by release what one host sends where, for `share` percent of all to the new release.

    When rolling, a host sends to the new release as much as it has of the instances that are due by then.
    What does not run gets nothing: where the other does, that gets it all.
    """
    new, old = deployment.new.id, deployment.old.id if deployment.old is not None else ""
    is_old_up = old in view.running() and old != new
    if new not in view.running():
        return {old: 100.0} if is_old_up else {}
    if not is_old_up:
        return {new: 100.0} if share or old else {}
    own = share if deployment.parts == 1 else _due_share(deployment, host, hosts, share)
    return {name: part for name, part in ((new, own), (old, 100.0 - own)) if part > 0}


def servers_of(view: View, shares: Mapping[str, float], without: Collection[str] = ()) -> tuple[Server, ...]:
    """Return the servers of all instances up that take requests, each with its weight."""
    up = [one for one in view.containers if one.is_up and one.port and one.server not in without]
    by_slot: dict[str, list[str]] = {}
    slots: dict[str, float] = {}
    for one in up:
        by_slot.setdefault(one.slot, []).append(one.server)
        slots[one.slot] = shares.get(one.release, 0.0)
    weights = plan_weights(slots, by_slot)
    return tuple(
        Server(name=one.server, port=one.port, weight=weights.get(one.server, 0), address=one.address)
        for one in up
    )


async def move(
    host: DockerHost,
    fence: int,
    view: View,
    shares: Mapping[str, float],
    *,
    without: Collection[str] = (),
) -> dict[str, Counted]:
    """Share requests out anew, and write down how; return what each server had answered before.

    Raises:
        TargetFailed: Instances take requests, and there is no proxy, or it refuses.
    """
    script = host.say_traffic(dict(shares))
    servers = servers_of(view, shares, without)
    if view.proxy is None or not view.proxy.is_up:
        if servers:
            raise TargetFailed(f"cannot shift traffic on host `{host.name}`: its proxy does not run")
        await host.act(fence, script, "shift traffic")
        return {}
    counted = await host.count(view)
    busy = [name for name, one in counted.items() if one.in_flight]
    script += copy_config(host.proxy_name, config_text(host.environment, servers))
    script += ask_command(view.proxy.address, tell_lines(servers, busy))
    check_told(await host.act(fence, script, "shift traffic"))
    await _until_taken(host, view, [one.name for one in servers if one.weight])
    return counted


async def leave(
    host: DockerHost, fence: int, view: View, due: Sequence[Container], release: Release
) -> Drained:
    """Let instances finish what they are at, within the time of their services, and stop them."""
    gone = {one.server for one in due if one.port}
    cut_off = 0
    if gone:
        await move(host, fence, view, view.shares, without=gone)
        drains = [release.services[one.service].settings.drain.timeout_s for one in due if one.port]
        cut_off = await until_idle(host, view, gone, max(drains))
    stops = {one.name: release.services[one.service].settings.drain.stop_timeout_s for one in due}
    script = "".join(
        stop_command([name for name, each in stops.items() if each == limit], limit)
        for limit in sorted(set(stops.values()))
    )
    limit_s = 60 + sum(set(stops.values()))
    await host.act(fence, script, "stop the old release", timeout_s=limit_s)
    if gone:
        await move(host, fence, await host.look(), view.shares)
    said = await host.do(f"docker inspect {shlex.join(stops)}", "look at what was stopped")
    killed = [one for one in json.loads(said) if one["State"]["ExitCode"] == KILLED]
    return Drained(cut_off=cut_off, killed=len(killed))


async def until_idle(host: DockerHost, view: View, servers: Collection[str], limit_s: float) -> int:
    """Wait until servers have nothing in flight, and return how many requests they had when time was over."""
    until = anyio.current_time() + limit_s
    while True:
        counted = await host.count(view)
        in_flight = sum(one.in_flight for name, one in counted.items() if name in servers)
        if not in_flight or anyio.current_time() >= until:
            return in_flight
        await anyio.sleep(POLL_S)


async def _until_taken(host: DockerHost, view: View, servers: Sequence[str]) -> None:
    """Wait until the proxy sends requests to these servers: it must have found their names.

    Raises:
        TargetFailed: It does not find one.
    """
    until = anyio.current_time() + FIND_LIMIT_S
    while True:
        counted = await host.count(view)
        lost = [name for name in servers if not counted[name].takes]
        if not lost:
            return
        if anyio.current_time() >= until:
            what = f"its proxy does not find the instance of server `{lost[0]}`"
            raise TargetFailed(f"cannot shift traffic on host `{host.name}`: {what}")
        await anyio.sleep(POLL_S)


def _due_share(deployment: Deployment, host: int, hosts: int, share: float) -> float:
    """The percentage of a host's new instances that belong to the parts that `share` percent are."""
    reached = round(share / 100 * deployment.parts)
    new = deployment.new
    name = public_service(new)
    count = new.services[name].settings.replicas if name else most_replicas(new)
    parts = [
        part_of(host, number, hosts=hosts, most=most_replicas(new), parts=deployment.parts)
        for number in range(1, count + 1)
    ]
    return 100.0 * sum(part <= reached for part in parts) / len(parts)
