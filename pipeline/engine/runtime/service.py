"""One running service: a container that is watched until it is healthy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.runtime.assemble import assembled
from pipeline.engine.runtime.capture import Capture
from pipeline.engine.runtime.cgroups import in_leaf
from pipeline.engine.runtime.errors import ExecFailed, RunnerFailed
from pipeline.engine.runtime.execute import open_stdin
from pipeline.engine.runtime.names import LiveHosts
from pipeline.engine.runtime.users import UnknownUser
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from pipeline.digest import Digest
    from pipeline.engine import ops
    from pipeline.engine.runtime.assemble import Assembled
    from pipeline.engine.runtime.network import Network
    from pipeline.engine.runtime.relay import Streams
    from pipeline.engine.runtime.spec import ExecSpec, Runner, Running
    from pipeline.engine.runtime.surroundings import Surroundings
    from pipeline.engine.store import Snapshot, Store

_CONNECT_LIMIT_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
_PORT_LIMIT_S: Final = 900.0
_CHECK_INTERVAL_S: Final = 5.0
_CHECK_LIMIT_S: Final = 30.0
_CHECK_RETRIES: Final = 3
_LOOPBACK: Final = "127.0.0.1"


class ServiceUnreachable(EngineError):
    """A port of a service did not answer for 15 minutes."""

    def __init__(self, host_name: str, port: int) -> None:
        super().__init__(f"cannot reach service `{host_name}`: port {port} does not answer")
        self.port = port
        self.hint = "see that it listens on all addresses, or expose the port without a health check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surround:
    """What every service of a session is run with."""

    store: Store
    runner: Runner
    network: Network
    evaluate: Callable[[ops.Exec], Awaitable[Mapping[Digest, Snapshot]]]
    surroundings: Surroundings
    running: Callable[[], list[tuple[str, str]]]  # addresses and names of the services that run
    announce: Callable[[], None]  # tells every service which others run now


class ContainerRun:
    """A container that runs until it ends by itself or is stopped; its files are thrown away."""

    def __init__(self, service: ops.ContainerService, surround: Surround, *, host_name: str) -> None:
        self._service = service
        self._surround = surround
        self._host_name = host_name
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.address = _LOOPBACK
        self.ran_out_of_memory = False  # the kernel killed a process of it for that
        self._main: asyncio.Task[None] | None = None
        self._began = asyncio.Event()
        self._running: Running | None = None
        self._parts: Assembled | None = None
        self._spec: ExecSpec | None = None  # as it was started
        self._names: LiveHosts | None = None
        self._error: EngineError | None = None
        self._output = ("", "")

    async def start(self, hosts: Sequence[tuple[str, str]]) -> None:
        """Start and wait until healthy; `hosts` are addresses and names of the services it needs.

        Raises:
            ExecFailed: It ended first, or its health check failed.
            ServiceUnreachable: An exposed port never answered.
        """
        self._main = asyncio.ensure_future(self._run(hosts))
        try:
            if await self._unless_it_ends(self._began.wait()):
                await self._unless_it_ends(self._become_healthy())
        except BaseException:
            await self.stop(grace_s=0.0)
            raise
        if self._error is not None:
            raise self._error
        if self.ended.done():
            raise self._exited(self.ended.result())

    async def stop(self, *, grace_s: float | None) -> None:
        """End it: SIGTERM, then SIGKILL after `grace_s` seconds (None: never; 0: at once). Idempotent."""
        if self._main is None:
            return
        if grace_s != 0.0 and self._running is not None and not self._main.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._running.pidfd, signal.SIGTERM)
            await asyncio.wait({self._main}, timeout=grace_s)
        self._main.cancel()
        await asyncio.gather(self._main, return_exceptions=True)

    def kill(self) -> None:
        """End it at once, without waiting."""
        if self._main is not None:
            self._main.cancel()

    def tell_names(self) -> None:
        """Write which other services run now into its hosts file."""
        if self._names is not None:
            self._names.tell(self._surround.running())

    @property
    def has_address(self) -> bool:
        """Whether containers can reach it, at `address`."""
        return self.address != _LOOPBACK

    async def connect(self, port: int) -> Streams:
        """Open a connection to one of its TCP ports; see `Way`."""
        return await asyncio.open_connection(sock=await self._socket_to(port, socket.SOCK_STREAM))

    async def connect_datagrams(self, port: int) -> socket.socket:
        """Return a socket that speaks to one of its UDP ports; see `Way`."""
        return await self._socket_to(port, socket.SOCK_DGRAM)

    async def _socket_to(self, port: int, kind: int) -> socket.socket:
        namespace = self._parts.namespace if self._parts else None
        network, address = self._surround.network, self.address
        if namespace is None:  # it is in the host's network
            ours = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        elif namespace.address:
            ours = await network.socket_at_bridge(kind)
        else:
            ours, address = await network.socket_inside(namespace, kind), _LOOPBACK
        try:
            await asyncio.get_running_loop().sock_connect(ours, (address, port))
        except BaseException:
            ours.close()
            raise
        return ours

    # ---- the container -----------------------------------------------------------------------

    async def _run(self, hosts: Sequence[tuple[str, str]]) -> None:
        code = -1
        try:
            code = await self._contain(hosts)
        except UnknownUser as error:
            self._error = ExecFailed(self._service.exec.argv, -1, message=str(error))
        except EngineError as error:
            self._error = error
        finally:
            if self._running is not None:
                os.close(self._running.pidfd)
                self._running = None
            if not self.ended.done():
                self.ended.set_result(code)

    async def _contain(self, hosts: Sequence[tuple[str, str]]) -> int:
        around = self._surround
        exec_ = replace(self._service.exec, volatile_env=())  # those are for execs
        trees = await around.evaluate(exec_)
        with LiveHosts(self._host_name, hosts) as self._names:
            async with assembled(
                around.store,
                around.network,
                exec_,
                trees,
                hosts=(),
                surroundings=around.surroundings,
                hostname=self._host_name,
                hosts_file=self._names.path,
            ) as parts:
                self._parts = parts
                if parts.namespace is not None and parts.namespace.address:
                    self.address = parts.namespace.address
                around.announce()
                try:
                    return await self._command(parts)
                finally:
                    for draft in (parts.rootfs, *parts.mounts.values()):
                        around.store.snapshots.discard(draft)

    async def _command(self, parts: Assembled) -> int:
        with (
            Capture(self._surround.store.blobs, parts.forms, _ignore) as capture,
            open_stdin(self._service.exec.stdin) as stdin,
        ):

            def started(running: Running) -> None:
                self._running = running
                capture.stdout.copy_to = running.redirect_stdout
                capture.stderr.copy_to = running.redirect_stderr
                self._began.set()

            runner = self._surround.runner
            with in_leaf(runner.cgroups, parts.spec) as (self._spec, leaf):
                code = await capture.while_running(
                    runner.run(
                        self._spec,
                        stdin=stdin,
                        stdout=capture.stdout.write_end,
                        stderr=capture.stderr.write_end,
                        started=started,
                    )
                )
                self.ran_out_of_memory = leaf is not None and leaf.ran_out_of_memory()
            self._output = (capture.stdout.kept.tail(trimmed=False), capture.stderr.kept.tail(trimmed=False))
            return code

    def _exited(self, code: int) -> ExecFailed:
        stdout, stderr = self._output
        message = "service exited before healthcheck" if code == 0 else f"exit code: {code}"
        message += " (out of memory)" * self.ran_out_of_memory
        return ExecFailed(self._service.exec.argv, code, stdout=stdout, stderr=stderr, message=message)

    # ---- health ------------------------------------------------------------------------------

    async def _unless_it_ends(self, work: Coroutine[object, object, object]) -> bool:
        """Wait for `work`, and give it up when the container ends; say whether it was done."""
        task = asyncio.ensure_future(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self.ended.done():
                return False
            await task
            return True
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _become_healthy(self) -> None:
        if self._service.healthcheck is not None and self._service.healthcheck.args:
            await self._pass_check(self._service.healthcheck)
            return
        for port in self._service.ports:
            if not port.skip_healthcheck and port.protocol == "TCP":
                await self._answer_at(port.port)

    async def _answer_at(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PORT_LIMIT_S
        pause = _FIRST_PAUSE_S
        while not await self._answers(port):
            if loop.time() > give_up:
                raise ServiceUnreachable(self._host_name, port)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_S, pause * 1.5)

    async def _answers(self, port: int) -> bool:
        try:
            async with asyncio.timeout(_CONNECT_LIMIT_S):
                _reader, writer = await self.connect(port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def _pass_check(self, check: ops.Healthcheck) -> None:
        loop = asyncio.get_running_loop()
        usual = check.interval_s or _CHECK_INTERVAL_S
        began, failures = loop.time(), 0
        while True:
            failed = await self._check(check)
            if failed is None:
                return
            is_starting = loop.time() - began < check.start_period_s
            failures = 0 if is_starting else failures + 1
            if failures >= (check.retries or _CHECK_RETRIES):
                raise failed
            await asyncio.sleep(check.start_interval_s or usual)

    async def _check(self, check: ops.Healthcheck) -> ExecFailed | None:
        """Run the check once inside the container; return the failure, if it is one."""
        assert self._parts is not None  # noqa: S101 - it has begun
        assert self._spec is not None  # noqa: S101
        assert self._running is not None  # noqa: S101
        shell = self._service.shell or ("/bin/sh", "-c")
        argv = (*shell, *check.args) if check.shell else check.args
        spec = replace(self._spec, argv=argv, redirect_stdin="", redirect_stdout="", redirect_stderr="")
        with (
            Capture(self._surround.store.blobs, self._parts.forms, _ignore) as capture,
            open_stdin("") as stdin,
        ):
            try:
                async with asyncio.timeout(check.timeout_s or _CHECK_LIMIT_S):
                    code = await capture.while_running(
                        self._surround.runner.run_inside(
                            self._running,
                            spec,
                            stdin=stdin,
                            stdout=capture.stdout.write_end,
                            stderr=capture.stderr.write_end,
                        )
                    )
            except TimeoutError:
                return ExecFailed(argv, -1, message="the health check took too long")
            except RunnerFailed as error:
                return ExecFailed(argv, -1, message=str(error))
            stdout, stderr = capture.stdout.kept.tail(), capture.stderr.kept.tail()
        return None if code == 0 else ExecFailed(argv, code, stdout=stdout, stderr=stderr)


def _ignore(_stream: str, _text: str) -> None:
    """Show nothing: what a service writes is told only when it does not start."""
