"""What a container holds while it runs: the services that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.engine import ops
from pipeline.engine.runtime.errors import ServiceExited

if TYPE_CHECKING:
    from pipeline.engine.runtime.service import ContainerRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Services held for one exec: lines for its hosts file, as pairs of address and name.

    Those held come first, then whatever else runs in the session.
    """

    hosts: tuple[tuple[str, str], ...] = ()


Bind = Callable[[tuple[ops.ServiceBinding, ...]], AbstractAsyncContextManager[Bound]]
"""Holds services while its body runs; see `Services.bind`."""


class Holder:
    """Holds the services that another one needs, in a task of its own, and ends that one with them."""

    def __init__(self, bind: Bind, bindings: tuple[ops.ServiceBinding, ...], user: ContainerRun) -> None:
        self._bind = bind
        self._bindings = bindings
        self._user = user
        self._task: asyncio.Task[None] | None = None
        self._enough = asyncio.Event()

    async def hold(self) -> Bound:
        """Return when all are healthy.

        Raises:
            ExecFailed: One of them does not start.
        """
        ready: asyncio.Future[Bound] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._keep(ready))
        try:
            return await ready
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            raise

    async def let_go(self) -> None:
        """Release them."""
        self._enough.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self, ready: asyncio.Future[Bound]) -> None:
        try:
            async with self._bind(self._bindings) as bound:
                ready.set_result(bound)
                await self._enough.wait()
        except ServiceExited:
            self._user.kill()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
