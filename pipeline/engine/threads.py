"""Blocking work in threads, and waits that a cancellation cannot cut short."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

R = TypeVar("R")


async def in_thread(work: Callable[[], R]) -> R:
    """Run blocking work in a thread. A cancelled caller waits for its end too: it holds mounts and files."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await settled(task)
        raise


async def together(calls: Iterable[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Do all at once; of several failures, which come for one reason, the first is raised."""
    try:
        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(call)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


async def settled(*tasks: asyncio.Future[Any], within_s: float | None = None) -> None:
    """Wait until the tasks have ended, however often the caller is cancelled meanwhile; raises nothing.

    For the clean-up of a caller that is leaving already: it re-raises the cancellation it has.

    Args:
        within_s: The longest wait, in seconds; None waits without limit.
    """
    loop = asyncio.get_running_loop()
    give_up = None if within_s is None else loop.time() + within_s
    waiting = set(tasks)
    # The scope keeps anyio from cancelling over and over; `suppress` is for asyncio, which knows no shield.
    with anyio.CancelScope(shield=True):
        while waiting:
            left = None if give_up is None else give_up - loop.time()
            if left is not None and left <= 0:
                return
            with contextlib.suppress(asyncio.CancelledError):
                _, waiting = await asyncio.wait(waiting, timeout=left)
            waiting = {task for task in waiting if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # read here, so that a failure nobody waits for any more is not logged
