"""What a load test sends: the requests, how often, and how long."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import digest_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config import PerformanceSettings

DURATION_S: Final = 30.0
DURATION_MAX_S: Final = 600.0  # that is chosen for a user, not by one
SPARE: Final = 1.1  # requests beyond those needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One kind of request, in one or more variants."""

    name: str
    paths: tuple[str, ...]  # sent in turn
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    weight: int = 1
    expect: tuple[int, ...] = ()  # statuses that count as good; () is all below 400


def configured_requests(settings: PerformanceSettings) -> list[Request]:
    """The requests the settings name."""
    return [
        Request(
            name=name,
            paths=(one.path,),
            method=one.method.upper(),
            headers=dict(one.headers),
            body=one.body,
            weight=one.weight,
            expect=tuple(int(status) for status in one.expect),
        )
        for name, one in settings.requests.items()
    ]


def duration_for(requests: Sequence[Request], settings: PerformanceSettings) -> float:
    """How long to measure, in seconds: as set, else until the rarest request was sent often enough."""
    if settings.duration_s is not None:
        return float(settings.duration_s)
    rarest = min(one.weight for one in requests) / sum(one.weight for one in requests)
    needed_s = settings.minimum_requests * SPARE / (settings.rate * rarest)
    return float(min(max(DURATION_S, math.ceil(needed_s - 1e-6)), DURATION_MAX_S))


def generator_plan(
    requests: Sequence[Request], settings: PerformanceSettings, *, host: str, port: int
) -> dict[str, Any]:
    """The plan as the generator reads it."""
    return {
        "host": host,
        "port": port,
        "rate": settings.rate,
        "arrival": settings.arrival,
        "warmup_s": settings.warmup_s,
        "duration_s": duration_for(requests, settings),
        "timeout_s": settings.request_timeout_s,
        "max_connections": settings.connections,
        "workers": settings.workers,
        "requests": [
            {**asdict(one), "paths": list(one.paths), "expect": list(one.expect)} for one in requests
        ],
    }


def plan_digest(plan: Mapping[str, Any]) -> str:
    """What makes two measurements comparable: everything that is sent, and when; not where to."""
    return str(digest_json({key: value for key, value in plan.items() if key not in ("host", "port")}))
