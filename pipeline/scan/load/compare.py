"""Is the service slower than it was: two measurements compared by a test, not by two numbers.

Response times near each other in time are alike, so single requests prove little. The seconds of a
run are therefore taken as blocks and drawn again and again from both runs (a block bootstrap): where even
the low end of what the ratio of the figures may be lies above the smallest effect worth telling, the
service is slower.

A busy machine makes every service slow. It also makes the generator late, which no service does: by that
lateness the blocks are corrected, or left out where it is too much.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
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
LATE_S: Final = 0.001  # seconds in which requests were handled later than this on average are left out,
LATE_SHARE: Final = 0.25  # unless it is less than this share of the typical response time
WAKE_UPS: Final = 1.5  # how often a request waits for a CPU for as long as the generator does: measured,
WAKE_UPS_WEIGHT: Final = 0.5  # and so little sure that what the runs themselves show soon outweighs it
WAKE_UPS_MAX: Final = 3.0
WAKE_UPS_DOUBT: Final = 0.75  # that a slow-down must exceed where the machine was busier than before
BUSIER: Final = 0.05  # lag over typical time by which a baseline was: then nothing found proves nothing
MUCH_BUSIER: Final = 0.1  # by which the machine is now: that much is beyond correction
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
    known = {one.name: one for one in (*before.endpoints, before.total)}
    looked_at = (*after.endpoints, after.total) if len(after.endpoints) > 1 else after.endpoints
    statistics = (TYPICAL, tail if tail in QUANTILES and tail != "max" else "p95")
    changes: list[Change] = []
    left_out: list[NotCompared] = []
    chance = FALSE_ALARMS / max(1, len(looked_at) * len(statistics))
    for one in looked_at:
        if one.name not in known:
            left_out.append(NotCompared(endpoint=one.name, why="the baseline does not have it"))
            continue
        old = Series.of(known[one.name], before.generator.lag)
        new = Series.of(one, after.generator.lag)
        if why := _too_little(old, new) or _too_busy(old, new):
            left_out.append(NotCompared(endpoint=one.name, why=why))
            continue
        found = [_change(old, new, statistic, effect, chance) for statistic in statistics]
        if old.late - new.late > BUSIER and not any(change.is_slower for change in found):
            why = "the machine was busier when the baseline was measured, which would hide a slow-down"
            left_out.append(NotCompared(endpoint=one.name, why=why))
        else:
            changes += found
    return changes, left_out


def _too_busy(old: Series, new: Series) -> str:
    """Where the machine is much busier than it was, every service is slower."""
    return "the machine is much busier than for the baseline" if new.late - old.late > MUCH_BUSIER else ""


def _unlike(before: Measurement, after: Measurement) -> str:
    if before.workload != after.workload:
        return f"the baseline's workload is {before.workload}, this one is {after.workload}"
    if before.plan != after.plan:
        return "the baseline was measured with another plan"
    if before.machine != after.machine:
        return f"the baseline was measured on another machine ({before.machine}; here: {after.machine})"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some seconds of one endpoint."""

    times: Histogram
    lag: Histogram  # of the generator meanwhile
    log_sum: float  # of the logarithms of `times`
    count: int
    late: float  # logarithm of 1 + the generator's mean lag over the typical response time


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The seconds of an endpoint in which the machine was not too busy, joined to about `BLOCKS` blocks."""

    name: str
    count: int  # of all response times
    seconds: int
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, endpoint: Endpoint, lags: Sequence[Histogram]) -> Series:
        """The series of an endpoint, with the generator's lag second by second; () where it has none."""
        times = endpoint.times
        typical_s = geometric_mean(times) if times else 0.0
        most_s = max(LATE_S, LATE_SHARE * typical_s)
        seconds = [
            (window, lags[at] if at < len(lags) else Histogram())
            for at, window in enumerate(endpoint.windows)
        ]
        calm = [(window, lag) for window, lag in seconds if not lag or lag.mean() <= most_s]
        length = max(1, len(calm) // BLOCKS)
        joined = [calm[at : at + length] for at in range(0, len(calm), length)]
        blocks = [
            _block(merged(window for window, _ in some), merged(lag for _, lag in some), typical_s)
            for some in joined
        ]
        return cls(
            name=endpoint.name,
            count=times.count,
            seconds=len(calm),
            blocks=tuple(one for one in blocks if one.count),
        )

    @property
    def late(self) -> float:
        """The mean of the blocks' `late`."""
        return sum(one.late * one.count for one in self.blocks) / sum(one.count for one in self.blocks)

    @property
    def times(self) -> Histogram:
        """The response times of all blocks."""
        return merged(one.times for one in self.blocks)

    @property
    def lag(self) -> Histogram:
        """The generator's lag in all blocks."""
        return merged(one.lag for one in self.blocks)


def _block(times: Histogram, lag: Histogram, typical_s: float) -> Block:
    late = math.log1p(lag.mean() / typical_s) if lag and typical_s else 0.0
    return Block(times=times, lag=lag, log_sum=_log_sum(times), count=times.count, late=late)


def _too_little(old: Series, new: Series) -> str:
    for one, which in ((old, "the baseline"), (new, "this run")):
        if one.count < REQUESTS_MIN:
            return f"{which} has {one.count} response times, and {REQUESTS_MIN} are needed"
        if len(one.blocks) < BLOCKS_MIN:
            return f"{which} has only {one.seconds} seconds in which the machine was not disturbed"
    return ""


def _change(old: Series, new: Series, statistic: str, effect: float, chance: float) -> Change:
    least = effect if statistic == TYPICAL else effect * TAIL_FACTOR
    draw = random.Random(f"{old.name} {statistic}")  # noqa: S311 - the same answer for the same files
    if statistic == TYPICAL:
        slope = wake_ups(old, new)
        (before_s, befores), (after_s, afters) = (_typical(one, slope, draw) for one in (old, new))
        excess_s = before_s * math.expm1(WAKE_UPS_DOUBT * max(0.0, new.late - old.late))
    else:
        share = QUANTILES[statistic]
        (before_s, befores), (after_s, afters) = (_tail(one, share, draw) for one in (old, new))
        excess_s = _excess(old, new, share)
    ratios = sorted((b - excess_s) / a if a else math.inf for a, b in zip(befores, afters, strict=True))
    low = ratios[int(chance * len(ratios))]
    is_slower = low > 1 + least and after_s - before_s - excess_s > SMALLEST_S
    return Change(
        endpoint=new.name,
        statistic=statistic,
        before_s=before_s,
        after_s=after_s,
        low=low,
        is_slower=is_slower,
    )


def wake_ups(old: Series, new: Series) -> float:
    """By how much the typical time grows with the generator's lag, as the blocks of both runs show it."""
    above, below = WAKE_UPS * WAKE_UPS_WEIGHT, WAKE_UPS_WEIGHT
    for blocks, late in ((old.blocks, old.late), (new.blocks, new.late)):
        count = sum(one.count for one in blocks)
        middle = sum(one.log_sum for one in blocks) / count
        above += sum((one.late - late) * (one.log_sum - one.count * middle) for one in blocks)
        below += sum(one.count * (one.late - late) ** 2 for one in blocks)
    return min(WAKE_UPS_MAX, max(0.0, above / below))


def _excess(old: Series, new: Series, share: float) -> float:
    """Seconds of the new tail that a busier machine may explain."""
    if not old.lag or not new.lag:
        return 0.0
    return WAKE_UPS * max(0.0, new.lag.quantile(share) - old.lag.quantile(share))


def _typical(series: Series, slope: float, draw: random.Random) -> tuple[float, list[float]]:
    """The typical time of a run on an idle machine, in seconds, and of `DRAWS` runs drawn from its blocks."""
    sums = [(one.log_sum - slope * one.late * one.count, one.count) for one in series.blocks]
    drawn = (draw.choices(sums, k=len(sums)) for _ in range(DRAWS))
    return _mean_of(sums), [_mean_of(one) for one in drawn]


def _mean_of(sums: Sequence[tuple[float, int]]) -> float:
    return math.exp(sum(logs for logs, _ in sums) / sum(count for _, count in sums))


def _tail(series: Series, share: float, draw: random.Random) -> tuple[float, list[float]]:
    """A quantile of a run in seconds, and of `DRAWS` runs drawn from its blocks."""
    blocks = [one.times for one in series.blocks]
    return series.times.quantile(share), Resampled(blocks).quantiles(share, draw)


def geometric_mean(times: Histogram) -> float:
    """The typical response time in seconds: unlike the mean it hardly heeds a few slow ones."""
    return math.exp(_log_sum(times) / times.count)


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
