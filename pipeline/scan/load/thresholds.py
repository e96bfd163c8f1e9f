"""What a load test's figures mean: good, a warning, too bad, or nothing at all because they prove nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from pipeline.scan.load.histogram import merged
from pipeline.scan.load.measurement import TOTAL, Endpoint, Measurement, statistic_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.scan.load.compare import Change, NotCompared


class Verdict(IntEnum):
    """What to do about a line; of several the highest counts."""

    PASS = 0
    WARN = 1
    NOT_CHECKED = 2
    BLOCK = 3

    @property
    def word(self) -> str:
        """As it is told: `pass`, `warn`, `not checked`, `block`."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is too much: figures above a limit break it. Shares are from 0 to 1, None is no limit."""

    statistic: str = "p95"  # of the response times: "mean", "p50", "p90", "p95", "p99", "max"
    window_s: int | None = None  # the worst stretch of this length is judged; None: the whole measured time
    minimum_requests: int = 200  # with fewer nothing is said
    response_warning_s: float | None = 2.0
    response_critical_s: float | None = 5.0
    errors_warning: float | None = 0.01
    errors_critical: float | None = 0.05
    cpu_warning: float | None = 0.70
    cpu_critical: float | None = 0.90
    cpus: int = 1  # what the service is meant to have: 100 % are so many CPUs
    achieved_min: float = 0.95  # of the target rate
    generator_cpu_max: float = 0.90  # of one CPU
    generator_lag_max_s: float = 0.010  # of the 95th percentile
    by_endpoint: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what is other for one

    def of(self, endpoint: str) -> Limits:
        """The limits of one endpoint."""
        return replace(self, **self.by_endpoint.get(endpoint, {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was checked, or could not be."""

    verdict: Verdict
    workload: str
    subject: str  # an endpoint, "total", "service" or "generator"
    what: str  # "response", "errors", "cpu", "requests", "regression", ...
    text: str


def judge(measurement: Measurement, limits: Limits) -> list[Line]:
    """Hold a measurement against the limits; where the generator was at its own limit, say that alone."""
    if unsound := _unsound(measurement, limits):
        return unsound
    lines: list[Line] = []
    for endpoint in (*measurement.endpoints, measurement.total):
        lines += _judge_endpoint(measurement, endpoint, limits.of(endpoint.name))
    return lines + _judge_cpu(measurement, limits)


def verdict_of(lines: Sequence[Line]) -> Verdict:
    """The verdict of all lines; without any nothing was checked."""
    return max((line.verdict for line in lines), default=Verdict.NOT_CHECKED)


def judge_changes(
    workload: str, changes: Sequence[Change], left_out: Sequence[NotCompared], *, blocks: bool
) -> list[Line]:
    """Say what became slower, and what could not be compared."""
    lines = [
        Line(
            verdict=(Verdict.BLOCK if blocks else Verdict.WARN) if one.is_slower else Verdict.PASS,
            workload=workload,
            subject=one.endpoint,
            what="regression",
            text=f"{one.statistic} {ms(one.after_s)}, {ms(one.before_s)} in the baseline: "
            f"{one.ratio - 1:+.0%}{f', surely {one.low - 1:+.0%}' if one.is_slower else ''}",
        )
        for one in changes
    ]
    return lines + [
        Line(
            verdict=Verdict.WARN,
            workload=workload,
            subject=one.endpoint or TOTAL,
            what="regression",
            text=f"not compared with the baseline: {one.why}",
        )
        for one in left_out
    ]


def _unsound(measurement: Measurement, limits: Limits) -> list[Line]:
    """Why the figures are not the service's."""
    generator = measurement.generator
    found: list[tuple[str, str]] = []
    if not measurement.total.requests:
        found.append(("requests", "no request was made"))
    if generator.cpu > limits.generator_cpu_max:
        found.append(
            ("saturation", f"the generator used {generator.cpu:.0%} of its CPU: the times are its own")
        )
    if lags := merged(generator.lag):
        lag = lags.quantile(0.95)
        if lag > limits.generator_lag_max_s:
            found.append(
                ("saturation", f"5 % of the requests were handled more than {ms(lag)} after they were due")
            )
    if measurement.achieved < limits.achieved_min:
        found.append(
            (
                "rate",
                f"all connections were taken: {measurement.achieved:.1%} of the requests were sent when due",
            )
        )
    return [
        Line(
            verdict=Verdict.NOT_CHECKED,
            workload=measurement.workload,
            subject="generator",
            what=what,
            text=text,
        )
        for what, text in found
    ]


def _judge_endpoint(measurement: Measurement, endpoint: Endpoint, limits: Limits) -> list[Line]:
    def line(verdict: Verdict, what: str, text: str) -> Line:
        return Line(
            verdict=verdict, workload=measurement.workload, subject=endpoint.name, what=what, text=text
        )

    enough = endpoint.requests >= limits.minimum_requests
    response_s = worst_statistic(endpoint, limits)
    where = f"{limits.statistic}" + (f" of the worst {limits.window_s} s" if limits.window_s else "")
    failed = f"{endpoint.error_share:.2%} of {endpoint.requests} requests failed{_kinds(endpoint)}"
    checks = [
        (
            "response",
            *_grade(response_s, limits.response_warning_s, limits.response_critical_s, "response", ms),
            f"{where} {ms(response_s)}",
        ),
        (
            "errors",
            *_grade(endpoint.error_share, limits.errors_warning, limits.errors_critical, "errors", percent),
            failed,
        ),
    ]
    if enough:
        return [line(verdict, what, text + limit) for what, verdict, limit, text in checks]
    # Too few prove nothing good; what is bad already among so few is bad all the same.
    bad = [
        line(verdict, what, text + limit) for what, verdict, limit, text in checks if verdict is Verdict.BLOCK
    ]
    few = f"{endpoint.requests} requests, and {limits.minimum_requests} are needed to judge"
    return [*bad, line(Verdict.NOT_CHECKED, "requests", few)]


def worst_statistic(endpoint: Endpoint, limits: Limits) -> float:
    """The statistic over the whole time, or in the worst stretch that has enough requests, in seconds."""
    if limits.window_s is None:
        return statistic_of(endpoint.times, limits.statistic)
    stretches = [
        merged(endpoint.windows[at : at + limits.window_s])
        for at in range(max(1, len(endpoint.windows) - limits.window_s + 1))
    ]
    judged = [one for one in stretches if one.count >= limits.minimum_requests] or [endpoint.times]
    return max(statistic_of(one, limits.statistic) for one in judged)


def _judge_cpu(measurement: Measurement, limits: Limits) -> list[Line]:
    if limits.cpu_warning is None and limits.cpu_critical is None:
        return []
    usage = measurement.usage
    if usage is None:
        verdict, text = Verdict.NOT_CHECKED, "the CPU of the service could not be sampled"
    else:
        share = usage.cpu / limits.cpus
        verdict, limit = _grade(share, limits.cpu_warning, limits.cpu_critical, "cpu", percent)
        cpus = "one CPU" if limits.cpus == 1 else f"{limits.cpus} CPUs"
        text = f"{share:.0%} of {cpus} on average{limit}; {usage.memory_bytes / 1e6:.0f} MB at most"
    return [Line(verdict=verdict, workload=measurement.workload, subject="service", what="cpu", text=text)]


def _grade(
    value: float,
    warning: float | None,
    critical: float | None,
    key: str,
    show: Callable[[float], str],
) -> tuple[Verdict, str]:
    """The verdict, and the limit that is broken as it is told, with its setting."""
    # Written so that NaN, the figure of nothing, breaks every limit.
    if critical is not None and not value <= critical:
        return Verdict.BLOCK, f", above {show(critical)} (`{key}_critical`)"
    if warning is not None and not value <= warning:
        return Verdict.WARN, f", above {show(warning)} (`{key}_warning`)"
    return Verdict.PASS, ""


def _kinds(endpoint: Endpoint) -> str:
    kinds = sorted(endpoint.errors.items(), key=lambda item: (-item[1], item[0]))
    return f": {', '.join(f'{count} {kind}' for kind, count in kinds[:3])}" if kinds else ""


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:g} %"


def ms(seconds: float) -> str:
    """A duration as people read it; there is none where nothing was answered well."""
    if math.isnan(seconds):
        return "of no good answer"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"
