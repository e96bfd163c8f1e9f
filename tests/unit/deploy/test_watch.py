"""Watching a release: what is a breach, what holds, what passes, and when it is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from pipeline.config.delivery import CanarySettings, DeploySettings, Environment, ThresholdSettings
from pipeline.config.values import Percent, Seconds
from pipeline.deploy.steps import Step, StepId
from pipeline.deploy.target import Deployment, Probe, Traffic, Usage
from pipeline.deploy.watch import Watch
from tests.unit.deploy.doubles import release
from tests.unit.deploy.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.deploy.release import Release

pytestmark = pytest.mark.anyio
OLD, NEW = release(1), release(2)
FAST = (0.05,) * 40
GOOD = {NEW.id: Traffic(requests=200, errors=0, latencies=FAST)}
HEALTHY = (Probe(service="api", instance="1", passed=True, said="200"),)
LAST = Step(id=StepId.BAKE, share=100.0)
EARLY = Step(id=StepId.BAKE, share=5.0)


class Shown(FakeTarget):
    """A target that shows what it is told to, the same at every look."""

    def __init__(
        self,
        folder: Path,
        *,
        counted: Mapping[str, Traffic] | None = None,
        probes: tuple[Probe, ...] = HEALTHY,
        used: tuple[Usage, ...] = (),
    ) -> None:
        super().__init__(folder)
        self.counted = GOOD if counted is None else counted
        self.probes, self.used = probes, used
        self.looks = 0

    async def probe(self, deployment: Deployment, release: Release) -> tuple[Probe, ...]:
        self.looks += 1
        return tuple(replace(one, restarts=one.restarts * (self.looks - 1)) for one in self.probes)

    async def traffic(self, deployment: Deployment) -> Mapping[str, Traffic]:
        return self.counted

    async def usage(self, deployment: Deployment) -> tuple[Usage, ...]:
        return self.used


def _deployment(bake_s: float = 0.05, step_time_s: float = 0.05, window_s: float = 0.01) -> Deployment:
    settings = DeploySettings(
        bake_s=Seconds(bake_s),
        canary=CanarySettings(step_time_s=Seconds(step_time_s)),
        thresholds=ThresholdSettings(window_s=Seconds(window_s)),
    )
    environment = Environment(name="staging", deploy=settings)
    return Deployment(id="d-1", environment=environment, new=NEW, old=OLD, fence=1)


def _probe(**changed: object) -> tuple[Probe, ...]:
    return (replace(HEALTHY[0], **changed),)  # type: ignore[arg-type]  # fields of a probe


def _usage(**shown: object) -> tuple[Usage, ...]:
    return (Usage(service="api", instance="1", **shown),)  # type: ignore[arg-type]  # fields of a usage


def _requests(number: int, errors: int = 0, seconds: float = 0.05) -> dict[str, object]:
    return {"counted": {NEW.id: Traffic(requests=number, errors=errors, latencies=(seconds,) * 40)}}


NOBODY = {"counted": {OLD.id: Traffic(requests=9, errors=0)}}
CASES = {
    "good": ({}, "pass", "0 of 200 requests failed"),
    "no-instance": ({"probes": ()}, "breach", "none of its instances runs"),
    "unhealthy": ({"probes": _probe(passed=False, said="503")}, "breach", "`api/1` is not healthy: 503"),
    "restarts": ({"probes": _probe(restarts=1)}, "breach", "`api/1` has restarted"),
    "no-memory": ({"used": _usage(out_of_memory=True)}, "breach", "`api/1` ran out of memory"),
    "cpu-critical": ({"used": _usage(cpu_percent=97.0)}, "breach", "uses 97 % of its CPU, above 90 %"),
    "cpu-warning": ({"used": _usage(cpu_percent=80.0)}, "hold", "uses 80 % of its CPU, above 70 %"),
    "errors": (_requests(60, errors=9), "breach", "9 of 60 requests"),
    "slow": (_requests(200, seconds=3.0), "hold", "p95 is 3 s"),
    "nobody-came": (NOBODY, "inconclusive", "no request has reached"),
}


@pytest.mark.parametrize(("shown", "decision", "told"), CASES.values(), ids=CASES)
async def test_what_is_seen_decides(
    shown: dict[str, object], decision: str, told: str, tmp_path: Path
) -> None:
    """The worst of probes, usage and requests."""
    target = Shown(tmp_path, **shown)  # type: ignore[arg-type]  # its arguments

    verdict = await Watch(every_s=0.005).watch(target, _deployment(), LAST)

    assert (verdict.decision, told in verdict.reason) == (decision, True), verdict


async def test_a_breach_is_told_at_once(tmp_path: Path) -> None:
    """Not at the end of the bake."""
    target = Shown(tmp_path, used=_usage(out_of_memory=True))

    with anyio.fail_after(10):
        verdict = await Watch().watch(target, _deployment(bake_s=3600), LAST)

    assert verdict.decision == "breach"


async def test_a_canary_step_ends_when_it_is_decided_and_the_last_bakes_to_its_end(tmp_path: Path) -> None:
    """A good step need not take all its time."""
    watch = Watch(every_s=0.005)
    target = Shown(tmp_path)

    with anyio.fail_after(10):
        await watch.watch(target, _deployment(step_time_s=3600), EARLY)
    early = target.looks
    await watch.watch(target, _deployment(bake_s=0.1), LAST)

    assert early == 1
    assert target.looks - early > 3


async def test_our_own_visits_are_judged_where_the_target_counts_none(tmp_path: Path) -> None:
    """They are added up from look to look."""

    async def visit(deployment: Deployment, seconds: float) -> Traffic:
        return Traffic(requests=50, errors=0, latencies=FAST)

    target = Shown(tmp_path, counted={})

    verdict = await Watch(every_s=0.005, visit=visit).watch(target, _deployment(step_time_s=3600), EARLY)

    assert (verdict.decision, verdict.numbers["requests"]) == ("pass", 100)


def test_thresholds_are_the_handbooks() -> None:
    """Warning 2 s, 1 %, 70 %; critical 5 s, 5 %, 90 %."""
    assert ThresholdSettings() == ThresholdSettings(
        response_warning_s=Seconds(2),
        response_critical_s=Seconds(5),
        errors_warning=Percent(1),
        errors_critical=Percent(5),
        cpu_warning=Percent(70),
        cpu_critical=Percent(90),
    )
