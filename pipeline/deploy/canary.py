"""Judges a new release by its requests: pure statistics that stay honest when there are few of them.

Errors are judged by Wald's sequential test against fixed rates, and against the old release by an exact test;
latencies by the rank-sum test of Mann and Whitney together with a difference worth telling. What cannot be
told from the numbers is inconclusive; nothing passes for want of traffic.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.outcome import Decision, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.deploy.target import Traffic

FALSE_ALARM: Final = 0.05
"""How often a good release may be told bad, over all looks together; and a bad one good."""
SURE: Final = 0.005
"""The p-value of a single look at which errors or latencies count as worse than the old release's."""
FEWEST_SAMPLES: Final = 20
"""Of latencies, in each release: fewer are not compared."""
EXACT_UP_TO: Final = 20
"""Samples up to which the rank-sum test counts every order, where no two values are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a release may do: shares of requests from 0 to 1, times in seconds."""

    errors_warning: float = 0.01
    errors_critical: float = 0.05
    response_warning_s: float = 2.0
    response_critical_s: float = 5.0
    max_p95_ratio: float = 1.2
    least_difference_s: float = 0.010  # of the 95th percentiles: less is not worth telling


def judge(new: Traffic, old: Traffic | None, limits: Limits, *, looks: int = 1) -> Verdict:
    """Say what the requests of one step show.

    Args:
        looks: How many times this step is looked at; the chance of a false alarm is shared among them.
    """
    numbers: dict[str, Any] = {"requests": new.requests, "errors": new.errors}
    if new.requests == 0:
        return Verdict(decision="inconclusive", reason="no request has reached it", numbers=numbers)
    findings = [
        _judge_error_rate(new, limits, numbers),
        _judge_errors_beside(new, old, looks, numbers),
        _judge_latency(new, old, limits, looks, numbers),
    ]
    worst: Mapping[Decision, int] = {"breach": 0, "hold": 1, "inconclusive": 2, "pass": 3}
    decision, reason = min(findings, key=lambda finding: worst[finding[0]])
    return Verdict(decision=decision, reason=reason, numbers=numbers)


def _judge_error_rate(new: Traffic, limits: Limits, numbers: dict[str, Any]) -> tuple[Decision, str]:
    """Wald's test between the warning rate and the critical one."""
    evidence, bound = sequential_evidence(new.errors, new.requests, limits)
    numbers |= {"evidence": round(evidence, 3), "decided_at": round(bound, 3)}
    share = f"{new.errors} of {new.requests} requests failed ({new.errors / new.requests:.1%})"
    if evidence >= bound:
        return "breach", f"{share}: more than {limits.errors_warning:.0%}, as sure as 19 of 20"
    if evidence > -bound:
        rates = f"{limits.errors_warning:.0%} from {limits.errors_critical:.0%}"
        return "inconclusive", f"{share}: too few to tell {rates}"
    if binomial_at_least(new.errors, new.requests, limits.errors_warning) <= FALSE_ALARM:
        return "hold", f"{share}: more than the {limits.errors_warning:.0%} that warns"
    return "pass", f"{share}; the true rate is below {upper_bound(new.errors, new.requests):.1%} (95 %)"


def sequential_evidence(errors: int, requests: int, limits: Limits) -> tuple[float, float]:
    """Return the log likelihood ratio of the critical error rate to the warning one, and where it decides.

    At the bound or above the rate is bad, at its negative or below it is good, between nothing is known yet.
    """
    good, bad = limits.errors_warning, limits.errors_critical
    each_error, each_success = math.log(bad / good), math.log((1 - bad) / (1 - good))
    bound = math.log((1 - FALSE_ALARM) / FALSE_ALARM)
    return errors * each_error + (requests - errors) * each_success, bound


def upper_bound(errors: int, requests: int, confidence: float = 0.95) -> float:
    """Return the highest true rate that fits so few errors, by the method of Clopper and Pearson."""
    low, high = errors / requests, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if binomial_at_most(errors, requests, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def binomial_at_most(successes: int, trials: int, chance: float) -> float:
    """Return the probability of so many successes or fewer."""
    return math.fsum(_binomial(number, trials, chance) for number in range(successes + 1))


def binomial_at_least(successes: int, trials: int, chance: float) -> float:
    """Return the probability of so many successes or more."""
    return math.fsum(_binomial(number, trials, chance) for number in range(successes, trials + 1))


def _binomial(number: int, trials: int, chance: float) -> float:
    if chance in (0.0, 1.0):
        return float(number == trials * chance)
    ways = math.lgamma(trials + 1) - math.lgamma(number + 1) - math.lgamma(trials - number + 1)
    return math.exp(ways + number * math.log(chance) + (trials - number) * math.log1p(-chance))


def _judge_errors_beside(
    new: Traffic, old: Traffic | None, looks: int, numbers: dict[str, Any]
) -> tuple[Decision, str]:
    """Whether the new release has more than its part of all errors, given its part of all requests."""
    if old is None or old.requests == 0 or new.errors == 0:
        return "pass", "no more errors than the old release"
    share = new.requests / (new.requests + old.requests)
    chance = binomial_at_least(new.errors, new.errors + old.errors, share)
    numbers |= {"old_requests": old.requests, "old_errors": old.errors, "p_errors": round(chance, 6)}
    is_worse = new.errors / new.requests > 1.5 * old.errors / old.requests
    if chance <= SURE / looks and is_worse:
        beside = f"of the old release {old.errors} of {old.requests} (p = {chance:.2g})"
        return "breach", f"{new.errors} of {new.requests} requests failed, {beside}"
    return "pass", f"no more errors than the old release (p = {chance:.2g})"


def _judge_latency(
    new: Traffic, old: Traffic | None, limits: Limits, looks: int, numbers: dict[str, Any]
) -> tuple[Decision, str]:
    """Against the fixed limits, and against the old release."""
    if len(new.latencies) < FEWEST_SAMPLES:
        few = f"only {len(new.latencies)} response times were seen, {FEWEST_SAMPLES} are needed"
        return "inconclusive", few
    p95 = percentile(new.latencies, 95)
    numbers["p95_s"] = round(p95, 4)
    if p95 > limits.response_warning_s:
        is_critical = p95 > limits.response_critical_s
        limit = limits.response_critical_s if is_critical else limits.response_warning_s
        return ("breach" if is_critical else "hold"), f"p95 is {p95:.3g} s, above {limit:g} s"
    if old is None or len(old.latencies) < FEWEST_SAMPLES:
        return "pass", f"p95 is {p95:.3g} s"
    before = percentile(old.latencies, 95)
    chance = rank_sum_p(new.latencies, old.latencies)
    numbers |= {"old_p95_s": round(before, 4), "p_latency": round(chance, 6)}
    is_worth_telling = p95 > before * limits.max_p95_ratio and p95 - before > limits.least_difference_s
    if chance <= SURE / looks and is_worth_telling:
        return "breach", f"p95 is {p95:.3g} s, of the old release {before:.3g} s (p = {chance:.2g})"
    return "pass", f"p95 is {p95:.3g} s, of the old release {before:.3g} s"


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def rank_sum_p(larger: Sequence[float], smaller: Sequence[float]) -> float:
    """Return how likely values so much larger than the others are when both come from one distribution.

    One-sided test of Mann and Whitney: exact for a few values that all differ, else by the normal
    approximation with corrections for ties and continuity.
    """
    first, second = len(larger), len(smaller)
    total = first + second
    counts = Counter([*larger, *smaller])
    ranks = _mid_ranks(counts)
    wins = math.fsum(ranks[value] for value in larger) - first * (first + 1) / 2
    if total <= EXACT_UP_TO and len(counts) == total:
        return _exact_tail(first, second, round(wins))
    ties = math.fsum(count**3 - count for count in counts.values())
    variance = first * second / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return math.erfc((wins - first * second / 2 - 0.5) / math.sqrt(variance) / math.sqrt(2)) / 2


def _mid_ranks(counts: Mapping[float, int]) -> dict[float, float]:
    """Rank each value from 1; equal ones share the middle of their ranks."""
    values = sorted(counts)
    ends = accumulate(counts[value] for value in values)
    return {value: end - (counts[value] - 1) / 2 for value, end in zip(values, ends, strict=True)}


def _exact_tail(first: int, second: int, wins: int) -> float:
    """Return the share of all orders in which the first sample wins at least so many comparisons."""
    ways = [[0] * (first * second + 1) for _ in range(first + 1)]
    ways[0][0] = 1
    for value in range(1, first + second + 1):
        for taken in range(min(first, value), 0, -1):
            gain = value - taken
            if gain > second:
                continue
            row, below = ways[taken], ways[taken - 1]
            ways[taken] = [
                count + (below[total - gain] if total >= gain else 0) for total, count in enumerate(row)
            ]
    return sum(ways[first][wins:]) / math.comb(first + second, first)
