"""The default runner: a small static program that is started for each exec and sets everything up itself.

The program is `launcher.c`; it is compiled when the wheel is built (`hatch_build.py`).
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.cgroups import Cgroups
from pipeline.engine.runtime.errors import RedirectFailed, RunnerFailed
from pipeline.engine.runtime.launcher_server import LauncherServer
from pipeline.engine.runtime.spec import Running
from pipeline.engine.runtime.wire import encode
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.runtime.cgroups import Limits
    from pipeline.engine.runtime.spec import ExecSpec

LAUNCHER: Final = Path(__file__).with_name("launcher")
_MESSAGE_BYTES: Final = 8192


class LauncherMissing(EngineError):
    """The launcher was not compiled when this package was installed."""

    hint = "install a C compiler and reinstall the package, or install `runc`"

    def __init__(self, path: Path) -> None:
        super().__init__(f"cannot run the launcher `{path}`: it is not there")


class LauncherRunner:
    """Runs each spec by one launcher process; nothing stays behind when it ends."""

    name = "launcher"

    def __init__(self, program: Path = LAUNCHER, *, limits: Limits | None = None) -> None:
        if not os.access(program, os.X_OK):
            raise LauncherMissing(program)
        self._server = LauncherServer(program)
        self.cgroups: Cgroups | None = Cgroups(limits)

    async def run(
        self,
        spec: ExecSpec,
        *,
        stdin: int,
        stdout: int,
        stderr: int,
        started: Callable[[Running], None] | None = None,
    ) -> int:
        """Run to the end; see `Runner.run`."""
        handshake = started is not None or bool(spec.redirect_stdout or spec.redirect_stderr)
        message = _encoded(spec, handshake=handshake)
        process = _Process(self._server, message, (stdin, stdout, stderr))
        try:
            if started is not None:
                await process.greet(spec, started)
            return await process.ended(spec)
        finally:
            await process.close()

    async def run_inside(
        self, running: Running, spec: ExecSpec, *, stdin: int, stdout: int, stderr: int
    ) -> int:
        """Run in a running container; see `Runner.run_inside`."""
        message = _encoded(spec, handshake=False, join=True)
        process = _Process(self._server, message, (stdin, stdout, stderr), join=running.pidfd)
        try:
            return await process.ended(spec)
        finally:
            await process.close()


def _encoded(spec: ExecSpec, *, handshake: bool, join: bool = False) -> bytes:
    try:
        return encode(spec, engine_pid=os.getpid(), handshake=handshake, join=join)
    except ValueError as error:
        raise RunnerFailed(f"cannot run `{spec.argv[0]!r}`: {error}") from error


class _Process:
    """One launcher process: its end, and the socket on which it reports."""

    def __init__(
        self, server: LauncherServer, message: bytes, stdio: tuple[int, int, int], *, join: int | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        spec_fd = os.memfd_create("spec", os.MFD_CLOEXEC)
        try:
            rest = memoryview(message)
            while rest:
                rest = rest[os.write(spec_fd, rest) :]
            joined = [join] if join is not None else []
            server.start([*stdio, spec_fd, theirs.fileno(), *joined])
        except BaseException:
            self.socket.close()
            raise
        finally:
            os.close(spec_fd)
            theirs.close()
        self._pidfd: int | None = None
        self._status: int | None = None
        self._refusal = b""
        self._start = self._loop.create_future()
        self._end = self._loop.create_future()
        self._loop.add_reader(self.socket, self._on_start)

    def _on_start(self) -> None:
        self._loop.remove_reader(self.socket)
        text, descriptors = self._receive()
        if text == b"M":
            [self._pidfd] = descriptors
            self._loop.add_reader(self._pidfd, self._on_end)
        else:
            self._refusal = text
            self._end.set_result(None)
        self._start.set_result(None)

    def _on_end(self) -> None:
        assert self._pidfd is not None  # noqa: S101 - it is what was waited for
        self._loop.remove_reader(self._pidfd)
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        assert result is not None  # noqa: S101 - only WNOHANG may find nothing
        exited = result.si_code == os.CLD_EXITED
        self._status = result.si_status if exited else 128 + result.si_status
        self._end.set_result(None)

    async def greet(self, spec: ExecSpec, started: Callable[[Running], None]) -> None:
        """Wait until everything is set up, tell `started`, let the command go."""
        pidfd: int | None = None
        redirects: list[int] | None = None
        await asyncio.shield(self._start)
        try:
            while pidfd is None or redirects is None:
                text, descriptors = await self._message()
                if text == b"P":
                    pidfd = descriptors[0]
                elif text == b"R":
                    redirects = descriptors
                else:
                    _raise_reported(text)
                    return  # it ended without a word: `ended` says how
            named = iter(redirects)
            running = Running(
                id=spec.id,
                pidfd=pidfd,
                redirect_stdout=next(named) if spec.redirect_stdout else None,
                redirect_stderr=next(named) if spec.redirect_stderr else None,
            )
            pidfd, redirects = None, None
        finally:
            if pidfd is not None:
                os.close(pidfd)
            _close_all(redirects or [])
        started(running)
        self.socket.send(b"g")

    async def _message(self) -> tuple[bytes, list[int]]:
        readable = asyncio.Event()
        self._loop.add_reader(self.socket, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(self.socket)
        return self._receive()

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            text, ancillary, _flags, _address = self.socket.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(8))
        except (BlockingIOError, ConnectionResetError):
            return b"", []
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        return text, list(descriptors)

    async def ended(self, spec: ExecSpec) -> int:
        """Wait for the end and return the exit code."""
        await asyncio.shield(self._end)
        if self._status is None:
            _raise_reported(self._refusal)
            raise RunnerFailed("cannot start the launcher: the process that starts them has ended")
        text, descriptors = self._receive()
        while text:
            _close_all(descriptors)
            _raise_reported(text)
            text, descriptors = self._receive()
        return self._status

    async def close(self) -> None:
        """Kill the container unless it has ended, and wait until it is gone, whoever cancels meanwhile."""
        told = False
        while not self._end.done():
            if self._pidfd is not None and not told:
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
                told = True
            try:
                await asyncio.shield(self._end if self._start.done() else self._start)
            except asyncio.CancelledError:
                # The caller raises its own cancellation again; first the container has to be gone.
                continue
        self.socket.close()
        if self._pidfd is not None:
            os.close(self._pidfd)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _raise_reported(text: bytes) -> None:
    told = text[1:].decode("utf-8", "replace")
    if text.startswith(b"F"):
        raise RedirectFailed(told)
    if text.startswith(b"E"):
        raise RunnerFailed(f"cannot set up the container: {told}")
