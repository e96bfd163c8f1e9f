"""Ports on 127.0.0.1 of this machine that lead to a service."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.engine import ops
from pipeline.engine.runtime.relay import relay
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pipeline.engine.runtime.relay import Streams

_LOOPBACK: Final = "127.0.0.1"


class TunnelFailed(EngineError):
    """A port of this machine cannot be listened on."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on port {port}: {reason}")
        self.port = port


def loopback_of(address: str) -> str:
    """Return the loopback address under which the host sees what is at 10.x.y.z in a network apart."""
    return "127" + address[address.index(".") :]


class Doors:
    """Listeners on loopback addresses that show services of a network apart; shared by all who use one."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Tunnel, int]] = {}
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(
        self, address: str, connect: Callable[[int], Awaitable[Streams]], ports: Sequence[int]
    ) -> AsyncIterator[None]:
        """Listen on `address` and TCP `ports`, the service's own, as long as somebody is in the body.

        Raises:
            TunnelFailed: A port is in use, or is one that only root may listen on.
        """
        async with self._changing:
            tunnel, users = self._open.get(address, (Tunnel(), 0))
            if not users:
                same = tuple(ops.PortForward(frontend=port, backend=port) for port in sorted({*ports}))
                try:
                    await tunnel.open(connect, same, address=address)
                except BaseException:
                    await tunnel.close()
                    raise
            self._open[address] = (tunnel, users + 1)
        try:
            yield
        finally:
            tunnel, users = self._open.pop(address)
            if users > 1:
                self._open[address] = (tunnel, users - 1)
            else:
                await tunnel.close()


class Tunnel:
    """Listeners for one service."""

    def __init__(self) -> None:
        self.ports: tuple[ops.PortForward, ...] = ()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(
        self,
        connect: Callable[[int], Awaitable[Streams]],
        ports: tuple[ops.PortForward, ...],
        *,
        address: str = _LOOPBACK,
    ) -> None:
        """Listen on each `frontend` (0 picks one); `connect` opens a connection to a `backend`.

        Raises:
            TunnelFailed: A port is in use, or is not TCP.
        """
        for forward in ports:
            if forward.protocol != "TCP":
                raise TunnelFailed(forward.frontend, "only TCP can be tunnelled")
            server = await self._listen(connect, forward, address)
            self._servers.append(server)
            real = server.sockets[0].getsockname()[1]
            self.ports += (replace(forward, frontend=real),)

    async def _listen(
        self, connect: Callable[[int], Awaitable[Streams]], forward: ops.PortForward, address: str
    ) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine runs in one
            self._tasks.add(task)
            try:
                await relay(reader, writer, lambda: connect(forward.backend))
            finally:
                self._tasks.discard(task)

        try:
            return await asyncio.start_server(serve, address, forward.frontend)
        except OSError as error:
            raise TunnelFailed(forward.frontend, str(error.strerror).lower()) from error

    async def close(self) -> None:
        """Stop listening and end the connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
