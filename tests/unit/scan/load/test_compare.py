"""Slower, or only other: two measurements against each other."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.scan.load.compare import NotCompared, compare
from pipeline.scan.load.histogram import Histogram
from pipeline.scan.load.measurement import Generator
from tests.unit.scan.load.making import drawn, endpoint, measurement

if TYPE_CHECKING:
    from pipeline.scan.load.measurement import Measurement

RUNS = 20


@pytest.mark.parametrize("spread", [0.2, 0.5, 0.8], ids=["calm", "usual", "wild"])
def test_a_third_slower_is_found_and_the_same_is_not(spread: float) -> None:
    """Of twenty runs that are 30 % slower at least 19, of twenty that are not at most one."""
    found = alarms = 0
    for seed in range(RUNS):
        before = drawn(3 * seed, typical_s=0.020, spread=spread)
        same = drawn(3 * seed + 1, typical_s=0.020, spread=spread)
        slower = drawn(3 * seed + 2, typical_s=0.026, spread=spread)
        found += any(one.is_slower for one in compare(before, slower)[0])
        alarms += any(one.is_slower for one in compare(before, same)[0])

    assert found >= RUNS - 1
    assert alarms <= 1


def test_a_comparison_says_by_how_much_and_is_the_same_each_time() -> None:
    before, after = drawn(1, typical_s=0.020), drawn(2, typical_s=0.030)

    changes, left_out = compare(before, after)

    assert [(one.endpoint, one.statistic) for one in changes] == [("GET /", "typical"), ("GET /", "p95")]
    assert all(1.3 < one.low < one.ratio < 1.7 for one in changes)
    assert left_out == []
    assert compare(before, after) == (changes, left_out)


def test_faster_is_not_slower() -> None:
    changes, _ = compare(drawn(1, typical_s=0.030), drawn(2, typical_s=0.020))

    assert [one.is_slower for one in changes] == [False, False]


def test_a_slower_tail_is_found_by_itself() -> None:
    """Every tenth answer takes three times as long; the typical one hardly changes."""
    before = drawn(1, typical_s=0.020, spread=0.2)
    worse = [
        Histogram(window.counts) for window in drawn(2, typical_s=0.020, spread=0.2).endpoints[0].windows
    ]
    for window in worse:
        window.add(0.060, 5)
    after = measurement(endpoint(windows=tuple(worse)))

    changes, _ = compare(before, after)

    assert {one.statistic: one.is_slower for one in changes}["p95"]


def test_a_change_too_small_to_matter_is_none() -> None:
    """A tenth of a millisecond, though a third of the whole."""
    changes, _ = compare(drawn(1, typical_s=0.0003, spread=0.1), drawn(2, typical_s=0.0004, spread=0.1))

    assert [one.is_slower for one in changes if one.statistic == "typical"] == [False]


def test_seconds_in_which_the_machine_was_busy_are_left_out() -> None:
    """They show in the generator's own lag; a slow service does not make it late."""
    calm, busy = Histogram(), Histogram()
    calm.add(0.0002, 50)
    busy.add(0.030, 50)
    before = drawn(1, typical_s=0.020)
    slow = drawn(3, typical_s=0.060).endpoints[0].windows[:8]
    windows = (*slow, *drawn(2, typical_s=0.020).endpoints[0].windows[8:])
    lag = (busy,) * 8 + (calm,) * 12
    disturbed = measurement(endpoint(windows=windows), generator=Generator(cpu=0.1, memory_bytes=1, lag=lag))
    undisturbed = replace(disturbed, generator=Generator(cpu=0.1, memory_bytes=1, lag=(calm,) * 20))

    assert [one.is_slower for one in compare(before, disturbed)[0]] == [False, False]
    assert any(one.is_slower for one in compare(before, undisturbed)[0])


def busy(seed: int, typical_s: float, waits_s: float) -> Measurement:
    """A measurement on a machine where all wait for a CPU, now less and now more: `waits_s` on average."""
    draw = random.Random(seed)  # noqa: S311 - any noise will do
    windows, lags = [], []
    for _ in range(20):
        window, lag, mean_s = Histogram(), Histogram(), waits_s * draw.uniform(0.2, 1.8)
        for _ in range(50):
            waits = [draw.expovariate(1 / mean_s) for _ in range(3)]
            lag.record(waits[0])
            window.record(typical_s * math.exp(draw.gauss(0, 0.4)) + waits[0] + waits[1] / 2)
        windows.append(window)
        lags.append(lag)
    generator = Generator(cpu=0.1, memory_bytes=1, lag=tuple(lags))
    return measurement(endpoint(windows=tuple(windows)), generator=generator)


@pytest.mark.parametrize("waits_s", [0.0002, 0.002], ids=["idle", "busy"])
def test_a_machine_busier_than_for_the_baseline_is_no_slower_service(waits_s: float) -> None:
    """It delays the generator as well, and by that the times are corrected; what is slower is found."""
    found = alarms = 0
    for seed in range(RUNS):
        before = busy(3 * seed, 0.020, 0.0002)
        alarms += any(one.is_slower for one in compare(before, busy(3 * seed + 1, 0.020, waits_s))[0])
        found += any(one.is_slower for one in compare(before, busy(3 * seed + 2, 0.026, waits_s))[0])

    assert found >= RUNS - 1
    assert alarms <= 1


def test_a_much_busier_machine_is_not_compared() -> None:
    """Its lateness is beyond correction: neither "slower" nor "as fast" would be honest."""
    before, after = busy(1, 0.020, 0.0002), busy(2, 0.020, 0.004)

    why = "the machine is much busier than for the baseline"
    assert compare(before, after) == ([], [NotCompared(endpoint="GET /", why=why)])


def test_a_baseline_of_a_busier_machine_finds_what_is_slower_or_says_that_it_cannot() -> None:
    """Never that nothing changed."""
    before, same = busy(1, 0.020, 0.004), busy(2, 0.020, 0.0002)
    twice = busy(3, 0.040, 0.0002)
    why = "the machine was busier when the baseline was measured, which would hide a slow-down"

    assert compare(before, same) == ([], [NotCompared(endpoint="GET /", why=why)])
    assert any(one.is_slower for one in compare(before, twice)[0])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"plan": "other"}, "the baseline was measured with another plan"),
        ({"machine": "other"}, "the baseline was measured on another machine (; here: other)"),
        ({"workload": "closed"}, "the baseline's workload is open, this one is closed"),
    ],
    ids=["plan", "machine", "workload"],
)
def test_only_what_is_alike_is_compared(changes: dict[str, str], why: str) -> None:
    assert compare(measurement(), measurement(**changes)) == ([], [NotCompared(endpoint="", why=why)])


def test_too_little_is_not_compared() -> None:
    """Endpoints the baseline has not, too few answers, and too few seconds; the others are."""
    before = measurement(endpoint("a"), endpoint("b", each=4), endpoint("c"))
    after = measurement(endpoint("a"), endpoint("b"), endpoint("c", seconds=5), endpoint("d"))

    changes, left_out = compare(before, after)

    assert {one.endpoint for one in changes} == {"a", "total"}
    assert {one.endpoint: one.why for one in left_out} == {
        "b": "the baseline has 80 response times, and 100 are needed",
        "c": "this run has only 5 seconds in which the machine was not disturbed",
        "d": "the baseline does not have it",
    }
