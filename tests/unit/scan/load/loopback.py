"""A small HTTP server on loopback whose answers a test writes itself, and the generator as a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.scan.load.measurement import Measurement, parse_measurement

if TYPE_CHECKING:
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = Callable[[int, str], Awaitable[bytes]]
"""Given the number of the request and its first line, the bytes of the answer; b"" closes the connection."""


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """Serve on a free port of loopback; lends the port."""
    ready: list[Any] = []
    is_ready = threading.Event()

    async def serve() -> None:
        count = 0

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    count += 1
                    said = await answer(count, head.decode().partition("\r\n")[0])
                    if not said:
                        break
                    writer.write(said)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        stop = asyncio.Event()
        ready.extend((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        is_ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    is_ready.wait(10)
    port, loop, stop = ready
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


def plan_for(port: int, **changes: Any) -> dict[str, Any]:
    """A short plan: 100 requests/s for 2 s after 0.2 s of warm-up."""
    plan = {"host": "127.0.0.1", "port": port, "rate": 100, "warmup_s": 0.2, "duration_s": 2, "timeout_s": 2}
    plan |= {"max_connections": 200, "requests": [{"name": "GET /", "paths": ["/"]}]}
    return {**plan, **changes}


def generate(plan: dict[str, Any], folder: Path) -> Measurement:
    """Run the generator as its own process."""
    (folder / "plan.json").write_text(json.dumps(plan))
    argv = [sys.executable, "-m", "pipeline.scan.load.generator", str(folder / "plan.json"), "-"]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return parse_measurement(done.stdout, "result")
