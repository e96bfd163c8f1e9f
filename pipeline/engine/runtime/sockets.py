"""Unix sockets of the host for containers, each behind a relay that the exec's user may use."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.runtime.relay import relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_socket(host_path: str, owner: tuple[int, int]) -> AsyncIterator[Path]:
    """Lend a socket, mode 0600 and owned by `owner`, that leads to `host_path`."""
    # Not in the store: a socket's path may be 108 bytes long at most.
    folder = tempfile.mkdtemp(prefix="pipeline-socket-")
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        tasks.add(task)
        try:
            await relay(reader, writer, lambda: asyncio.open_unix_connection(host_path))
        finally:
            tasks.discard(task)

    try:
        path = Path(folder, "socket")
        server = await asyncio.start_unix_server(serve, path)
        try:
            os.chmod(path, 0o600)
            os.chown(path, *owner)
            yield path
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        shutil.rmtree(folder)
