"""The process that starts launchers: kept by a runner, as starting a program anew holds up the whole engine.

It is `launcher_serve.c`; what a launcher does is left to `launcher`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import weakref
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime.errors import RunnerFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOWEST_OWN_FD: Final = 10
_RESET_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class LauncherServer:
    """Starts launchers, as children of this process; it comes up with the first and goes with this object."""

    def __init__(self, program: Path) -> None:
        self._program = _sealed_copy(program)
        self._orders: socket.socket | None = None
        self._end: weakref.finalize[..., LauncherServer] | None = None

    def start(self, descriptors: Sequence[int]) -> None:
        """Start a launcher whose descriptors from 0 on these are; it tells of itself on its status socket.

        It dies with the thread that first started one, so this is not for worker threads.

        Raises:
            RunnerFailed: The server cannot be started.
        """
        orders = self._orders or self._open()
        try:
            socket.send_fds(orders, [b"o"], descriptors)
        except (BrokenPipeError, ConnectionResetError):  # it was killed
            socket.send_fds(self._open(), [b"o"], descriptors)

    def _open(self) -> socket.socket:
        if self._end is not None:
            self._end()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        sources = [null, null, null, theirs.fileno()]
        with contextlib.ExitStack() as stack:
            stack.callback(theirs.close)
            stack.callback(os.close, null)
            # Out of the way of the low numbers first, or one would overwrite another.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LOWEST_OWN_FD) for fd in sources]
            for fd in high:
                stack.callback(os.close, fd)
            try:
                pid = os.posix_spawn(
                    f"/proc/self/fd/{self._program}",
                    ["launcher", "serve"],
                    {},
                    file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(high)],
                    setsigdef=_RESET_SIGNALS,
                )
            except OSError as error:
                ours.close()
                raise RunnerFailed(f"cannot start the launcher: {error.strerror}") from error
        self._orders = ours
        self._end = weakref.finalize(self, _end, os.getpid(), pid, ours)
        return ours


def _end(owner: int, pid: int, orders: socket.socket) -> None:
    orders.close()  # that ends it too, should this process be killed
    if os.getpid() == owner:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _sealed_copy(program: Path) -> int:
    """Return a descriptor of a copy that nobody can change, a container that reopens it included."""
    low = os.memfd_create("launcher", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    # Out of the way of the numbers that the server's own descriptors get.
    copy = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _LOWEST_OWN_FD)
    os.close(low)
    content = memoryview(program.read_bytes())
    while content:
        content = content[os.write(copy, content) :]
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy
