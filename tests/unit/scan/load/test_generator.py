"""The generator as a process of its own against servers on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.scan.load.histogram import merged
from pipeline.scan.load.measurement import parse_measurement, to_json
from tests.unit.scan.load.loopback import OK, generate, plan_for, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # it sends by the clock: the machine has to be its own


async def at_once(_number: int, _line: str) -> bytes:
    return OK


def test_every_request_that_is_due_is_sent_and_counted(tmp_path: Path) -> None:
    """What was due in the warm-up is left out."""
    with serving(at_once) as port:
        measured = generate(plan_for(port), tmp_path)

    assert (measured.due, measured.attempted, measured.total.requests) == (200, 200, 200)
    assert (measured.achieved, measured.rate, measured.total.errors) == (1.0, 100.0, {})
    assert [window.count for window in measured.endpoints[0].windows] == [100, 100]
    assert sum(lag.count for lag in measured.generator.lag) == 200
    assert measured.generator.memory_bytes < 80e6


def test_a_stall_counts_for_every_request_that_was_due_in_it(tmp_path: Path) -> None:
    """A closed workload would have seen one slow answer in each stall: the others were never sent."""
    began = time.monotonic()

    async def stalls(_number: int, _line: str) -> bytes:
        phase = (time.monotonic() - began) % 2
        if phase > 1.5:
            await asyncio.sleep(2 - phase)
        return OK

    with serving(stalls) as port:
        measured = generate(plan_for(port, duration_s=4, warmup_s=0), tmp_path)

    # A quarter of the requests wait, evenly from nothing to half a second.
    assert measured.total.times.quantile(0.95) == pytest.approx(0.4, abs=0.06)
    assert measured.total.times.quantile(0.5) < 0.1
    assert measured.service_time is not None
    assert measured.service_time.count == 400


def test_failures_are_told_by_kind_and_only_timeouts_have_a_time(tmp_path: Path) -> None:
    """Statuses from 400 on, connections that break, what is no HTTP, and answers that never come."""

    async def answer(_number: int, line: str) -> bytes:
        path = line.split()[1]
        if path == "/slow":
            await asyncio.sleep(5)
        return {"/bad": OK.replace(b"200 OK", b"503 Busy"), "/cut": b"", "/odd": b"hello\r\n\r\n"}.get(
            path, OK
        )

    kinds = ("/bad", "/cut", "/odd", "/slow")
    requests = [{"name": path, "method": "POST", "paths": [path]} for path in kinds]
    with serving(answer) as port:
        measured = generate(plan_for(port, requests=requests, timeout_s=0.5), tmp_path)

    errors = {one.name: set(one.errors) for one in measured.endpoints}
    assert errors == {
        "/bad": {"status 503"},
        "/cut": {"reset"},
        "/odd": {"bad response"},
        "/slow": {"timeout"},
    }
    assert measured.total.error_share == 1.0
    assert (measured.total.requests, measured.due) == (200, 200)
    times = {one.name: one.times.count for one in measured.endpoints}
    assert (times["/bad"], times["/cut"], times["/odd"]) == (0, 0, 0)
    assert measured.endpoints[3].times.quantile(0.5) == pytest.approx(0.5, rel=0.01)


def test_expected_statuses_count_as_good(tmp_path: Path) -> None:
    async def answer(_number: int, _line: str) -> bytes:
        return OK.replace(b"200 OK", b"404 Not Found")

    requests = [{"name": "a", "paths": ["/a"], "expect": [404]}, {"name": "b", "paths": ["/b"]}]
    with serving(answer) as port:
        measured = generate(plan_for(port, requests=requests), tmp_path)

    assert {one.name: one.error_share for one in measured.endpoints} == {"a": 0.0, "b": 1.0}


def test_a_service_that_refuses_connections_is_all_failures(tmp_path: Path) -> None:
    with serving(at_once) as port:
        pass  # it is gone again: nobody listens

    measured = generate(plan_for(port, duration_s=1), tmp_path)

    assert (measured.total.errors, measured.achieved) == ({"connect": 100}, 1.0)


def test_an_idle_connection_that_the_server_closes_is_no_failure(tmp_path: Path) -> None:
    """Servers close kept connections; a request that only meets the end of one is sent again."""

    async def answer(number: int, _line: str) -> bytes:
        return OK if number % 7 else OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with serving(answer) as port:
        measured = generate(plan_for(port), tmp_path)

    assert (measured.total.requests, measured.total.errors) == (200, {})


def test_a_limit_of_connections_shows_in_what_was_sent(tmp_path: Path) -> None:
    """What had to wait for another request's connection was not sent when it was due."""

    async def slow(_number: int, _line: str) -> bytes:
        await asyncio.sleep(1)
        return OK

    with serving(slow) as port:
        measured = generate(plan_for(port, max_connections=10, timeout_s=0.6), tmp_path)

    assert measured.achieved < 0.5
    assert measured.total.requests == 200


def test_endpoints_are_sent_by_weight_and_variants_in_turn(tmp_path: Path) -> None:
    """The same plan sends the same requests each time."""
    seen: list[list[str]] = []

    async def note(_number: int, line: str) -> bytes:
        seen[-1].append(line)
        return OK

    requests: list[dict[str, Any]] = [
        {"name": "a", "paths": ["/a?1", "/a?2"], "weight": 9},
        {"name": "b", "method": "POST", "paths": ["/b"], "weight": 1},
    ]
    for _ in range(2):
        seen.append([])
        with serving(note) as port:
            generate(plan_for(port, requests=requests, duration_s=1, warmup_s=0), tmp_path)

    assert sorted(seen[0]) == sorted(seen[1])
    counts = {line.split()[1]: seen[0].count(line) for line in seen[0]}
    assert counts.keys() == {"/a?1", "/a?2", "/b"}
    assert counts["/b"] == 10


@pytest.mark.parametrize("arrival", ["constant", "poisson"])
def test_several_workers_share_one_plan(arrival: str, tmp_path: Path) -> None:
    """Together they send what one would, at the same times."""
    with serving(at_once) as port:
        one = generate(plan_for(port, arrival=arrival), tmp_path)
        two = generate(plan_for(port, arrival=arrival, workers=2), tmp_path)

    assert (two.due, two.total.requests) == (one.due, one.total.requests)
    sent = [[window.count for window in each.endpoints[0].windows] for each in (one, two)]
    assert sent[0] == sent[1]


def test_a_measurement_reads_back_as_it_was_written(tmp_path: Path) -> None:
    with serving(at_once) as port:
        measured = generate(plan_for(port, duration_s=1), tmp_path)

    again = parse_measurement(to_json(measured), "again")

    assert to_json(again) == to_json(measured)
    assert json.loads(to_json(again))["format"] == 1
    assert merged(again.generator.lag).count == 100
