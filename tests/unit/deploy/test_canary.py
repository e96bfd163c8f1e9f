"""The statistics of canaries: what they decide, and how often they are wrong."""

from __future__ import annotations

import itertools
import random
from typing import Final

import pytest

from pipeline.deploy.canary import (
    Limits,
    binomial_at_least,
    binomial_at_most,
    judge,
    percentile,
    rank_sum_p,
    sequential_evidence,
    upper_bound,
)
from pipeline.deploy.target import Traffic

FAST: Final = (0.05,) * 40


def _traffic(requests: int, errors: int, latencies: tuple[float, ...] = FAST) -> Traffic:
    return Traffic(requests=requests, errors=errors, latencies=latencies)


@pytest.mark.parametrize(
    ("new", "old", "decision", "told"),
    [
        (_traffic(0, 0, ()), _traffic(900, 0), "inconclusive", "no request has reached it"),
        (_traffic(30, 0), _traffic(900, 0), "inconclusive", "too few to tell 1% from 5%"),
        (_traffic(100, 0), _traffic(900, 0), "pass", "the true rate is below 3.0% (95 %)"),
        (_traffic(60, 5), _traffic(900, 3), "breach", "5 of 60 requests failed (8.3%)"),
        (_traffic(1000, 21), _traffic(9000, 190), "hold", "more than the 1% that warns"),
        (_traffic(1000, 9), _traffic(9000, 9), "breach", "of the old release 9 of 9000"),
        (_traffic(100, 0, (0.05,) * 10), None, "inconclusive", "only 10 response times were seen"),
        (_traffic(100, 0, (2.5,) * 40), None, "hold", "p95 is 2.5 s, above 2 s"),
        (_traffic(100, 0, (6.0,) * 40), None, "breach", "p95 is 6 s, above 5 s"),
    ],
)  # fmt: skip
def test_what_requests_show(new: Traffic, old: Traffic | None, decision: str, told: str) -> None:
    """Each verdict says what decided it."""
    verdict = judge(new, old, Limits())

    assert (verdict.decision, told in verdict.reason) == (decision, True), verdict


def test_a_verdict_has_its_numbers() -> None:
    """All that is needed to work it out again."""
    verdict = judge(_traffic(100, 0), _traffic(900, 1), Limits())

    assert verdict.numbers == {
        "requests": 100, "errors": 0, "evidence": -4.124, "decided_at": 2.944, "p95_s": 0.05,
        "old_p95_s": 0.05, "p_latency": 1.0,
    }  # fmt: skip


def test_no_errors_bound_the_true_rate() -> None:
    """299 clean requests stay below 1 %, 59 below 5 %."""
    assert (round(upper_bound(0, 299), 4), round(upper_bound(0, 59), 4)) == (0.01, 0.0495)


def test_errors_and_successes_weigh_as_the_likelihood_says() -> None:
    """1.609 for an error, -0.0412 for a success."""
    error, bound = sequential_evidence(1, 1, Limits())
    success, _ = sequential_evidence(0, 1, Limits())

    assert (round(error, 3), round(success, 4), round(bound, 3)) == (1.609, -0.0412, 2.944)


def test_binomial_tails_meet() -> None:
    """Up to one number and from the next on is everything."""
    assert binomial_at_most(3, 20, 0.2) + binomial_at_least(4, 20, 0.2) == pytest.approx(1)
    assert binomial_at_least(2, 3, 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (4, 4), (5, 3)])
def test_few_ranks_are_counted_exactly(first: int, second: int) -> None:
    """As going through all orders does."""
    orders = list(itertools.combinations(range(first + second), first))

    for chosen in orders:
        others = [value for value in range(first + second) if value not in chosen]
        wins = sum(one > other for one in chosen for other in others)
        as_good = sum(
            sum(one > other for one in order for other in range(first + second) if other not in order) >= wins
            for order in orders
        )
        assert rank_sum_p(chosen, others) == pytest.approx(as_good / len(orders))


def test_four_against_four_can_never_be_sure() -> None:
    """The surest outcome has a p-value of 1 in 70."""
    assert rank_sum_p((5, 6, 7, 8), (1, 2, 3, 4)) == pytest.approx(1 / 70)


def test_equal_values_say_nothing() -> None:
    """Not even many."""
    assert rank_sum_p((1.0,) * 50, (1.0,) * 50) == 1.0
    assert percentile((3, 1, 2), 95) == 3


def _abort_after(chance: random.Random, rate: float, most: int = 2000) -> int | None:
    """Look after each request until it is decided; how many it took to abort, None when it did not."""
    errors = 0
    for number in range(1, most + 1):
        errors += chance.random() < rate
        evidence, bound = sequential_evidence(errors, number, Limits())
        if abs(evidence) >= bound:
            return number if evidence > 0 else None
    return None


def test_a_good_release_is_rarely_aborted_and_a_bad_one_soon() -> None:
    """At 0.5 % of errors at most 1 in 100; 10 % are caught within 60 requests on average."""
    chance = random.Random(4711)  # noqa: S311

    good = [_abort_after(chance, 0.005) for _ in range(3000)]
    bad = [_abort_after(chance, 0.10) for _ in range(1000)]

    assert sum(end is not None for end in good) / len(good) <= 0.01
    caught = [end for end in bad if end is not None]
    assert len(caught) / len(bad) >= 0.97
    assert sum(caught) / len(caught) <= 60


def test_thirty_percent_slower_is_found_and_as_fast_is_not() -> None:
    """With response times that spread, in ten looks."""
    chance = random.Random(4711)  # noqa: S311

    def times(factor: float, number: int) -> tuple[float, ...]:
        return tuple(factor * chance.lognormvariate(-2.3, 0.25) for _ in range(number))

    slower, same = (
        [
            judge(_traffic(300, 0, times(factor, 200)), _traffic(2700, 0, times(1, 2000)), Limits(), looks=10)
            for _ in range(40)
        ]
        for factor in (1.3, 1.0)
    )

    assert sum(one.decision == "breach" for one in slower) >= 39
    assert all(one.decision == "pass" for one in same)
