"""Waits until the instances of a release are ready, by the rules of each service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from pipeline.config.delivery import ReadySettings
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.deploy.release import Release
    from pipeline.deploy.target import Deployment, Probe, Target


class NotReady(PipelineError):
    """Instances did not become ready in time, or say that they run something else."""

    def __init__(self, release: str, what: str) -> None:
        super().__init__(f"cannot use release `{release}`: {what}")


@dataclass(kw_only=True)
class Patience:
    """Follows one instance from probe to probe; times are seconds of one clock that never jumps."""

    rules: ReadySettings
    since: float
    healthy_for_s: float
    good: int = 0  # probes that passed in a row
    first_good: float = 0.0
    restarts: int | None = None
    last: str = "it was not looked at yet"
    wrong: str = field(default="")

    def see(self, probe: Probe, now: float, expected: frozenset[str]) -> None:
        """Take in one probe."""
        self.last = probe.said
        restarted = self.restarts is not None and probe.restarts > self.restarts
        self.restarts = probe.restarts
        if not probe.passed or restarted:
            self.good = 0
            self.last = f"it has restarted {probe.restarts} times" if restarted else probe.said
            return
        if self.rules.version is not None and probe.version not in expected:
            self.wrong = f"it says that it runs `{probe.version}`, not `{min(expected)}`"
            return
        self.first_good = now if self.good == 0 else self.first_good
        self.good += 1

    def is_ready(self, now: float) -> bool:
        return self.good >= self.rules.passes and now - self.first_good >= self.healthy_for_s

    def is_late(self, now: float) -> bool:
        """Whether it is too late: what got healthy before the deadline has the time it must stay so."""
        healthy_since = self.first_good if self.good else now
        return healthy_since - self.since > self.rules.deadline_s


async def wait_until_ready(
    target: Target, deployment: Deployment, release: Release, *, at_most_s: float = float("inf")
) -> tuple[Probe, ...]:
    """Probe until every instance is ready, and return the last look.

    Args:
        at_most_s: How long they are asked to stay healthy where they have run before.

    Raises:
        NotReady: An instance is late, keeps restarting, or runs something else than asked for.
    """
    began = anyio.current_time()
    seen: dict[str, Patience] = {}
    while True:
        probes = await target.probe(deployment, release)
        now = anyio.current_time()
        for probe in probes:
            rules = _rules_of(release, probe.service)
            new = Patience(rules=rules, since=began, healthy_for_s=min(rules.healthy_for_s, at_most_s))
            one = seen.setdefault(f"{probe.service}/{probe.instance}", new)
            one.see(probe, now, _names_of(release, probe.service))
        problem = _problem(seen, now) or ("" if probes else _nothing(release, began, now))
        if problem:
            raise NotReady(release.id, problem)
        if probes and all(seen[f"{probe.service}/{probe.instance}"].is_ready(now) for probe in probes):
            return probes
        await anyio.sleep(_shortest(release))


def _problem(seen: dict[str, Patience], now: float) -> str:
    for name, one in seen.items():
        if one.wrong:
            return f"`{name}`: {one.wrong}"
        if one.is_late(now):
            return f"`{name}` is not ready after {one.rules.deadline_s:g} s: {one.last}"
    return ""


def _nothing(release: Release, began: float, now: float) -> str:
    limit = max(_rules_of(release, name).deadline_s for name in release.services)
    return f"none of its instances is there after {limit:g} s" if now - began > limit else ""


def _rules_of(release: Release, service: str) -> ReadySettings:
    return release.services[service].settings.health or ReadySettings()


def _names_of(release: Release, service: str) -> frozenset[str]:
    """What an instance may call what it runs."""
    return frozenset(
        {release.services[service].image_digest, release.version, release.commit, release.id} - {""}
    )


def _shortest(release: Release) -> float:
    return min(_rules_of(release, name).interval_s for name in release.services)
