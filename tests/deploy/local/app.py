"""The service that tests and benchmarks deploy: HTTP/1.1 on one thread, which ends its requests on SIGTERM.

Variables: DELAY_MS of each answer, FAILS (percent of answers that are 500), SAYS (what `/` answers).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

DELAY_S = float(os.environ.get("DELAY_MS", "5")) / 1000
FAILS = float(os.environ.get("FAILS", "0"))
SAYS = os.environ.get("SAYS", "hello")
KEPT = Path("/kept/visits")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            method, path, _ = lines[0].split(" ")
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
            }
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            code, text = await reply(method, path, body)
            said = "close" if fields.get("connection", "").lower() == "close" else "keep-alive"
            writer.write(
                f"HTTP/1.1 {code} -\r\nContent-Length: {len(text)}\r\nConnection: {said}\r\n\r\n".encode()
                + text
            )
            await writer.drain()
            if said == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def reply(method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """The code and the text of one answer."""
    if path == "/health":
        return 200, json.dumps({"version": os.environ.get("PIPELINE_DIGEST", "")}).encode()
    if path == "/exit":
        os._exit(3)
    if path == "/slow":
        await asyncio.sleep(1)
    if path == "/kept":
        number = int(KEPT.read_text() or 0) + 1 if KEPT.exists() else 1
        KEPT.write_text(str(number))
        return 200, str(number).encode()
    if path.startswith("/ask/"):
        reader, writer = await asyncio.open_connection(path.removeprefix("/ask/"), 8000)
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        text = await reader.read()
        writer.close()
        return 200, text.rpartition(b"\r\n\r\n")[2]
    if path == "/secret":
        return 200, os.environ["TOKEN"].encode()
    await asyncio.sleep(DELAY_S)
    if random.random() * 100 < FAILS:  # noqa: S311 - no secret
        return 500, b"planted"
    return 200, f"{SAYS} {len(body)}".encode() if method == "POST" else SAYS.encode()


async def main() -> None:
    """Serve until SIGTERM, then finish what is in flight."""
    sys.stdout.write(f"says {SAYS}\n")
    server = await asyncio.start_server(answer, "0.0.0.0", 8000, backlog=4096)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()
    await asyncio.sleep(2 * DELAY_S)


asyncio.run(main())
