"""A histogram of durations with a fixed relative error, which can be merged and written as JSON.

Runs inside containers: standard library only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUB_BITS: Final = 7  # 128 buckets for each doubling: a value is off by at most 1/256
_SUB: Final = 1 << SUB_BITS


def bucket_of(value_us: int) -> int:
    """The bucket of a whole number of microseconds; negative ones count as 0."""
    if value_us < _SUB:
        return max(value_us, 0)
    shift = value_us.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value_us >> shift)


def middle_us(bucket: int) -> float:
    """The middle of a bucket, in microseconds."""
    if bucket < 2 * _SUB:
        return float(bucket)
    shift = (bucket >> SUB_BITS) - 1
    low = (bucket - (shift << SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2


class Histogram:
    """Counts of durations by bucket."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})

    def record(self, seconds: float) -> None:
        """Count one duration."""
        # `bucket_of` written out: a generator does this for each request.
        value = int(seconds * 1e6)
        if value < _SUB:
            bucket = max(value, 0)
        else:
            shift = value.bit_length() - SUB_BITS - 1
            bucket = (shift << SUB_BITS) + (value >> shift)
        counts = self.counts
        counts[bucket] = counts.get(bucket, 0) + 1

    def add(self, seconds: float, count: int) -> None:
        """Count one duration several times."""
        bucket = bucket_of(int(seconds * 1e6))
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return bool(self.counts)

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float:
        """The duration, in seconds, that `share` (0 to 1) of all do not exceed; NaN when there is none."""
        total = self.count
        if not total:
            return math.nan
        rank = max(1, math.ceil(share * total - 1e-9))
        seen = 0
        bucket = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                break
        return middle_us(bucket) / 1e6

    def mean(self) -> float:
        """The mean, in seconds; NaN when there is none."""
        total = self.count
        if not total:
            return math.nan
        return sum(middle_us(bucket) * count for bucket, count in self.counts.items()) / total / 1e6

    def to_json(self) -> dict[str, int]:
        """The counts as JSON holds them."""
        return {str(bucket): self.counts[bucket] for bucket in sorted(self.counts)}

    @classmethod
    def from_json(cls, counts: Mapping[str, int]) -> Histogram:
        """Read what `to_json` wrote."""
        return cls({int(bucket): int(count) for bucket, count in counts.items()})


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of everything that several counted."""
    counts: dict[int, int] = {}
    for one in histograms:
        for bucket, count in one.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
    return Histogram(counts)
