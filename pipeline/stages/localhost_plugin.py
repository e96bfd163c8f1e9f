"""The pytest plugin, and program, by which tests reach their services at `localhost` too, where many look.

It needs nothing but pytest. A process of its own passes the bytes on, so that tests find no threads, no tasks
and no children that they did not start. Ports that are taken already stay with whoever has them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(text: str) -> list[tuple[int, str]]:
    """Read `5432=db,6379=cache` as ports and the hosts that have them."""
    pairs = [one.split("=") for one in text.split(",") if one]
    return [(int(port), host) for port, host in pairs]


def listen(port: int) -> socket.socket | None:
    """Return a socket that listens at this port of localhost; None when it is taken."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        return None
    one.listen(128)
    return one


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until it ends or breaks."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy what a test says; one that has said all may still wait for the answer."""
    await pass_on(reader, writer)
    try:
        writer.write_eof()
    except OSError:
        return


async def lead(host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lead one connection to the service, and end it as a whole when the service does."""
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    asking = asyncio.ensure_future(ask(reader, far_writer))
    await pass_on(far_reader, writer)
    asking.cancel()
    far_writer.close()
    writer.close()


async def serve(listeners: Sequence[tuple[socket.socket, str, int]]) -> None:
    """Lead every connection to the host that has the port."""
    for one, host, port in listeners:
        await asyncio.start_server(functools.partial(lead, host, port), sock=one)
    await asyncio.Event().wait()


def start(text: str) -> None:
    """Listen, and leave the rest to a process that is nobody's child; connections wait until it is there."""
    opened = [(port, host, one) for port, host in parse(text) if (one := listen(port)) is not None]
    if not opened:
        return
    numbers = [str(one.fileno()) for _, _, one in opened]
    words = [f"{number}={host}={port}" for number, (port, host, _) in zip(numbers, opened, strict=True)]
    argv = ["sh", "-c", '"$@" </dev/null >/dev/null 2>&1 &', "sh", sys.executable, "-I", __file__, *words]
    fds = tuple(one.fileno() for _, _, one in opened)
    subprocess.run(argv, pass_fds=fds, start_new_session=True, check=True)
    for _, _, one in opened:
        one.close()


def pytest_addoption() -> None:
    """Begin before other plug-ins read the settings of a project, which may ask a server already."""
    start(os.environ.get("PIPELINE_LOCALHOST", ""))


if __name__ == "__main__":
    if len(sys.argv) == 1:  # before a command that is not pytest's
        start(os.environ.get("PIPELINE_LOCALHOST", ""))
        sys.exit()
    split = [word.split("=") for word in sys.argv[1:]]
    asyncio.run(serve([(socket.socket(fileno=int(fd)), host, int(port)) for fd, host, port in split]))
