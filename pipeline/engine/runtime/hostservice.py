"""Ports of this machine as a service: what containers find under its name leads here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.datagrams import DatagramRelay, datagrams_to
from pipeline.engine.runtime.relay import relay
from pipeline.engine.runtime.tunnel import TunnelFailed

if TYPE_CHECKING:
    from pipeline.engine import ops
    from pipeline.engine.runtime.network import Namespace, Network
    from pipeline.engine.runtime.relay import Streams

_LOOPBACK: Final = "127.0.0.1"


class HostRun:
    """Ports of this machine, shown in a namespace of their own; what they lead to is not watched."""

    def __init__(self, service: ops.HostService, network: Network) -> None:
        self._service = service
        self._network = network
        self._stack = contextlib.AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ran_out_of_memory = False  # it is no process of ours
        self.address = _LOOPBACK

    async def start(self) -> None:
        """Listen on every port.

        Raises:
            NetworkFailed: There is no namespace to be had.
            TunnelFailed: A port is asked for twice.
        """
        namespace = await self._stack.enter_async_context(self._network.lease())
        self.address = namespace.address or _LOOPBACK
        for forward in self._service.ports:
            await self._listen(namespace, forward)

    async def _listen(self, namespace: Namespace, forward: ops.PortForward) -> None:
        port = forward.frontend or forward.backend
        is_stream = forward.protocol == "TCP"
        kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
        listener = await self._network.socket_inside(namespace, kind)
        try:
            listener.bind((self.address, port))
            if is_stream:
                await self._pass_streams(listener, forward.backend)
            else:
                await self._pass_datagrams(listener, forward.backend)
        except OSError as error:
            listener.close()
            raise TunnelFailed(port, str(error.strerror).lower()) from error

    async def _pass_streams(self, listener: socket.socket, backend: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - a coroutine runs in one
            self._tasks.add(task)
            try:
                await relay(reader, writer, lambda: asyncio.open_connection(self._service.host, backend))
            finally:
                self._tasks.discard(task)

        server = await asyncio.start_server(serve, sock=listener)
        self._stack.callback(server.close)

    async def _pass_datagrams(self, listener: socket.socket, backend: int) -> None:
        datagrams = DatagramRelay(lambda: datagrams_to(self._service.host, backend))
        await datagrams.open(listener)
        self._stack.push_async_callback(datagrams.close)

    async def stop(self, *, grace_s: float | None) -> None:
        """Stop listening and end the connections. Idempotent."""
        if not self.ended.done():
            self.ended.set_result(0)
        await self._stack.aclose()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def has_address(self) -> bool:
        """Whether containers can reach it, at `address`."""
        return self.address != _LOOPBACK

    async def connect(self, port: int) -> Streams:
        """Open a connection to what a TCP port leads to; see `Way`."""
        return await asyncio.open_connection(self._service.host, self._backend(port, "TCP"))

    async def connect_datagrams(self, port: int) -> socket.socket:
        """Return a socket that speaks to what a UDP port leads to; see `Way`."""
        return await datagrams_to(self._service.host, self._backend(port, "UDP"))

    def _backend(self, port: int, protocol: str) -> int:
        forwards = (f for f in self._service.ports if f.protocol == protocol)
        return next((f.backend for f in forwards if (f.frontend or f.backend) == port), port)
