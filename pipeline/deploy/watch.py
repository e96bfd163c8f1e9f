"""Watches a release that takes traffic: counts what the target sees, asks its instances, and judges both.

What is bad is told at once; what is good, when the time is over or, in a canary's step, when it is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.canary import Limits, judge
from pipeline.deploy.outcome import Verdict
from pipeline.deploy.target import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pipeline.config.delivery import DeploySettings, ThresholdSettings
    from pipeline.deploy.outcome import Decision
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment, Probe, Target, Usage

EVERY_S: Final = 1.0
LOOKS: Final = 10
"""Among so many the chance of a false alarm is shared; looks beyond that see mostly the same requests."""
MOST_SAMPLES: Final = 2000
FAILED_PROBES: Final = 3
"""So many in a row of one instance are a breach."""


async def _ask_nothing(_deployment: Deployment, _seconds: float) -> Traffic:
    """Send no requests."""
    return Traffic(requests=0, errors=0)


@dataclass(kw_only=True)
class Watch:
    """Watches by an environment's settings.

    `visit` sends requests to the environment for so many seconds, and says how they were answered: that is
    what is judged where the target counts none itself.
    """

    every_s: float = EVERY_S
    visit: Callable[[Deployment, float], Awaitable[Traffic]] = _ask_nothing
    _own: Traffic = field(default_factory=lambda: Traffic(requests=0, errors=0), init=False)
    _failed: dict[str, int] = field(default_factory=dict, init=False)
    _restarts: dict[str, int] = field(default_factory=dict, init=False)
    _hot_since: dict[str, float] = field(default_factory=dict, init=False)

    async def watch(self, target: Target, deployment: Deployment, step: Step) -> Verdict:
        """Watch until it is bad, or good for long enough; what is still undecided then is inconclusive."""
        settings = deployment.environment.deploy
        is_last = step.share is None or step.share >= 100
        limit_s = settings.bake_s if is_last else settings.canary.step_time_s
        until = anyio.current_time() + limit_s
        self._failed, self._restarts, self._hot_since = {}, {}, {}
        self._own = Traffic(requests=0, errors=0)
        while True:
            began = anyio.current_time()
            self._own = _sum(self._own, await self.visit(deployment, self.every_s))
            verdict = await self._look(target, deployment, settings)
            if verdict.decision == "breach" or anyio.current_time() >= until:
                return verdict
            if verdict.decision == "pass" and not is_last:
                return verdict
            await anyio.sleep(max(began + self.every_s - anyio.current_time(), 0))

    async def _look(self, target: Target, deployment: Deployment, settings: DeploySettings) -> Verdict:
        probes = await target.probe(deployment, deployment.new)
        usage = await target.usage(deployment)
        counted = await target.traffic(deployment)
        found = [
            *self._judge_probes(probes),
            *self._judge_usage(usage, settings.thresholds),
            _judge_traffic(counted or {deployment.new.id: self._own}, deployment, settings),
        ]
        numbers = {"instances": len(probes), **found[-1].numbers}
        worst: Mapping[Decision, int] = {"breach": 0, "hold": 1, "inconclusive": 2, "pass": 3}
        one = min(found, key=lambda verdict: worst[verdict.decision])
        return Verdict(decision=one.decision, reason=one.reason, numbers={**numbers, **one.numbers})

    def _judge_probes(self, probes: Sequence[Probe]) -> list[Verdict]:
        """An instance that keeps failing its health check, or has restarted, is a breach."""
        found = []
        if not probes:
            found.append(Verdict(decision="breach", reason="none of its instances runs"))
        for probe in probes:
            name = f"{probe.service}/{probe.instance}"
            self._failed[name] = 0 if probe.passed else self._failed.get(name, 0) + 1
            if self._failed[name] >= FAILED_PROBES:
                found.append(Verdict(decision="breach", reason=f"`{name}` is not healthy: {probe.said}"))
            found += self._judge_restarts(name, probe.restarts)
        return found

    def _judge_restarts(self, name: str, restarts: int) -> list[Verdict]:
        before = self._restarts.setdefault(name, restarts)
        return [Verdict(decision="breach", reason=f"`{name}` has restarted")] if restarts > before else []

    def _judge_usage(self, usage: Sequence[Usage], limits: ThresholdSettings) -> list[Verdict]:
        """CPU above its limit for the whole window, or want of memory."""
        found = []
        now = anyio.current_time()
        for one in usage:
            name = f"{one.service}/{one.instance}"
            if one.out_of_memory:
                found.append(Verdict(decision="breach", reason=f"`{name}` ran out of memory"))
            found += self._judge_restarts(name, one.restarts)
            found += self._judge_cpu(name, one.cpu_percent, limits, now)
        return found

    def _judge_cpu(
        self, name: str, percent: float | None, limits: ThresholdSettings, now: float
    ) -> list[Verdict]:
        found = []
        kinds: tuple[tuple[float, Decision], ...] = (
            (limits.cpu_critical, "breach"),
            (limits.cpu_warning, "hold"),
        )
        for limit, decision in kinds:
            key = f"{name} {decision}"
            if percent is None or percent <= limit:
                self._hot_since.pop(key, None)
            elif now - self._hot_since.setdefault(key, now) >= limits.window_s:
                above = f"above {limit:g} % for {limits.window_s:g} s"
                reason = f"`{name}` uses {percent:.0f} % of its CPU, {above}"
                found.append(Verdict(decision=decision, reason=reason, numbers={"cpu_percent": percent}))
        return found


def _judge_traffic(
    counted: Mapping[str, Traffic], deployment: Deployment, settings: DeploySettings
) -> Verdict:
    limits = settings.thresholds
    return judge(
        counted.get(deployment.new.id, Traffic(requests=0, errors=0)),
        counted.get(deployment.old.id) if deployment.old is not None else None,
        Limits(
            errors_warning=limits.errors_warning / 100,
            errors_critical=limits.errors_critical / 100,
            response_warning_s=limits.response_warning_s,
            response_critical_s=limits.response_critical_s,
            max_p95_ratio=settings.canary.max_p95_ratio,
        ),
        looks=LOOKS,
    )


def _sum(one: Traffic, other: Traffic) -> Traffic:
    """Add up requests; of response times the latest are kept."""
    return Traffic(
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        latencies=(*one.latencies, *other.latencies)[-MOST_SAMPLES:],
    )
