"""Start a service and note, a few times a second, how much CPU and memory it takes.

    python sampler.py PORT LOG COMMAND…

What is known is handed out over HTTP on PORT: whoever reads it shares only the service's network. What the
service writes goes into the file LOG as well, which outlives this process; "-" is no file.
Runs inside the service's container, which needs no Python itself: standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Final, NoReturn

EVERY_S: Final = 0.25
MOST: Final = 20_000  # samples kept; then every other one is dropped
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
LOG_BYTES: Final = 256 * 1024  # of what the service wrote; the last ones are kept
FILE_BYTES: Final = 16 * 1024 * 1024  # of the file; then it begins anew
NOT_FOUND: Final = 127  # what a shell answers for a command that is not there

Sample = tuple[float, float, int]  # seconds since 1970, CPU seconds so far, bytes of memory


def take_sample() -> Sample:
    """Everything in this container but this process itself."""
    ticks = memory = 0
    own = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        # A process may end while it is read: its time is its parent's from then on.
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            user, system, of_children, system_of_children = (int(one) for one in fields[11:15])
            ticks += of_children + system_of_children
            if int(name) != own:
                ticks += user + system
                memory += memory_of(name)
    return time.time(), ticks * TICK_S, memory


def memory_of(pid: str) -> int:
    """Bytes a process holds, pages it shares counted in parts; where that may not be read, counted whole."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def sample_for_ever(samples: list[Sample]) -> NoReturn:
    """Note samples."""
    while True:
        samples.append(take_sample())
        if len(samples) > MOST:
            del samples[::2]
        time.sleep(EVERY_S)


class Service:
    """The service, and the last of what it wrote."""

    def __init__(self, log: str, argv: list[str]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(os.devnull if log == "-" else log, flags, 0o644)
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._log = bytearray()
        self.samples: list[Sample] = []

    def pass_on(self) -> None:
        """Write on what the service writes, until it ends."""
        pipe = self._process.stdout
        while pipe is not None and (data := os.read(pipe.fileno(), 65536)):
            self._log += data
            del self._log[:-LOG_BYTES]
            # Telling of the service must not depend on room on the disk.
            with contextlib.suppress(OSError):
                if os.fstat(self._file).st_size > FILE_BYTES:
                    os.ftruncate(self._file, 0)
                os.write(self._file, data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def end(self, number: int, _: object) -> None:
        """Pass a signal on, and end with the service."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait()
        os._exit(0)

    def state(self) -> bytes:
        """Everything that is known, as JSON."""
        told = {
            "cpus": len(os.sched_getaffinity(0)),
            "samples": list(self.samples),
            "exit_code": self._process.poll(),
            "log": self._log.decode("utf-8", "replace"),
        }
        return json.dumps(told).encode()


def serve(listener: socket.socket, service: Service) -> None:
    """Answer every request with the service's state."""
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), connection:
            connection.settimeout(5)
            connection.recv(65536)
            body = service.state()
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)


def main(argv: list[str]) -> int:
    """Start the service. When it ends by itself, go on telling so until somebody ends this too."""
    listener = socket.create_server(("", int(argv[0])))
    try:
        service = Service(argv[1], argv[2:])
    except OSError as error:
        sys.stderr.write(f"cannot start `{argv[2]}`: {error.strerror}\n")
        return NOT_FOUND
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, service.end)
    threading.Thread(target=service.pass_on, daemon=True).start()
    threading.Thread(target=serve, args=[listener, service], daemon=True).start()
    sample_for_ever(service.samples)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
