"""A load test's figures as text, as CSV, and as a picture."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from pipeline.scan.load.measurement import QUANTILES, statistic_of
from pipeline.scan.load.thresholds import ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.load.histogram import Histogram
    from pipeline.scan.load.measurement import Measurement
    from pipeline.scan.load.thresholds import Line

STATISTICS: Final = ("mean", *QUANTILES)
COLUMNS: Final = (
    *("workload", "endpoint", "requests", "failed", "requests_per_s"),
    *(f"{name}_ms" for name in STATISTICS),
)
WIDTH: Final = 860
PANEL: Final = 150
LEFT: Final = 70
GAP: Final = 46
COLOURS: Final = ("#3366cc", "#e07b00", "#c0392b", "#2e8b57")


def csv_of(measurements: Sequence[Measurement]) -> str:
    """One row for each endpoint and the total, of each workload."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in measurements:
        for endpoint in (*one.endpoints, one.total):
            rate = endpoint.requests / one.duration_s if one.duration_s else 0.0
            times = endpoint.times
            figures = [_milliseconds(statistic_of(times, name)) for name in STATISTICS]
            row = (one.workload, endpoint.name, endpoint.requests, sum(endpoint.failed), f"{rate:.2f}")
            writer.writerow((*row, *figures))
    return out.getvalue()


def _milliseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds * 1000:.3f}"


def text_of(measurement: Measurement, statistic: str) -> str:
    """What people read in the log: one line for each endpoint."""
    kind = (
        f"open workload, {measurement.target_rate:g} requests/s, timed from when each was due"
        if measurement.target_rate is not None
        else "closed workload: its users wait for answers, which hides what a stall does to others"
    )
    lines = [f"{kind}; {measurement.duration_s:.0f} s after {measurement.warmup_s:.0f} s of warm-up"]
    for one in (*measurement.endpoints, measurement.total):
        times = one.times
        shown = list(dict.fromkeys(("p50", statistic, "p99", "max")))
        figures = ", ".join(f"{name} {ms(statistic_of(times, name))}" for name in shown) if times else "-"
        lines.append(f"  {one.name}: {one.requests} requests, {one.error_share:.2%} failed, {figures}")
    return "\n".join(lines) + "\n"


def lines_text(lines: Sequence[Line]) -> list[str]:
    """What is not good, the worst first; one line each."""
    bad = sorted((line for line in lines if line.verdict), key=lambda line: -line.verdict)
    return [f"{one.verdict.word}: {one.subject} ({one.workload}): {one.what}: {one.text}" for one in bad]


def plot_of(measurement: Measurement) -> str:
    """An SVG picture: response times, requests and failures, CPU and memory, second by second."""
    total = measurement.total
    ticks = [float(second) for second in range(len(total.windows))]
    times = [
        _series(name, ticks, [_quantile_ms(window, name) for window in total.windows])
        for name in ("p50", "p95", "max")
    ]
    answered = _series("answers/s", ticks, [float(window.count) for window in total.windows])
    failed = _series("failures/s", ticks, [float(count) for count in total.failed])
    panels = [("response time, ms", times), ("requests", [answered, failed])]
    if measurement.usage is not None and measurement.usage.samples:
        at = [row[0] for row in measurement.usage.samples]
        cpu = _series("CPU, %", at, [row[1] * 100 for row in measurement.usage.samples])
        memory = _series("memory, MB", at, [row[2] / 1e6 for row in measurement.usage.samples])
        panels += [("service", [cpu]), ("service", [memory])]
    height = GAP + len(panels) * (PANEL + GAP)
    title = f"{measurement.workload} workload, {total.requests} requests in {measurement.duration_s:.0f} s"
    body = "".join(
        _panel(name, series, GAP + index * (PANEL + GAP), max(measurement.duration_s, 1.0))
        for index, (name, series) in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>{body}</svg>\n'
    )


Series = tuple[str, list[tuple[float, float]]]


def _series(name: str, xs: Sequence[float], ys: Sequence[float]) -> Series:
    return name, [(x, y) for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]


def _quantile_ms(window: Histogram, name: str) -> float:
    return window.quantile(QUANTILES[name]) * 1000


def _panel(name: str, series: Sequence[Series], top: int, seconds: float) -> str:
    """One diagram with its axis, grid and key."""
    right, bottom = WIDTH - 20, top + PANEL
    most = _round_up(max((y for _, points in series for _, y in points), default=1.0))
    parts = [f'<text x="{LEFT}" y="{top - 8}" fill="#555">{escape(name)}</text>']
    for step in range(5):
        y = bottom - PANEL * step / 4
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, y + 4, "end", f"{most * step / 4:g}"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = LEFT + (right - LEFT) * share
        parts.append(_text(x, bottom + 16, "middle", f"{seconds * share:.0f} s"))
    for index, (label, points) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        places = ((LEFT + (right - LEFT) * min(x / seconds, 1), bottom - PANEL * y / most) for x, y in points)
        place = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{place}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        x = right - 110 * (len(series) - index) + 20
        parts.append(f'<text x="{x}" y="{top - 8}" fill="{colour}">{escape(label)}</text>')
    return "".join(parts)


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">{escape(words)}</text>'


def _round_up(value: float) -> float:
    """The next number of one digit, so that the axis reads well."""
    if value <= 0:
        return 1.0
    size = 10 ** math.floor(math.log10(value))
    return next(float(size * step) for step in (1, 2, 4, 6, 8, 10) if size * step >= value)
