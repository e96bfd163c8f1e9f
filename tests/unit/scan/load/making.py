"""Measurements made up for tests."""

from __future__ import annotations

import math
import random
from typing import Any

from pipeline.scan.load.histogram import Histogram
from pipeline.scan.load.measurement import Endpoint, Generator, Measurement


def endpoint(
    name: str = "GET /", *, seconds: int = 20, each: int = 50, times_s: float = 0.02, **changes: Any
) -> Endpoint:
    """An endpoint whose answers all took `times_s`, `each` of them a second."""
    windows = []
    for _ in range(seconds):
        window = Histogram()
        window.add(times_s, each)
        windows.append(window)
    values: dict[str, Any] = {"name": name, "windows": tuple(windows), "failed": (0,) * seconds}
    return Endpoint(**{**values, **changes})


def measurement(*endpoints: Endpoint, **changes: Any) -> Measurement:
    """An open measurement of 20 s by a generator that fared well."""
    values: dict[str, Any] = {
        "workload": "open",
        "endpoints": endpoints or (endpoint(),),
        "began_at": 1000.0,
        "duration_s": 20.0,
        "warmup_s": 1.0,
        "target_rate": 50.0,
        "due": 1000,
        "attempted": 1000,
        "generator": Generator(cpu=0.1, memory_bytes=20_000_000),
    }
    return Measurement(**{**values, **changes})


def drawn(
    seed: int, *, typical_s: float, seconds: int = 20, each: int = 50, spread: float = 0.5
) -> Measurement:
    """A measurement with noise: each request its own, and each second its own on top."""
    draw = random.Random(seed)  # noqa: S311 - any noise will do
    windows = []
    for _ in range(seconds):
        window, middle = Histogram(), typical_s * math.exp(draw.gauss(0, 0.1))
        for _ in range(each):
            window.record(middle * math.exp(draw.gauss(0, spread)))
        windows.append(window)
    return measurement(endpoint(windows=tuple(windows)), duration_s=float(seconds))
