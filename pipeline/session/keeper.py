"""The engine that stays: a process with everything loaded, which forks a process for each session.

Sessions share nothing but its code: settings, variables, secrets and mounts are each session's own process's.
The keeper has no threads, opens no store and runs no container; what asks it for a session is `attach`.

    python -m pipeline.session.keeper FOLDER KEY IDLE_S
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import os
import selectors
import signal
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.session import attach
from pipeline.session.requests import DESCRIPTORS, Asked, Coming
from pipeline.session.standing import Session, write_standing

if TYPE_CHECKING:
    import socket

LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A session that was forked, and the client that it is for."""

    connection: socket.socket
    session: Session


@dataclass(slots=True)
class Keeper:
    """One keeper at work; `serve` returns when it has been idle for long enough."""

    folder: Path
    key: str
    idle_s: float
    listener: socket.socket
    lock: int
    since: float
    children: dict[int, Child] = field(default_factory=dict)  # by pid
    coming: list[Coming] = field(default_factory=list)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    idle_since: float = field(default_factory=time.monotonic)

    def serve(self) -> None:
        """Fork a session for each client until nobody asked for `idle_s`, or the socket has been removed."""
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept_one)
        self._tell()
        while self.children or self.coming or time.monotonic() - self.idle_since < self.idle_s:
            left_s = self.idle_since + self.idle_s - time.monotonic()
            busy = self.children or self.coming
            self._turn(LOOK_EVERY_S if busy else max(0.0, min(LOOK_EVERY_S, left_s)))
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
        while self.children or self.coming:
            self._turn(LOOK_EVERY_S)

    def _turn(self, wait_s: float) -> None:
        """Do what there is to do, waiting for it at most `wait_s`."""
        for key, _ in self.selector.select(wait_s):
            key.data()
        for coming in [each for each in self.coming if each.until <= time.monotonic()]:
            self._forget(coming)
            coming.close()
        bound_log(2)

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
        try:
            attach.check_peer(connection)
        except PermissionError:
            connection.close()
            return True
        coming = Coming(connection)
        self.coming.append(coming)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._read(coming))
        self._read(coming)
        return True

    def _read(self, coming: Coming) -> None:
        try:
            asked = coming.read()
        except (OSError, ValueError):
            self._forget(coming)
            coming.close()  # no client of ours, or one that was killed
            return
        if asked is not None:
            self._forget(coming)
            self._begin(asked, coming)

    def _forget(self, coming: Coming) -> None:
        self.coming.remove(coming)
        self.selector.unregister(coming.connection)

    def _begin(self, asked: Asked, coming: Coming) -> None:
        self.idle_s = asked.idle_s
        if len(asked.descriptors) < DESCRIPTORS - 1:  # only to say how long to stay
            coming.close()
            self._tell()
            return
        connection, keeper = coming.connection, os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(asked, connection, keeper)
        for descriptor in asked.descriptors:
            os.close(descriptor)
        ending = os.pidfd_open(pid)
        with contextlib.suppress(OSError):  # the client has gone, which `_heard` will see
            attach.send_process(connection, ending)
        session = Session(pid=pid, workdir=asked.workdir, began=time.monotonic())
        self.children[pid] = Child(connection=connection, session=session)
        self.selector.register(ending, selectors.EVENT_READ, lambda: self._ended(pid, ending))
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._heard(pid))
        self._tell()

    def _tell(self) -> None:
        sessions = [child.session for child in self.children.values()]
        with contextlib.suppress(OSError):  # the disk is full: what was told before stays
            write_standing(
                self.lock,
                since=self.since,
                stays_s=self.idle_s,
                idle_since=self.idle_since,
                sessions=sessions,
            )

    def _heard(self, pid: int) -> None:
        """End the session of a client that has gone."""
        connection = self.children[pid].connection
        with contextlib.suppress(ConnectionError):
            if connection.recv(64):
                return
        self.selector.unregister(connection)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)

    def _ended(self, pid: int, ending: int) -> None:
        self.selector.unregister(ending)
        os.close(ending)
        _, status = os.waitpid(pid, 0)
        connection = self.children.pop(pid).connection
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError):  # the client has gone
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        connection.close()
        self.idle_since = time.monotonic()
        self._tell()

    def _become(self, asked: Asked, connection: socket.socket, keeper: int) -> None:
        """In the forked process: let go of what is the keeper's and serve the session; does not return."""
        code = 1
        try:
            os.setsid()
            for other in (self.listener, *(child.connection for child in self.children.values())):
                other.close()
            for coming in self.coming:
                coming.close()
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
            if os.getppid() != keeper:  # it was killed, and will not tell
                with contextlib.suppress(OSError):  # the client has gone as well
                    connection.sendall(f"{code}\n".encode())
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
    if len(asked.descriptors) == DESCRIPTORS:
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


def bound_log(descriptor: int) -> None:
    """Begin the log anew when it has grown too long; anything but a file is left alone."""
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size > attach.LOG_BYTES:
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(OSError):  # others took the room at once
            os.write(descriptor, b"what was here before was removed: it had grown too long\n")


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
    since = time.time()
    write_standing(lock, since=since, stays_s=idle_s, idle_since=time.monotonic(), sessions=())
    attach.dismiss_others(folder, key)
    load()
    Keeper(folder=folder, key=key, idle_s=idle_s, listener=listener, lock=lock, since=since).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
