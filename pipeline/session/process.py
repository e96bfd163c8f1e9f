"""The life of an engine process: open the engine, serve one session, end in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import secrets
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.engine import Engine
from pipeline.session.objects import Objects
from pipeline.session.query import Queries
from pipeline.session.server import Server
from pipeline.session.tables import TABLES, pinned_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pipeline.engine.events import EngineEvent
    from pipeline.engine.settings import EngineSettings

END_LIMIT_S: Final = 20
"""Longest time between the end of a session and that of its process, in seconds."""

_log = logging.getLogger(__name__)


class EventLines:
    """Writes events to a descriptor, one line of JSON each, without ever making the engine wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def __call__(self, event: EngineEvent) -> None:
        """Queue one event; the writing thread starts with the first."""
        line = json.dumps({"event": type(event).__name__, **asdict(event)})
        self._lines.put(line.encode() + b"\n")
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="events", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is left, for as long as somebody reads, and close the descriptor."""
        self._lines.put(None)
        if self._thread is not None:
            self._thread.join(END_LIMIT_S / 2)
        os.close(self._descriptor)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                return  # the reader has gone, and with it the interest in events


def run_session(settings: EngineSettings, workdir: str, *, events: int | None) -> None:
    """Serve one session until stdin closes, `/shutdown` is asked for, or a signal says to end.

    Raises:
        EngineError: The engine cannot be opened.
    """
    _prepare()
    asyncio.run(_serve(settings, workdir, events))


def run_shell(settings: EngineSettings, workdir: str, argv: Sequence[str], *, events: int | None) -> int:
    """Run a command with the session's variables in its environment and return its exit code.

    Raises:
        EngineError: The engine cannot be opened.
        OSError: The command cannot be started.
    """
    _prepare()
    return asyncio.run(_shell(settings, workdir, argv, events))


def _prepare() -> None:
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


async def _serve(settings: EngineSettings, workdir: str, events: int | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, over.set)
    async with open_server(settings, workdir, events) as (server, environ):
        told = {"port": int(environ["DAGGER_SESSION_PORT"]), "session_token": environ["DAGGER_SESSION_TOKEN"]}
        print(json.dumps(told), flush=True)  # noqa: T201 - the protocol's one line
        _watch_stdin(over)
        waits = [asyncio.ensure_future(over.wait()), asyncio.ensure_future(server.shutdown_asked.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        # The kernel's own timer: nothing that hangs in here, in a thread or in C, can outlive it.
        signal.alarm(END_LIMIT_S)


async def _shell(settings: EngineSettings, workdir: str, argv: Sequence[str], events: int | None) -> int:
    loop = asyncio.get_running_loop()
    async with open_server(settings, workdir, events) as (_, environ):
        child = await asyncio.create_subprocess_exec(*argv, cwd=workdir, env={**os.environ, **environ})
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal sends it to the command as well
        loop.add_signal_handler(signal.SIGTERM, child.terminate)
        code = await child.wait()
        signal.alarm(END_LIMIT_S)
    return code if code >= 0 else 128 - code


@contextlib.asynccontextmanager
async def open_server(
    settings: EngineSettings, workdir: str, events: int | None
) -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """Open an engine with one session, and lend the server and the variables that lead a client to it.

    On the way out: new requests are refused, running ones cancelled, services killed, the store flushed.

    Raises:
        EngineError: The engine cannot be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        observer = {}
        if events is not None:
            lines = EventLines(events)
            stack.callback(lines.close)
            observer = {"observer": lines}
        engine = await stack.enter_async_context(Engine.open(settings, workdir=Path(workdir), **observer))
        objects = Objects(TABLES, recipes=engine.store.index, pinned_value=pinned_value, engine=engine)
        token = secrets.token_urlsafe(24)
        server = Server(Queries(objects).answer, token=token)
        stack.push_async_callback(server.close)
        port = await server.open()
        yield server, {"DAGGER_SESSION_PORT": str(port), "DAGGER_SESSION_TOKEN": token}


def _watch_stdin(over: asyncio.Event) -> None:
    """Set `over` when stdin closes; one that cannot be waited for, such as a file, never does."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        if not os.read(0, 65536):
            loop.remove_reader(0)
            over.set()

    try:
        loop.add_reader(0, read)
    except PermissionError:
        _log.warning("stdin cannot be waited for: the session ends on SIGTERM only")
    except (OSError, ValueError):
        over.set()
