"""Services of a session: started when bound, watched, stopped when nobody needs them.

A definition runs once, however many bind it. `service.py` runs one; this counts who needs it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.engine import ops
from pipeline.engine.runtime.errors import ExecFailed, ServiceExited
from pipeline.engine.runtime.holder import Bound, Holder
from pipeline.engine.runtime.hostservice import HostRun
from pipeline.engine.runtime.service import ContainerRun, Surround
from pipeline.engine.runtime.surroundings import Surroundings
from pipeline.engine.runtime.tunnel import Doors, Tunnel, loopback_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipeline.digest import Digest
    from pipeline.engine.runtime.network import Network
    from pipeline.engine.runtime.spec import Runner
    from pipeline.engine.store import Snapshot, Store

Evaluate = Callable[["ops.Exec"], Awaitable["Mapping[Digest, Snapshot]"]]
"""Evaluates every tree an exec names (base, tree mounts, cache sources), by the tree's digest."""

DETACH_GRACE_S: Final = 10.0
STOP_GRACE_S: Final = 10.0
_NAME_BYTES: Final = 8


def host_name_of(service: ops.Service) -> str:
    """Return the DNS label a service is reached by; stable for the same definition."""
    if service.host_name:
        return service.host_name
    raw = bytes.fromhex(service.digest.removeprefix("sha256:"))[:_NAME_BYTES]
    return base64.b32encode(raw).decode().rstrip("=").lower()


@dataclass(slots=True)
class _Entry:
    """A service that runs or starts, and how many need it."""

    name: str
    run: ContainerRun | HostRun
    starting: asyncio.Task[None]
    users: int = 0
    is_held: bool = False  # by an explicit start
    leaving: asyncio.TimerHandle | None = None
    bindings: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)


class Services:
    """The running services of one session; each definition runs once."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        network: Network,
        evaluate: Evaluate,
        *,
        surroundings: Surroundings | None = None,
        detach_grace_s: float = DETACH_GRACE_S,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._surround = Surround(
            store=store,
            runner=runner,
            network=network,
            evaluate=evaluate,
            surroundings=surroundings or Surroundings(),
            running=self._running,
            announce=self._announce,
        )
        self._detach_grace_s = detach_grace_s
        self._stop_grace_s = stop_grace_s
        self._entries: dict[Digest, _Entry] = {}
        self._tunnels: dict[str, tuple[Tunnel, ops.Service]] = {}
        self._doors = Doors()
        self._stopping: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def bind(self, bindings: tuple[ops.ServiceBinding, ...]) -> AsyncIterator[Bound]:
        """Hold the services of `bindings` while the body runs: started in parallel, healthy on entry.

        The body is cancelled when one of them ends; then this raises `ServiceExited`.

        Raises:
            ExecFailed: A service ended before it was healthy, or its health check failed.
            ServiceExited: A service ended while it was held.
        """
        if not bindings:
            yield Bound(hosts=tuple(self._running()))
            return
        wanted = {binding.service.digest: binding.service for binding in bindings}
        aliases: dict[Digest, list[str]] = {digest: [] for digest in wanted}
        for binding in bindings:
            if binding.alias and binding.alias not in aliases[binding.service.digest]:
                aliases[binding.service.digest].append(binding.alias)
        held: list[ops.Service] = []
        try:
            for service in wanted.values():
                self._acquire(service)
                held.append(service)
            await self._all_started(wanted, aliases)
            hosts = [
                (self._entries[digest].run.address, name)
                for digest, service in wanted.items()
                for name in (*aliases[digest], host_name_of(service))
            ]
            async with self._watched(wanted, aliases):
                yield Bound(hosts=(*hosts, *self._running()))
        finally:
            for service in held:
                self._release(service)

    @contextlib.asynccontextmanager
    async def reachable(self, service: ops.Service) -> AsyncIterator[dict[str, str]]:
        """Hold a service while the body runs; lends the addresses of its names, for programs of the host.

        Raises:
            ExecFailed, ServiceExited: As `bind`.
            TunnelFailed: One of its ports cannot be shown on this machine.
        """
        async with self.bind((ops.ServiceBinding(alias="", service=service),)) as bound:
            addresses = {name: address for address, name in bound.hosts}
            if not self._surround.network.is_apart:
                yield addresses
                return
            run = self._entries[service.digest].run
            shown = loopback_of(run.address)
            ports = [
                (port.frontend or port.backend) if isinstance(port, ops.PortForward) else port.port
                for port in service.ports
                if port.protocol == "TCP"
            ]
            async with self._doors.open(shown, run, ports):
                yield dict.fromkeys(addresses, shown)

    async def start(self, service: ops.Service) -> None:
        """Start and wait until healthy; holds one binding until `stop` or the end. Idempotent.

        Raises:
            ExecFailed: It ended before it was healthy, or its health check failed.
        """
        entry = self._acquire(service)
        try:
            await asyncio.shield(entry.starting)
        except BaseException:
            self._release(service)
            raise
        if entry.is_held:
            self._release(service)
        entry.is_held = True

    async def stop(self, service: ops.Service, *, kill: bool = False) -> None:
        """End it whoever uses it: SIGTERM and wait without limit, or SIGKILL. Not running is no error."""
        entry = self._entries.pop(service.digest, None)
        if entry is not None:
            await self._end(entry, grace_s=0.0 if kill else None)

    async def tunnel(
        self, service: ops.Service, ports: tuple[ops.PortForward, ...], *, key: str
    ) -> tuple[ops.PortForward, ...]:
        """Listen on 127.0.0.1 for each port and lead to the service; returns the real front ports.

        `key` names the tunnel for `close_tunnel`; the same key again returns the same ports.

        Raises:
            ExecFailed: The service does not start.
            TunnelFailed: A port cannot be listened on.
        """
        if key in self._tunnels:
            return self._tunnels[key][0].ports
        entry = self._acquire(service)
        tunnel = Tunnel()
        try:
            await asyncio.shield(entry.starting)
            await tunnel.open(entry.run, ports)
        except BaseException:
            await tunnel.close()
            self._release(service)
            raise
        self._tunnels[key] = (tunnel, service)
        return tunnel.ports

    async def close_tunnel(self, key: str) -> None:
        """Stop listening and release the service. Unknown is no error."""
        found = self._tunnels.pop(key, None)
        if found is not None:
            await found[0].close()
            self._release(found[1])

    def address(self, service: ops.Service) -> str | None:
        """Return the address of a running service, reachable from the host too; None when it does not run."""
        entry = self._entries.get(service.digest)
        return entry.run.address if entry is not None and entry.starting.done() else None

    async def close(self) -> None:
        """Kill every service at once and close every tunnel. Idempotent."""
        for key in list(self._tunnels):
            tunnel, _service = self._tunnels.pop(key)
            await tunnel.close()
        entries, self._entries = list(self._entries.values()), {}
        await asyncio.gather(*(self._end(entry, grace_s=0.0) for entry in entries))
        for task in self._stopping:
            task.cancel()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    # ---- counting; nothing here waits --------------------------------------------------------

    def _acquire(self, service: ops.Service) -> _Entry:
        entry = self._entries.get(service.digest)
        if entry is None or entry.run.ended.done() or _has_failed(entry.starting):
            entry = self._begin(service)
        if entry.leaving is not None:
            entry.leaving.cancel()
            entry.leaving = None
        entry.users += 1
        return entry

    def _begin(self, service: ops.Service) -> _Entry:
        name = host_name_of(service)
        run: ContainerRun | HostRun
        if isinstance(service, ops.HostService):
            run = HostRun(service, self._surround.network)
        else:
            run = ContainerRun(service, self._surround, host_name=name)
        stack = contextlib.AsyncExitStack()
        entry = _Entry(
            name=name,
            run=run,
            starting=asyncio.ensure_future(self._start(service, run, stack)),
            bindings=stack,
        )
        self._entries[service.digest] = entry
        return entry

    async def _start(
        self, service: ops.Service, run: ContainerRun | HostRun, stack: contextlib.AsyncExitStack
    ) -> None:
        if isinstance(run, HostRun):
            await run.start()
            self._announce()
            return
        assert isinstance(service, ops.ContainerService)  # noqa: S101 - as `_begin` made it
        # A chain of services: those it needs start first and are held as long as it lives.
        holder = Holder(self.bind, service.exec.bindings, run)
        bound = await holder.hold()
        stack.push_async_callback(holder.let_go)
        try:
            await run.start(bound.hosts)
        except BaseException:
            await stack.aclose()
            raise

    def _running(self) -> list[tuple[str, str]]:
        """Return addresses and names of the services that have an address."""
        runs = [(entry.run, entry.name) for entry in self._entries.values()]
        return [(run.address, name) for run, name in runs if run.has_address and not run.ended.done()]

    def _announce(self) -> None:
        for entry in self._entries.values():
            if isinstance(entry.run, ContainerRun):
                entry.run.tell_names()

    def _release(self, service: ops.Service) -> None:
        entry = self._entries.get(service.digest)
        if entry is None:
            return
        entry.users -= 1
        if entry.users <= 0 and entry.leaving is None:
            loop = asyncio.get_running_loop()
            gone = entry.run.ended.done() or _has_failed(entry.starting)
            wait_s = 0.0 if gone else self._detach_grace_s
            entry.leaving = loop.call_later(wait_s, self._leave, service.digest, entry)

    def _leave(self, digest: Digest, entry: _Entry) -> None:
        if self._entries.get(digest) is entry:
            del self._entries[digest]
        task = asyncio.ensure_future(self._end(entry, grace_s=self._stop_grace_s))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    # ---- starting, watching, ending ----------------------------------------------------------

    async def _all_started(
        self, wanted: Mapping[Digest, ops.Service], aliases: Mapping[Digest, list[str]]
    ) -> None:
        results = await asyncio.gather(
            *(asyncio.shield(self._entries[digest].starting) for digest in wanted), return_exceptions=True
        )
        for (digest, service), result in zip(wanted.items(), results, strict=True):
            if isinstance(result, ExecFailed):
                named = _named(service, aliases[digest])
                raise ExecFailed(
                    result.argv,
                    result.exit_code,
                    stdout=result.stdout_tail,
                    stderr=result.stderr_tail,
                    message=f"start {named}: {result}",
                ) from result
            if isinstance(result, BaseException):
                raise result

    @contextlib.asynccontextmanager
    async def _watched(
        self, wanted: Mapping[Digest, ops.Service], aliases: Mapping[Digest, list[str]]
    ) -> AsyncIterator[None]:
        """Cancel the body when a service ends, and say which."""
        user = asyncio.current_task()
        assert user is not None  # noqa: S101 - a coroutine runs in one
        lost: list[ServiceExited] = []
        watches: list[tuple[asyncio.Future[int], Callable[[asyncio.Future[int]], None]]] = []
        for digest, service in wanted.items():
            run = self._entries[digest].run

            def on_end(
                ended: asyncio.Future[int],
                name: str = host_name_of(service),
                alias: str = next(iter(aliases[digest]), ""),
                run: ContainerRun | HostRun = run,
            ) -> None:
                if not lost:
                    told = run.ran_out_of_memory
                    lost.append(ServiceExited(name, alias, ended.result(), ran_out_of_memory=told))
                    user.cancel()

            run.ended.add_done_callback(on_end)
            watches.append((run.ended, on_end))
        try:
            yield
        except asyncio.CancelledError:
            if lost and user.uncancel() == 0:
                raise lost[0] from None
            raise
        finally:
            for ended, callback in watches:
                ended.remove_done_callback(callback)
        if lost:
            # It ended when the body was done already: the cancellation, still to come, means nothing.
            if user.uncancel() > 0:
                raise asyncio.CancelledError
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def _end(self, entry: _Entry, *, grace_s: float | None) -> None:
        if entry.leaving is not None:
            entry.leaving.cancel()
        if not entry.starting.done():
            entry.starting.cancel()
        await asyncio.gather(entry.starting, return_exceptions=True)
        await entry.run.stop(grace_s=grace_s)
        await entry.bindings.aclose()


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _named(service: ops.Service, aliases: list[str]) -> str:
    name = host_name_of(service)
    return f"{name} (aliased as {aliases[0]})" if aliases else name
