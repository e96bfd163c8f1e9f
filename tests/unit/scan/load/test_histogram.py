"""Durations in buckets of a fixed relative error."""

from __future__ import annotations

import json
import math
import random

import pytest

from pipeline.scan.load.histogram import Histogram, bucket_of, merged, middle_us


def test_buckets_grow_without_a_gap_and_hold_their_own_middle() -> None:
    """Each bucket follows the last, over five decades."""
    buckets = [bucket_of(value) for value in range(200_000)]

    assert sorted(set(buckets)) == list(range(buckets[-1] + 1))
    assert all(bucket_of(int(middle_us(bucket))) == bucket for bucket in set(buckets))


@pytest.mark.parametrize("seconds", [0.000_001, 0.000_4, 0.0123, 0.756, 5.0, 3600.0])
def test_a_duration_is_off_by_less_than_half_a_percent(seconds: float) -> None:
    one = Histogram()

    one.record(seconds)

    assert one.quantile(0.5) == pytest.approx(seconds, rel=0.004)


def test_quantiles_are_those_of_the_sorted_values() -> None:
    """To the nearest rank, within the error of a bucket."""
    draw = random.Random(7)  # noqa: S311 - any values will do
    values = sorted(draw.lognormvariate(-4, 1) for _ in range(5000))
    one = Histogram()
    for value in values:
        one.record(value)

    for share in (0.01, 0.5, 0.9, 0.95, 0.99, 1.0):
        exact = values[math.ceil(share * len(values)) - 1]
        assert one.quantile(share) == pytest.approx(exact, rel=0.005)
    assert one.mean() == pytest.approx(sum(values) / len(values), rel=0.005)


def test_merged_and_read_back_histograms_count_everything() -> None:
    one, other = Histogram(), Histogram()
    one.add(0.010, 3)
    other.add(0.010, 2)
    other.record(1.5)

    both = merged([one, Histogram.from_json(json.loads(json.dumps(other.to_json())))])

    assert (both.count, both.quantile(5 / 6), both.quantile(1)) == (6, one.quantile(1), other.quantile(1))


def test_nothing_counted_is_no_number() -> None:
    """An empty histogram has neither quantile nor mean, and is false."""
    assert (math.isnan(Histogram().quantile(0.5)), math.isnan(Histogram().mean()), bool(Histogram())) == (
        True,
        True,
        False,
    )
