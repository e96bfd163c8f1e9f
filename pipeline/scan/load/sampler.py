"""Start a service and note, a few times a second, how much CPU and memory it takes.

    python sampler.py PORT COMMAND…

The samples are handed out over HTTP on PORT: whoever reads them shares only the service's network.
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
from typing import Final

EVERY_S: Final = 0.25
MOST: Final = 20_000  # samples kept; then every other one is dropped
TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
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


def sample_for_ever(samples: list[Sample]) -> None:
    """Note samples."""
    while True:
        samples.append(take_sample())
        if len(samples) > MOST:
            del samples[::2]
        time.sleep(EVERY_S)


def serve(listener: socket.socket, samples: list[Sample]) -> None:
    """Answer every request with all samples."""
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), connection:
            connection.settimeout(5)
            connection.recv(65536)
            body = json.dumps({"cpus": len(os.sched_getaffinity(0)), "samples": list(samples)}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)


def main(argv: list[str]) -> int:
    """Start the service, and end as it does."""
    samples: list[Sample] = []
    listener = socket.create_server(("", int(argv[0])))
    try:
        service = subprocess.Popen(argv[1:])
    except OSError as error:
        sys.stderr.write(f"cannot start `{argv[1]}`: {error.strerror}\n")
        return NOT_FOUND
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda got, _: service.send_signal(got))
    threading.Thread(target=sample_for_ever, args=[samples], daemon=True).start()
    threading.Thread(target=serve, args=[listener, samples], daemon=True).start()
    code = service.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
