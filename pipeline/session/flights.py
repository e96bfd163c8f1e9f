"""One piece of work for equal requests that are under way at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

K = TypeVar("K")
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Shares work by key; it is cancelled when the last one who waits for it has gone."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiters: dict[K, int] = {}

    async def join(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """Return what `work` returns, or what equal work already under way will return."""
        task = self._tasks.get(key)
        if task is None or task.done():
            task = asyncio.get_running_loop().create_task(_run(work))
            self._tasks[key], self._waiters[key] = task, 0
        self._waiters[key] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._tasks.get(key) is task and self._waiters[key] == 1 and not task.done():
                task.cancel()
                # Whoever cancelled may count on the work being over; its clean-up is bounded by itself.
                await asyncio.wait([task])
            raise
        finally:
            self._leave(key, task)

    def _leave(self, key: K, task: asyncio.Task[V]) -> None:
        if self._tasks.get(key) is not task:
            return
        self._waiters[key] -= 1
        if not self._waiters[key]:
            del self._tasks[key], self._waiters[key]


async def _run(work: Callable[[], Awaitable[V]]) -> V:
    return await work()
