"""Looks at environments: what runs there, who is at work, what waits; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.deploy.execute import CURRENT, Current
from pipeline.deploy.history import load_release, read_history
from pipeline.deploy.journal import is_held, is_open, read_journal
from pipeline.deploy.lease import Holder, Lock
from pipeline.deploy.outcome import Outcome
from pipeline.deploy.records import read_record
from pipeline.deploy.target import Deployment
from pipeline.errors import PipelineError
from pipeline.stages.delivery import address_of
from pipeline.stages.releases import services_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.config.delivery import Environment
    from pipeline.deploy.history import Entry
    from pipeline.deploy.lease import Lease
    from pipeline.deploy.release import Release
    from pipeline.deploy.state import State
    from pipeline.deploy.target import Probe, Target
    from pipeline.stages.delivery import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A deployment that has not come to its end; `waits` for somebody's word, or its deployer was cut off."""

    deployment: str
    step: str
    waits: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an environment stands. `problem` says why it could not be looked at; the rest is empty then.

    `shares` maps release ids to percent of the traffic; `drift` is what differs from what was deployed.
    """

    environment: Environment
    address: str = ""  # where people reach it
    release: Release | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    entry: Entry | None = None  # the deployment that brought what runs
    lease: Lease | None = None  # of somebody who is at work
    open: Open | None = None
    probes: tuple[Probe, ...] = ()
    drift: tuple[str, ...] = ()
    problem: str = ""

    @property
    def healthy(self) -> bool | None:
        """Whether every instance passed its probe just now; None when there was none to look at."""
        return all(one.passed for one in self.probes) if self.probes else None


async def find_open(state: State) -> Open | None:
    """Return the deployment that is open; None when there is none."""
    data, _ = await state.read(CURRENT)
    name = read_record(data, Current, CURRENT).deployment if data else ""
    lines = await read_journal(state, name) if name else ()
    if not is_open(lines):
        return None
    place = max((line.step for line in lines), default=-1)
    steps = lines[0].detail.get("steps", ())
    step = str(steps[place]["id"]) if 0 <= place < len(steps) else ""
    return Open(
        deployment=name, step=step, waits=is_held(lines), reason=str(lines[-1].detail.get("reason", ""))
    )


async def look_at(delivery: Delivery, environment: Environment) -> Standing:
    """Look at what runs in an environment; where that cannot be done the answer says why."""
    try:
        async with delivery.opened(environment) as target:
            return await _look(environment, target)
    except PipelineError as error:
        return Standing(environment=environment, problem=str(error))


async def _look(environment: Environment, target: Target) -> Standing:
    live = await target.live()
    history = await read_history(target.state)
    lease = await _lease(environment, target)
    release = await load_release(target.state, live.release) if live.release else None
    came = [one for one in history if one.outcome is Outcome.SUCCEEDED and one.new == live.release]
    probes: tuple[Probe, ...] = ()
    if release is not None:
        looking = Deployment(id="", environment=environment, new=release, old=release, fence=lease.fence)
        probes = await target.probe(looking, release)
    open_one = await find_open(target.state)
    return Standing(
        environment=environment,
        address=address_of(environment, target),
        release=release,
        shares=dict(live.shares),
        running=tuple(sorted(live.running)),
        entry=came[-1] if came else None,
        lease=lease if lease.holder is not None else None,
        open=open_one,
        probes=probes,
        drift=() if open_one is not None else find_drift(history, live.shares, release, environment),
    )


async def _lease(environment: Environment, target: Target) -> Lease:
    holder = Holder.of_this_process("", "")
    lock = Lock(
        state=target.state, environment=environment.name, holder=holder, ttl_s=environment.deploy.lock_ttl_s
    )
    return await lock.look()


def find_drift(
    history: tuple[Entry, ...], shares: Mapping[str, float], release: Release | None, environment: Environment
) -> tuple[str, ...]:
    """Say how what runs, and what the settings say, differ from what was deployed last."""
    good = [one for one in history if one.outcome is Outcome.SUCCEEDED]
    wanted = good[-1].new if good else ""
    found: list[str] = []
    if wanted and (release is None or release.id != wanted):
        runs = ", ".join(f"`{name}` {share:g} %" for name, share in shares.items()) or "nothing"
        found.append(f"`{wanted}` was deployed last, {runs} runs")
    if release is None:
        return tuple(found)
    settings = services_of(environment)
    for name in sorted({*settings, *release.services}):
        if name not in release.services:
            found.append(f"service `{name}` is in the settings, and was not deployed")
        elif name not in settings:
            found.append(f"service `{name}` runs, and is not in the settings any more")
        elif settings[name] != release.services[name].settings:
            found.append(f"the settings of service `{name}` have changed since it was deployed")
    return tuple(found)
