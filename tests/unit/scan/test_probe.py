"""One probe a run: bounded in all, remembered, and honest about why."""

from __future__ import annotations

import time

import pytest

from pipeline.scan.probe import Network, Probe, Reach, probe_of, proxy_of
from tests.unit.scan.advisories.worlds import as_json, closed, hanging, serving

pytestmark = pytest.mark.anyio


async def test_any_answer_counts_and_is_remembered() -> None:
    """A status of 404 is an answer; the service is asked once, whatever the path."""
    with serving(lambda *_: as_json({})) as (address, _):
        probe = Probe(Network())
        first = await probe.reach([f"{address}/a"])
    second = await probe.reach([f"{address}/b"])

    assert first == {f"{address}/a": Reach(is_reached=True)}
    assert second == {f"{address}/b": Reach(is_reached=True)}


async def test_all_waiting_of_a_run_is_bounded_however_many_services_hang() -> None:
    """What is asked when the time is used up is told as unreachable without waiting."""
    with hanging() as first, hanging() as second, hanging() as third:
        probe = Probe(Network(), try_s=0.3, all_s=0.5)
        began = time.monotonic()
        one = await probe.reach([first, second])
        two = await probe.reach([third])
        took = time.monotonic() - began

    assert not any(reach.is_reached for reach in [*one.values(), *two.values()])
    assert took < 3


async def test_the_time_that_is_used_up_is_not_given_back() -> None:
    """A second service that would answer is not waited for either."""
    with hanging() as first, serving(lambda *_: as_json({})) as (second, _):
        probe = Probe(Network(), try_s=5, all_s=0.2)
        await probe.reach([first])
        told = await probe.reach([second])

    assert told == {second: Reach(is_reached=False, why="no answer in time")}


async def test_a_refused_connection_says_so() -> None:
    """The host is named, the address's user is not."""
    with closed() as address:
        told = await Probe(Network()).reach([address.replace("//", "//me:secret@")])

    (reach,) = told.values()
    assert reach.why.startswith("127.0.0.1 cannot be reached: ")
    assert "secret" not in reach.why


async def test_a_run_has_one_probe() -> None:
    """Stages that ask for it by the run's name get the same."""
    assert probe_of("run-1", Network()) is probe_of("run-1", Network())
    assert probe_of("run-1", Network()) is not probe_of("run-2", Network())


@pytest.mark.parametrize(
    ("address", "proxy"),
    [
        ("https://a.example.org", "http://proxy:3128"),
        ("http://a.example.org", ""),
        ("https://inside.example.net", ""),
        ("https://b.inside.example.net/x", ""),
        ("https://127.0.0.1:8080", ""),
    ],
)
def test_the_proxy_is_asked_where_the_settings_say(address: str, proxy: str) -> None:
    """Not for loopback, nor for what `no_proxy` names."""
    network = Network(https_proxy="http://proxy:3128", no_proxy="localhost, .inside.example.net")

    assert proxy_of(network, address) == proxy
