"""What a load test measured, whichever program made the load: by endpoint and second."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.load.histogram import Histogram, merged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOTAL: Final = "total"
QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


class MeasurementInvalid(PipelineError):
    """A file of measurements cannot be read."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"cannot read the measurement `{name}`: {what}")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One kind of request: response times and failures, second by second after the warm-up."""

    name: str
    windows: tuple[Histogram, ...]
    failed: tuple[int, ...]
    errors: Mapping[str, int] = field(default_factory=dict)  # kind to count, "status 503", "timeout"

    @property
    def times(self) -> Histogram:
        """All response times: of good answers, and of timeouts as long as was waited."""
        return merged(self.windows)

    @property
    def requests(self) -> int:
        """How many requests ended, well or badly."""
        # A timeout is in both: its time counts, and it failed.
        return self.times.count + sum(self.failed) - self.errors.get("timeout", 0)

    @property
    def error_share(self) -> float:
        """Which share of the requests failed, 0 to 1; 0 without requests."""
        return sum(self.failed) / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the service took while it was measured."""

    cpu: float  # CPUs in use, on average: 1.0 is one CPU all the time
    cpu_max: float  # in the busiest second
    memory_bytes: int  # the most
    samples: tuple[tuple[float, float, int], ...] = ()  # seconds from the start, CPUs in use, bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """How the program that made the load fared itself."""

    cpu: float  # share of one CPU
    memory_bytes: int
    lag: tuple[Histogram, ...] = ()  # by second: how much later than due requests were handled
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One load test."""

    workload: str  # "open": by arrival rate; "closed": by users who wait for answers
    endpoints: tuple[Endpoint, ...]
    began_at: float  # seconds since 1970, after the warm-up
    duration_s: float
    warmup_s: float
    generator: Generator
    target_rate: float | None = None  # requests a second; None in a closed one
    due: int = 0
    attempted: int = 0
    service_time: Histogram | None = None  # from sending, not from when it was due
    plan: str = ""  # digest of what was asked; only equal ones are compared
    machine: str = ""
    usage: Usage | None = None

    @property
    def total(self) -> Endpoint:
        """Everything together."""
        errors: Counter[str] = Counter()
        for one in self.endpoints:
            errors.update(one.errors)
        seconds = max((len(one.windows) for one in self.endpoints), default=0)
        columns = [
            [one.windows[second] for one in self.endpoints if second < len(one.windows)]
            for second in range(seconds)
        ]
        failed = [
            sum(one.failed[second] for one in self.endpoints if second < len(one.failed))
            for second in range(seconds)
        ]
        return Endpoint(
            name=TOTAL,
            windows=tuple(merged(column) for column in columns),
            failed=tuple(failed),
            errors=dict(errors),
        )

    @property
    def rate(self) -> float:
        """Requests a second that ended."""
        return self.total.requests / self.duration_s if self.duration_s else 0.0

    @property
    def achieved(self) -> float:
        """Which share of the requests that were due was sent, 0 to 1; 1 where nothing is due."""
        return self.attempted / self.due if self.due else float(self.target_rate is None)


def statistic_of(times: Histogram, name: str) -> float:
    """One figure of response times, in seconds: `mean`, `max` or a percentile such as `p95`."""
    return times.mean() if name == "mean" else times.quantile(QUANTILES[name])


def parse_measurement(text: str | bytes, name: str) -> Measurement:
    """Read what a generator, the listener or `to_json` wrote.

    Raises:
        MeasurementInvalid: It is damaged, or of another version.
    """
    try:
        table = json.loads(text)
        if table["format"] != 1:
            raise MeasurementInvalid(name, f"its format is {table['format']}, and 1 is known")
        return _measurement(table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MeasurementInvalid(name, f"{type(error).__name__}: {error}") from error


def _measurement(table: Mapping[str, Any]) -> Measurement:
    generator = table["generator"]
    rate = table.get("target_rate")
    usage = table.get("usage")
    return Measurement(
        workload=str(table["workload"]),
        endpoints=tuple(_endpoint(name, one) for name, one in table["endpoints"].items()),
        began_at=float(table["began_at"]),
        duration_s=float(table["duration_s"]),
        warmup_s=float(table["warmup_s"]),
        generator=Generator(
            cpu=float(generator["cpu"]),
            memory_bytes=int(generator["memory_bytes"]),
            lag=tuple(Histogram.from_json(lag) for lag in generator.get("lag", ())),
            last_error=str(generator.get("last_error", "")),
        ),
        target_rate=None if rate is None else float(rate),
        due=int(table.get("due", 0)),
        attempted=int(table.get("attempted", 0)),
        service_time=Histogram.from_json(table["service_time"]) if table.get("service_time") else None,
        plan=str(table.get("plan", "")),
        machine=str(table.get("machine", "")),
        usage=None if usage is None else Usage(**{**usage, "samples": _rows(usage["samples"])}),
    )


def _endpoint(name: str, table: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        name=name,
        windows=tuple(Histogram.from_json(window) for window in table["windows"]),
        failed=tuple(int(count) for count in table["failed"]),
        errors={str(kind): int(count) for kind, count in table["errors"].items()},
    )


def _rows(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, float, int], ...]:
    return tuple((float(at), float(cpu), int(memory)) for at, cpu, memory in rows)


def to_json(measurement: Measurement) -> str:
    """A measurement as one JSON document, sorted."""
    one = measurement
    table: dict[str, Any] = {
        "format": 1,
        "workload": one.workload,
        "began_at": one.began_at,
        "duration_s": one.duration_s,
        "warmup_s": one.warmup_s,
        "target_rate": one.target_rate,
        "due": one.due,
        "attempted": one.attempted,
        "plan": one.plan,
        "machine": one.machine,
        "generator": {
            "cpu": one.generator.cpu,
            "memory_bytes": one.generator.memory_bytes,
            "lag": [lag.to_json() for lag in one.generator.lag],
            "last_error": one.generator.last_error,
        },
        "service_time": None if one.service_time is None else one.service_time.to_json(),
        "endpoints": {
            each.name: {
                "windows": [window.to_json() for window in each.windows],
                "failed": list(each.failed),
                "errors": dict(each.errors),
            }
            for each in one.endpoints
        },
    }
    if one.usage is not None:
        table["usage"] = {
            "cpu": one.usage.cpu,
            "cpu_max": one.usage.cpu_max,
            "memory_bytes": one.usage.memory_bytes,
            "samples": [list(row) for row in one.usage.samples],
        }
    return json.dumps(table, sort_keys=True)


def with_usage(measurement: Measurement, samples: Sequence[Sequence[float]]) -> Measurement:
    """The measurement with what the service took meanwhile; `samples` as the sampler hands them out.

    Fewer than three samples within the measured time tell nothing: `usage` stays None.
    """
    began, ended = measurement.began_at, measurement.began_at + measurement.duration_s
    inside = [(at, cpu, int(memory)) for at, cpu, memory in samples if began <= at <= ended]
    if len(inside) < 3:
        return measurement
    rows = [
        (after[0] - began, (after[1] - before[1]) / (after[0] - before[0]), after[2])
        for before, after in itertools.pairwise(inside)
        if after[0] > before[0]
    ]
    by_second: dict[int, list[float]] = {}
    for at, cpu, _ in rows:
        by_second.setdefault(int(at), []).append(cpu)
    usage = Usage(
        cpu=(inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]),
        cpu_max=max(sum(cpus) / len(cpus) for cpus in by_second.values()),
        memory_bytes=max(memory for _, _, memory in inside),
        samples=tuple((round(at, 3), round(cpu, 4), memory) for at, cpu, memory in rows),
    )
    return replace(measurement, usage=usage)
