"""What figures mean."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.scan.load.histogram import Histogram
from pipeline.scan.load.measurement import Generator, Measurement, Usage, with_usage
from pipeline.scan.load.thresholds import Limits, Verdict, judge, verdict_of
from tests.unit.scan.load.making import endpoint, measurement

NO_CPU = Limits(cpu_warning=None, cpu_critical=None)


def used(cpu: float) -> Usage:
    return Usage(cpu=cpu, cpu_max=cpu, memory_bytes=50_000_000)


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (0.02, Verdict.PASS),
        (1.99, Verdict.PASS),
        (2.05, Verdict.WARN),
        (4.9, Verdict.WARN),
        (5.1, Verdict.BLOCK),
    ],
)
def test_slow_answers_warn_from_two_seconds_and_block_from_five(seconds: float, verdict: Verdict) -> None:
    assert verdict_of(judge(measurement(endpoint(times_s=seconds)), NO_CPU)) is verdict


@pytest.mark.parametrize(
    ("failed", "verdict"), [(10, Verdict.PASS), (12, Verdict.WARN), (50, Verdict.WARN), (60, Verdict.BLOCK)]
)
def test_failures_warn_from_one_percent_and_block_from_five(failed: int, verdict: Verdict) -> None:
    one = endpoint(failed=(failed,) + (0,) * 19, errors={"status 500": failed})

    assert verdict_of(judge(measurement(one), NO_CPU)) is verdict


@pytest.mark.parametrize(
    ("cpu", "verdict"),
    [(0.7, Verdict.PASS), (0.8, Verdict.WARN), (0.95, Verdict.BLOCK), (None, Verdict.NOT_CHECKED)],
)
def test_cpu_warns_from_seventy_percent_and_blocks_from_ninety(cpu: float | None, verdict: Verdict) -> None:
    """A service whose CPU could not be sampled is not checked."""
    one = measurement(usage=None if cpu is None else used(cpu))

    assert verdict_of(judge(one, Limits())) is verdict


def test_cpus_say_how_much_is_all() -> None:
    assert verdict_of(judge(measurement(usage=used(0.95)), Limits(cpus=2))) is Verdict.PASS


UNSOUND: dict[str, dict[str, Any]] = {
    "busy generator": {"generator": Generator(cpu=0.95, memory_bytes=1)},
    "late generator": {"generator": Generator(cpu=0.1, memory_bytes=1, lag=(Histogram({4000: 500}),))},
    "too few sent": {"attempted": 900},
}


@pytest.mark.parametrize("changes", UNSOUND.values(), ids=UNSOUND)
def test_a_generator_at_its_limit_proves_nothing(changes: dict[str, Any]) -> None:
    """Not even that the service is bad: the figures are the generator's."""
    lines = judge(measurement(endpoint(times_s=6.0), **changes), NO_CPU)

    assert {line.verdict for line in lines} == {Verdict.NOT_CHECKED}
    assert {line.subject for line in lines} == {"generator"}


def test_too_few_requests_prove_nothing_good() -> None:
    lines = judge(measurement(endpoint(each=9)), NO_CPU)

    assert [(line.verdict, line.subject, line.text) for line in lines] == [
        (Verdict.NOT_CHECKED, "GET /", "180 requests, and 200 are needed to judge"),
        (Verdict.NOT_CHECKED, "total", "180 requests, and 200 are needed to judge"),
    ]


def test_too_few_requests_can_prove_something_bad() -> None:
    lines = judge(measurement(endpoint("rare", each=1, times_s=6.0), endpoint()), NO_CPU)

    assert verdict_of(lines) is Verdict.BLOCK
    assert ("rare", "response") in [(one.subject, one.what) for one in lines if one.verdict is Verdict.BLOCK]


def test_no_request_at_all_is_not_checked() -> None:
    nothing = Measurement(
        workload="closed",
        endpoints=(),
        began_at=0,
        duration_s=10,
        warmup_s=0,
        generator=Generator(cpu=0, memory_bytes=0),
    )

    assert verdict_of(judge(nothing, NO_CPU)) is Verdict.NOT_CHECKED
    assert verdict_of([]) is Verdict.NOT_CHECKED


def test_nothing_but_failures_blocks() -> None:
    """There is no response time then, which is no good one."""
    one = endpoint(each=0, windows=(Histogram(),) * 20, failed=(50,) * 20, errors={"connect": 1000})

    lines = judge(measurement(one), NO_CPU)

    assert [line.text for line in lines if line.subject == "GET /"] == [
        "p95 of no good answer, above 5.00 s (`response_critical`)",
        "100.00% of 1000 requests failed: 1000 connect, above 5 % (`errors_critical`)",
    ]
    assert verdict_of(lines) is Verdict.BLOCK


def test_the_worst_stretch_counts_where_a_window_is_set() -> None:
    """Five slow seconds of twenty are a quarter of all answers, and all of the worst five seconds."""
    slow, fast = endpoint(times_s=3.0, seconds=5), endpoint(seconds=15)
    one = measurement(endpoint(windows=(*fast.windows[:7], *slow.windows, *fast.windows[7:])))
    limits = Limits(statistic="p50", cpu_warning=None, cpu_critical=None)

    assert verdict_of(judge(one, limits)) is Verdict.PASS
    worst = judge(one, Limits(statistic="p50", window_s=5, cpu_warning=None, cpu_critical=None))
    assert verdict_of(worst) is Verdict.WARN
    assert worst[0].text == "p50 of the worst 5 s 3.01 s, above 2.00 s (`response_warning`)"


def test_one_endpoint_may_have_limits_of_its_own() -> None:
    limits = Limits(
        cpu_warning=None,
        cpu_critical=None,
        by_endpoint={
            "report": {"response_warning_s": 9.0, "response_critical_s": 10.0},
            "total": {"statistic": "p50"},
        },
    )

    lines = judge(measurement(endpoint("report", times_s=6.0, each=10), endpoint("list")), limits)

    assert verdict_of(lines) is Verdict.PASS


def test_usage_is_what_was_sampled_while_it_was_measured() -> None:
    """CPU seconds so far become CPUs in use; samples of the warm-up do not count."""
    samples = [
        (990.0 + second, float(second) * (2 if second < 10 else 0.5), 1000 + second) for second in range(40)
    ]

    usage = with_usage(measurement(), samples).usage

    assert usage is not None
    assert usage.cpu == pytest.approx(0.5)
    assert (usage.memory_bytes, len(usage.samples)) == (1030, 20)
    assert with_usage(measurement(), samples[:11]).usage is None
