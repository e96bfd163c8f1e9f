"""Figures as people and programs read them."""

from __future__ import annotations

import pytest
from defusedxml.ElementTree import fromstring

from pipeline.scan.load.measurement import MeasurementInvalid, Usage, parse_measurement
from pipeline.scan.load.report import csv_of, lines_text, plot_of, text_of
from pipeline.scan.load.thresholds import Limits, judge
from tests.unit.scan.load.making import drawn, endpoint, measurement


def test_the_table_has_a_row_for_each_endpoint_and_the_total() -> None:
    table = csv_of([measurement(endpoint("GET /a,b"), endpoint("GET /c", each=0, failed=(1,) * 20))])

    assert table.splitlines() == [
        "workload,endpoint,requests,failed,requests_per_s,mean_ms,p50_ms,p90_ms,p95_ms,p99_ms,max_ms",
        'open,"GET /a,b",1000,0,50.00,20.032,20.032,20.032,20.032,20.032,20.032',
        "open,GET /c,20,20,1.00,,,,,,",
        "open,total,1020,20,51.00,20.032,20.032,20.032,20.032,20.032,20.032",
    ]


def test_the_picture_is_one_diagram_for_each_kind_of_figure() -> None:
    """Names and figures in it cannot break it."""
    one = measurement(
        endpoint("<b>&"), usage=Usage(cpu=0.5, cpu_max=0.6, memory_bytes=9, samples=((0.5, 0.4, 8_000_000),))
    )

    picture = fromstring(plot_of(one))

    lines = [node for node in picture.iter() if node.tag.endswith("polyline")]
    assert len(lines) == 7
    assert (
        len(
            [
                node
                for node in fromstring(plot_of(drawn(1, typical_s=0.02))).iter()
                if node.tag.endswith("polyline")
            ]
        )
        == 5
    )


def test_the_log_says_what_kind_of_workload_it_was() -> None:
    opened = text_of(measurement(), "p95")
    closed = text_of(measurement(workload="closed", target_rate=None), "p95")

    assert opened.splitlines()[0] == (
        "open workload, 50 requests/s, timed from when each was due; 20 s after 1 s of warm-up"
    )
    assert (
        opened.splitlines()[1]
        == "  GET /: 1000 requests, 0.00% failed, p50 20 ms, p95 20 ms, p99 20 ms, max 20 ms"
    )
    assert closed.startswith("closed workload: its users wait for answers")


def test_only_what_is_not_good_is_told_the_worst_first() -> None:
    lines = judge(measurement(endpoint("slow", times_s=6), endpoint("rare", each=1)), Limits())

    assert [line.partition(": ")[0] for line in lines_text(lines)] == [
        "block",
        "block",
        "not checked",
        "not checked",
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "workload": "open"}'])
def test_a_damaged_measurement_is_told(text: str) -> None:
    with pytest.raises(MeasurementInvalid, match="cannot read the measurement `old`"):
        parse_measurement(text, "old")
