"""Ports on 127.0.0.1 of this machine that lead to a service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.engine import ops
from pipeline.engine.runtime.datagrams import DatagramRelay
from pipeline.engine.runtime.relay import relay
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pipeline.engine.runtime.relay import Way

_LOOPBACK: Final = "127.0.0.1"
_FIRST_FREE: Final = 1024  # what is below is root's alone, unless the machine says otherwise


class TunnelFailed(EngineError):
    """A port of this machine cannot be listened on."""

    def __init__(self, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on port {port}: {reason}")
        self.port = port
        if 0 < port < _FIRST_FREE and "permission denied" in reason:
            self.hint = (
                f"take one from {_FIRST_FREE} on, or allow it:"
                f" sudo sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
            )


def loopback_of(address: str) -> str:
    """Return the loopback address under which the host sees what is at 10.x.y.z in a network apart."""
    return "127" + address[address.index(".") :]


class Doors:
    """Listeners on loopback addresses that show services of a network apart; shared by all who use one."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Tunnel, int]] = {}
        self._changing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def open(self, address: str, way: Way, ports: Sequence[int]) -> AsyncIterator[None]:
        """Listen on `address` and TCP `ports`, the service's own, as long as somebody is in the body.

        Raises:
            TunnelFailed: A port is in use, or is one that only root may listen on.
        """
        async with self._changing:
            tunnel, users = self._open.get(address, (Tunnel(), 0))
            if not users:
                same = tuple(ops.PortForward(frontend=port, backend=port) for port in sorted({*ports}))
                try:
                    await tunnel.open(way, same, address=address)
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
        self._relays: list[DatagramRelay] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, way: Way, ports: tuple[ops.PortForward, ...], *, address: str = _LOOPBACK) -> None:
        """Listen on each `frontend` (0 picks one), and lead to its `backend`.

        Raises:
            TunnelFailed: A port is in use.
        """
        for forward in ports:
            listen = self._listen if forward.protocol == "TCP" else self._listen_to_datagrams
            try:
                real = await listen(way, forward, address)
            except OSError as error:
                raise TunnelFailed(forward.frontend, str(error.strerror).lower()) from error
            self.ports += (replace(forward, frontend=real),)

    async def _listen(self, way: Way, forward: ops.PortForward, address: str) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine runs in one
            self._tasks.add(task)
            try:
                await relay(reader, writer, lambda: way.connect(forward.backend))
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, address, forward.frontend)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _listen_to_datagrams(self, way: Way, forward: ops.PortForward, address: str) -> int:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            listener.bind((address, forward.frontend))
        except OSError:
            listener.close()
            raise
        datagrams = DatagramRelay(lambda: way.connect_datagrams(forward.backend))
        await datagrams.open(listener)
        self._relays.append(datagrams)
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end the connections."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(each.close() for each in self._relays), return_exceptions=True)
        self._relays.clear()
