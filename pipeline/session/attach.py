"""Asks the engine that stays for a session, and starts it when there is none; see `keeper`.

It is found by a socket in the store's folder `warm`, which is the user's alone. The socket's name holds what
two processes must have in common to share code and surroundings: another version, another Python or another
network namespace has a keeper of its own. Imports the standard library alone: every start loads it.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pipeline.session.requests import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CONNECT_LIMIT_S: Final = 5.0
LOG_BYTES: Final = 1 << 16
"""How long the words of engines that stay may get."""
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_CREDENTIALS: Final = struct.Struct("3i")


class Attached:
    """A session of the keeper: what `subprocess.Popen` is for a process of our own."""

    def __init__(
        self, connection: socket.socket, process: int, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]
    ) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.returncode: int | None = None
        self.is_known = True
        """Was the exit code told? Nobody does when both the session and its keeper were killed."""
        self._connection = connection
        self._process = process  # a descriptor
        self._told = b""
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code if the session is over."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; 1 if nobody is left to tell it, see `is_known`.

        Raises:
            subprocess.TimeoutExpired: It is not over within `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        # One thread reads at a time; the others find the code when it has come.
        if not self._reading.acquire(timeout=-1 if timeout is None else timeout):
            raise subprocess.TimeoutExpired("the engine", timeout or 0)
        try:
            while self.returncode is None:
                self._read(until)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired("the engine", timeout or 0) from None
        finally:
            self._reading.release()
        return self.returncode

    def _read(self, until: float | None) -> None:
        self._connection.settimeout(None if until is None else max(0.0, until - time.monotonic()))
        try:
            part = self._connection.recv(64)
        except ConnectionError:
            part = b""
        self._told += part
        if not part:
            self.is_known = bool(self._told.strip())
            self.returncode = int(self._told.split()[0]) if self.is_known else 1
            self._connection.close()
            os.close(self._process)

    def send_signal(self, number: int) -> None:
        """Send a signal to the session's process, whether its keeper lives or not."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                signal.pidfd_send_signal(self._process, number)


def open_attached(
    argv: Sequence[str], *, store: Path, idle_s: float, environ: Mapping[str, str], events: int
) -> Attached | None:
    """Begin a session with pipes to it; None when none can be had this way, and one has to start its own."""
    connection = find(store, idle_s)
    if connection is None:
        return None
    pipes = [os.pipe() for _ in range(3)]  # as (read, write)
    theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
    try:
        request(connection, argv, environ=environ, idle_s=idle_s, descriptors=[*theirs, events])
        process = _receive_process(connection)
    except OSError:
        connection.close()
        for pair in pipes:
            os.close(pair[0])
            os.close(pair[1])
        return None
    for descriptor in theirs:
        os.close(descriptor)
    return Attached(
        connection,
        process,
        os.fdopen(pipes[0][1], "wb", buffering=0),
        os.fdopen(pipes[1][0], "rb"),
        os.fdopen(pipes[2][0], "rb"),
    )


def run_attached(argv: Sequence[str], *, store: Path, idle_s: float, events: int | None) -> int | None:
    """Serve a session on this process's own descriptors and return its exit code; None: none can be had."""
    connection = find(store, idle_s)
    if connection is None:
        return None
    plain = list(argv)
    if events is not None:  # the descriptor has another number there
        at = next(n for n, word in enumerate(plain) if word.startswith("--events"))
        del plain[at : at + (1 if "=" in plain[at] else 2)]
    try:
        told = [0, 1, 2] if events is None else [0, 1, 2, events]
        request(connection, plain, environ=os.environ, idle_s=idle_s, descriptors=told)
        process = _receive_process(connection)
    except OSError:
        connection.close()
        return None
    session = Attached(connection, process, sys.stdin.buffer, sys.stdout.buffer, sys.stderr.buffer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: session.send_signal(number))
    code = session.wait()
    return code if code >= 0 else 128 - code


def find(store: Path, idle_s: float) -> socket.socket | None:
    """Return a connection to the keeper of a store, started if need be; None where that cannot be done."""
    folder, key = store / "warm", key_of_this_process()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        connection = _connect(folder, key)
        if connection is None:
            _start(folder, key, idle_s)
            until = time.monotonic() + CONNECT_LIMIT_S
            while (connection := _connect(folder, key)) is None and time.monotonic() < until:
                time.sleep(0.01)
    except (OSError, subprocess.SubprocessError):
        return None  # the engine of one's own says what is wrong with the store
    return connection


def request(
    connection: socket.socket,
    argv: Sequence[str],
    *,
    environ: Mapping[str, str],
    idle_s: float,
    descriptors: Sequence[int],
) -> None:
    """Send what `keeper.receive` reads."""
    table = {
        "argv": list(argv),
        "environ": dict(environ),
        "workdir": os.getcwd(),
        "umask": _umask(),
        "idle_s": idle_s,
    }
    text = json.dumps(table, ensure_ascii=False).encode("utf-8", "surrogateescape")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([HEADER.pack(len(text))], rights)
    connection.sendall(text)


def send_process(connection: socket.socket, process: int) -> None:
    """Hand a client the descriptor of its session's process.

    Raises:
        OSError: The client has gone.
    """
    socket.send_fds(connection, [b"\n"], [process])


def _receive_process(connection: socket.socket) -> int:
    """Return the descriptor of the session's process.

    Raises:
        OSError: The keeper has gone, will not have this client, or is too slow.
    """
    connection.settimeout(CONNECT_LIMIT_S)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not descriptors:
        raise ConnectionAbortedError("the engine began no session")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _umask() -> int:
    # There is no call that only reads it, and setting it is not safe with threads.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def key_of_this_process() -> str:
    """Return what only processes have in common that run the same code in the same surroundings."""
    digest = hashlib.sha256(repr((sys.executable, sys.version, os.environ.get("PYTHONPATH"))).encode())
    digest.update(repr((os.getuid(), os.geteuid(), os.getegid(), sorted(os.getgroups()))).encode())
    for name in _NAMESPACES:
        with contextlib.suppress(FileNotFoundError):
            digest.update(os.readlink(f"/proc/self/ns/{name}").encode())
    for line in _code(Path(__file__).parent.parent):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _code(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _code(Path(entry.path))
            else:
                found = entry.stat()
                yield f"{entry.path} {found.st_size} {found.st_mtime_ns}\n"


def socket_path(folder: Path, key: str) -> Path:
    """Return where the keeper listens."""
    return folder / f"{key}.sock"


def lock_path(folder: Path, key: str) -> Path:
    """Return the file that the keeper holds locked; it says who that is."""
    return folder / f"{key}.lock"


@contextlib.contextmanager
def _short(folder: Path, key: str) -> Iterator[str]:
    """Lend a name of the socket that fits the 108 bytes of an address, however deep the store lies."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{socket_path(folder, key).name}"
    finally:
        os.close(opened)


def listen(folder: Path, key: str) -> socket.socket:
    """Listen as the keeper; the caller holds its lock, so what is left there is of one that was killed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    socket_path(folder, key).unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        with _short(folder, key) as name:
            listener.bind(name)
    finally:
        os.umask(before)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _connect(folder: Path, key: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(folder, key) as name:
            connection.connect(name)
        check_peer(connection)
    except (FileNotFoundError, ConnectionError, BlockingIOError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def check_peer(connection: socket.socket) -> None:
    """Check that whoever is at the other end is this user.

    Raises:
        PermissionError: It is another one.
    """
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(told)
    if user != os.geteuid():
        raise PermissionError(f"the other end belongs to user {user}")


def _start(folder: Path, key: str, idle_s: float) -> None:
    """Start a keeper; this returns when it, or another one, listens. Its words are in `warm/engine.log`."""
    log = folder / "engine.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.unlink()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    with os.fdopen(os.open(log, flags, 0o600), "ab") as words:
        argv = [sys.executable, "-m", "pipeline.session.keeper", str(folder), key, str(idle_s)]
        subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            cwd="/",
            start_new_session=True,
            timeout=CONNECT_LIMIT_S,
            check=True,
        )


def dismiss_others(folder: Path, key: str) -> None:
    """Tell keepers of other versions to end with their last session; those they serve are not disturbed."""
    for other in folder.glob("*.sock"):
        if other.stem == key:
            continue
        with contextlib.suppress(OSError), _connect(folder, other.stem) or contextlib.nullcontext() as told:
            if told is not None:
                request(told, [], environ={}, idle_s=0, descriptors=[])
