"""The engine that stays: a process with everything loaded, which forks a process for each session.

Sessions share nothing but its code: settings, variables, secrets and mounts are each session's own process's.
The keeper has no threads, opens no store and runs no container; what asks it for a session is `attach`.

    python -m pipeline.session.keeper FOLDER KEY IDLE_S
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import json
import os
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.session import attach

LOOK_EVERY_S: Final = 2.0
REQUEST_LIMIT_S: Final = 5.0
"""Longest time that a client may take to say what it wants."""
_HEADER: Final = struct.Struct("!Q")
_DESCRIPTORS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client wants: its command line and surroundings, and descriptors for 0, 1, 2 and events."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    workdir: str
    umask: int
    idle_s: float
    descriptors: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Keeper:
    """One keeper at work; `serve` returns when it has been idle for long enough."""

    folder: Path
    key: str
    idle_s: float
    listener: socket.socket
    lock: int
    children: dict[int, socket.socket] = field(default_factory=dict)  # by pid
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    idle_since: float = field(default_factory=time.monotonic)

    def serve(self) -> None:
        """Fork a session for each client until nobody asked for `idle_s`, or the socket has been removed."""
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept_one)
        while self.children or time.monotonic() - self.idle_since < self.idle_s:
            left_s = self.idle_since + self.idle_s - time.monotonic()
            wait_s = LOOK_EVERY_S if self.children else max(0.0, min(LOOK_EVERY_S, left_s))
            for key, _ in self.selector.select(wait_s):
                key.data()
            if not self.children and not self._is_in_place():
                break
        if self._is_in_place():
            os.unlink(attach.socket_path(self.folder, self.key))
        self._serve_last()

    def _serve_last(self) -> None:
        """Serve those who came in just before the socket was removed."""
        while self._accept_one():
            pass
        self.selector.unregister(self.listener)
        while self.children:
            for key, _ in self.selector.select():
                key.data()

    def _is_in_place(self) -> bool:
        try:
            named = os.stat(attach.socket_path(self.folder, self.key))
            held = os.fstat(self.lock)
            lock = os.stat(attach.lock_path(self.folder, self.key))
        except OSError:
            return False
        return named.st_uid == os.geteuid() and held.st_ino == lock.st_ino

    def _accept_one(self) -> bool:
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionError):
            return False  # the client has gone again
        self._begin(connection)
        return True

    def _begin(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_LIMIT_S)
        try:
            asked = receive(connection)
        except (OSError, ValueError, KeyError, TypeError):
            connection.close()  # no client of ours, or one that was killed
            return
        self.idle_s = asked.idle_s
        if len(asked.descriptors) < _DESCRIPTORS - 1:  # only to say how long to stay
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(asked, connection)
        for descriptor in asked.descriptors:
            os.close(descriptor)
        ending = os.pidfd_open(pid)
        self.children[pid] = connection
        self.selector.register(ending, selectors.EVENT_READ, lambda: self._ended(pid, ending))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._heard(pid))

    def _heard(self, pid: int) -> None:
        """Pass a signal on; a client that has gone ends its session."""
        try:
            told = self.children[pid].recv(64)
        except OSError:
            told = b""
        if not told:
            self.selector.unregister(self.children[pid])
            told = bytes([15])
        for number in told:
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(pid, number)

    def _ended(self, pid: int, ending: int) -> None:
        self.selector.unregister(ending)
        os.close(ending)
        _, status = os.waitpid(pid, 0)
        connection = self.children.pop(pid)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError):  # the client has gone
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        connection.close()
        self.idle_since = time.monotonic()

    def _become(self, asked: Asked, connection: socket.socket) -> None:
        """In the forked process: let go of what is the keeper's and serve the session; does not return."""
        code = 1
        try:
            os.setsid()
            for other in (self.listener, *self.children.values()):
                other.close()
            for key in list(self.selector.get_map().values()):
                if isinstance(key.fileobj, int):
                    os.close(key.fileobj)
            self.selector.close()
            os.close(self.lock)
            code = run(asked)
        finally:
            atexit._run_exitfuncs()  # what `sys.exit` would do: groups and folders of runners go with them
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            connection.close()
            os._exit(code)


def run(asked: Asked) -> int:
    """Serve one session in this process, which becomes what the client wants; return its exit code."""
    from pipeline.session.__main__ import serve

    for number, descriptor in enumerate(asked.descriptors[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked.environ)
    os.umask(asked.umask)
    argv = list(asked.argv)
    if len(asked.descriptors) == _DESCRIPTORS:
        argv += ["--events", str(asked.descriptors[3])]
    try:
        os.chdir(asked.workdir)
        return serve(argv)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001 - the last words of an engine; what `python` itself would do
        import traceback

        traceback.print_exc()
        return 1


def receive(connection: socket.socket) -> Asked:
    """Read one request.

    Raises:
        OSError: The client is another user's, is too slow or has gone.
        ValueError: It is no request.
    """
    attach.check_peer(connection)
    size = array.array("i").itemsize
    data, ancillary, _, _ = connection.recvmsg(
        _HEADER.size, socket.CMSG_SPACE(_DESCRIPTORS * size), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % size])
    try:
        (length,) = _HEADER.unpack(data)
        if length > attach.REQUEST_BYTES:
            raise ValueError("the request is too long")
        text = bytearray()
        while len(text) < length:
            part = connection.recv(min(1 << 16, length - len(text)))
            if not part:
                raise ValueError("the request ends early")
            text += part
        table: dict[str, Any] = json.loads(text.decode("utf-8", "surrogateescape"))
        return Asked(
            argv=tuple(table["argv"]),
            environ=dict(table["environ"]),
            workdir=table["workdir"],
            umask=int(table["umask"]),
            idle_s=float(table["idle_s"]),
            descriptors=list(descriptors),
        )
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def load() -> None:
    """Import what a session needs, and keep it out of the collector's way: forks then share its memory."""
    from pipeline.engine.runtime import launcher  # noqa: F401
    from pipeline.session import __main__ as _main  # noqa: F401
    from pipeline.session import process  # noqa: F401
    from pipeline.session.schema import introspection_bytes, load_schema

    load_schema()
    introspection_bytes()
    gc.collect()
    gc.freeze()


def main(folder: Path, key: str, idle_s: float) -> int:
    """Take the place of the keeper, listen, and stay in the background; return when another one has it."""
    lock = os.open(attach.lock_path(folder, key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    listener = attach.listen(folder, key)
    if os.fork() != 0:  # whoever started this one need not wait for it to end
        os._exit(0)
    os.setsid()
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps({"pid": os.getpid(), "since": time.time()}).encode())
    attach.dismiss_others(folder, key)
    load()
    Keeper(folder=folder, key=key, idle_s=idle_s, listener=listener, lock=lock).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
