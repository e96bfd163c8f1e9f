"""Equal requests under way at once are one piece of work."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.session.flights import Flights

pytestmark = pytest.mark.anyio


class Work:
    """Counts how often it is begun, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = False
        self.may_end = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def test_two_who_ask_at_once_share_one_answer() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()

    first, second = (asyncio.create_task(flights.join("k", work)) for _ in range(2))
    await asyncio.sleep(0)
    work.may_end.set()

    assert (await first, await second, work.begun) == ("done", "done", 1)


async def test_one_who_leaves_does_not_stop_the_other() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    first, second = (asyncio.create_task(flights.join("k", work)) for _ in range(2))
    await asyncio.sleep(0.01)

    first.cancel()
    await asyncio.sleep(0.01)
    work.may_end.set()

    assert await second == "done"
    assert (work.cancelled, first.cancelled()) == (False, True)


async def test_the_last_who_leaves_stops_the_work_before_going_on() -> None:
    flights: Flights[str, str] = Flights()
    work = Work()
    tasks = [asyncio.create_task(flights.join("k", work)) for _ in range(2)]
    await asyncio.sleep(0.01)

    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert work.cancelled


async def test_a_failure_reaches_everybody_and_is_not_kept() -> None:
    flights: Flights[str, str] = Flights()
    begun = 0

    async def fail() -> str:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        raise ValueError(begun)

    both = await asyncio.gather(flights.join("k", fail), flights.join("k", fail), return_exceptions=True)
    later = await asyncio.gather(flights.join("k", fail), return_exceptions=True)

    assert [str(e) for e in (*both, *later)] == ["1", "1", "2"]
