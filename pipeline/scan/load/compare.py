"""Is the service slower than it was: two measurements compared by a test, not by two numbers.

Response times near each other in time are alike, so single requests prove little. The seconds of a
run are therefore taken as blocks and drawn again and again from both runs (a block bootstrap): where even
the low end of what the ratio of the percentiles may be lies above the smallest effect worth telling, the
service is slower.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from operator import mul
from typing import TYPE_CHECKING, Final

from pipeline.scan.load.histogram import Histogram, merged, middle_us
from pipeline.scan.load.measurement import QUANTILES, Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.load.measurement import Measurement

TYPICAL: Final = "typical"  # the geometric mean
DRAWS: Final = 1000
FALSE_ALARMS: Final = 0.05  # of a whole comparison, shared by everything that is looked at
CALM_S: Final = 0.002  # seconds in which 10 % of the requests were sent later than this are left out;
CALM_SHARE: Final = 0.25  # or than this share of the typical response time, where half would not be left
BLOCKS: Final = 20  # a run is cut into about so many
BLOCKS_MIN: Final = 8
REQUESTS_MIN: Final = 100  # of an endpoint in each run; fewer are not compared
TAIL_FACTOR: Final = 2.0  # the tail must change by so much more: it varies more from run to run
SMALLEST_S: Final = 0.0002  # a change by less than this is nobody's


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How one figure of one endpoint changed; `low` is the lower confidence bound of `ratio`."""

    endpoint: str
    statistic: str
    before_s: float
    after_s: float
    low: float
    is_slower: bool

    @property
    def ratio(self) -> float:
        """After to before: 1.3 is 30 % slower."""
        return self.after_s / self.before_s if self.before_s else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """Why two measurements, or one endpoint of them, say nothing of each other."""

    endpoint: str
    why: str


def compare(
    before: Measurement, after: Measurement, *, effect: float = 0.08, tail: str = "p95"
) -> tuple[list[Change], list[NotCompared]]:
    """Compare every endpoint, and the total, by the typical response time and by the percentile `tail`.

    Args:
        effect: The smallest slow-down worth telling, 0.08 for 8 %; the tail's is twice that.
    """
    if why := _unlike(before, after):
        return [], [NotCompared(endpoint="", why=why)]
    before, after = calm(before), calm(after)
    known = {one.name: one for one in (*before.endpoints, before.total)}
    looked_at = (*after.endpoints, after.total) if len(after.endpoints) > 1 else after.endpoints
    pairs = [(known.get(one.name), one) for one in looked_at]
    statistics = (TYPICAL, tail if tail in QUANTILES and tail != "max" else "p95")
    changes: list[Change] = []
    left_out: list[NotCompared] = []
    chance = FALSE_ALARMS / max(1, len(pairs) * len(statistics))
    for old, new in pairs:
        if old is None:
            left_out.append(NotCompared(endpoint=new.name, why="the baseline does not have it"))
        elif why := _too_little(old, new):
            left_out.append(NotCompared(endpoint=new.name, why=why))
        else:
            changes += [_change(old, new, statistic, effect, chance) for statistic in statistics]
    return changes, left_out


def calm(measurement: Measurement) -> Measurement:
    """The measurement without the seconds in which the machine was busy with something else.

    It shows in the generator, which is late then; a service that is slow does not make it so.
    """
    lags, times = measurement.generator.lag, measurement.total.times
    late = [lag.quantile(0.9) if lag else 0.0 for lag in lags]
    half = sorted(late)[len(late) // 2] if late else 0.0
    most_s = max(CALM_S, min(half, CALM_SHARE * geometric_mean(times))) if times else CALM_S
    kept = [second for second, lag in enumerate(late) if lag <= most_s]
    if len(kept) == len(lags):
        return measurement
    endpoints = tuple(
        replace(one, windows=tuple(one.windows[second] for second in kept if second < len(one.windows)))
        for one in measurement.endpoints
    )
    return replace(measurement, endpoints=endpoints)


def _unlike(before: Measurement, after: Measurement) -> str:
    if before.workload != after.workload:
        return f"the baseline's workload is {before.workload}, this one is {after.workload}"
    if before.plan != after.plan:
        return "the baseline was measured with another plan"
    if before.machine != after.machine:
        return f"the baseline was measured on another machine ({before.machine}; here: {after.machine})"
    return ""


def _too_little(old: Endpoint, new: Endpoint) -> str:
    for one, which in ((old, "the baseline"), (new, "this run")):
        if one.times.count < REQUESTS_MIN:
            return f"{which} has {one.times.count} response times, and {REQUESTS_MIN} are needed"
        if len(blocks_of(one)) < BLOCKS_MIN:
            return f"{which} has only {len(one.windows)} seconds in which the machine was not disturbed"
    return ""


def blocks_of(endpoint: Endpoint) -> list[Histogram]:
    """The seconds of an endpoint, joined to about `BLOCKS` blocks; seconds without answers are left out."""
    windows = endpoint.windows
    length = max(1, len(windows) // BLOCKS)
    joined = [merged(windows[at : at + length]) for at in range(0, len(windows), length)]
    return [one for one in joined if one.counts]


def _change(old: Endpoint, new: Endpoint, statistic: str, effect: float, chance: float) -> Change:
    least = effect if statistic == TYPICAL else effect * TAIL_FACTOR
    draw = random.Random(f"{old.name} {statistic}")  # noqa: S311 - the same answer for the same files
    before_s, befores = _drawn(old, statistic, draw)
    after_s, afters = _drawn(new, statistic, draw)
    ratios = sorted(b / a if a else math.inf for a, b in zip(befores, afters, strict=True))
    low = ratios[int(chance * len(ratios))]
    is_slower = low > 1 + least and after_s - before_s > SMALLEST_S
    return Change(
        endpoint=new.name,
        statistic=statistic,
        before_s=before_s,
        after_s=after_s,
        low=low,
        is_slower=is_slower,
    )


def _drawn(endpoint: Endpoint, statistic: str, draw: random.Random) -> tuple[float, list[float]]:
    """The figure of a run in seconds, and of `DRAWS` runs drawn from its blocks."""
    blocks = blocks_of(endpoint)
    if statistic == TYPICAL:
        return geometric_mean(endpoint.times), _drawn_means(blocks, draw)
    share = QUANTILES[statistic]
    return endpoint.times.quantile(share), Resampled(blocks).quantiles(share, draw)


def geometric_mean(times: Histogram) -> float:
    """The typical response time in seconds: unlike the mean it hardly heeds a few slow ones."""
    return math.exp(_log_sum(times) / times.count)


def _drawn_means(blocks: Sequence[Histogram], draw: random.Random) -> list[float]:
    sums = [(_log_sum(block), block.count) for block in blocks]
    drawn = (draw.choices(sums, k=len(sums)) for _ in range(DRAWS))
    return [math.exp(sum(logs for logs, _ in one) / sum(count for _, count in one)) for one in drawn]


def _log_sum(times: Histogram) -> float:
    return sum(count * math.log(max(middle_us(bucket), 1.0) / 1e6) for bucket, count in times.counts.items())


class Resampled:
    """Blocks of one run, ready to be drawn from: for each bucket, how many times of each block it tops."""

    def __init__(self, blocks: Sequence[Histogram]) -> None:
        self._buckets = sorted({bucket for block in blocks for bucket in block.counts})
        by_block = [list(accumulate(map(block.counts.get, self._buckets, repeat(0)))) for block in blocks]
        self._under = list(zip(*by_block, strict=True))
        self._blocks = range(len(blocks))

    def quantiles(self, share: float, draw: random.Random) -> list[float]:
        """The quantile, in seconds, of `DRAWS` runs drawn from the blocks."""
        return [self._quantile(share, draw) for _ in range(DRAWS)]

    def _quantile(self, share: float, draw: random.Random) -> float:
        weights = [0] * len(self._blocks)
        for block in draw.choices(self._blocks, k=len(self._blocks)):
            weights[block] += 1
        wanted = share * sum(map(mul, weights, self._under[-1]))
        low, high = 0, len(self._under) - 1
        while low < high:
            middle = (low + high) // 2
            if sum(map(mul, weights, self._under[middle])) >= wanted:
                high = middle
            else:
                low = middle + 1
        return middle_us(self._buckets[low]) / 1e6
