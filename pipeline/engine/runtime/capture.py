"""Collects what a command writes: scrubbed first, then kept, shown, and written to redirect files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.runtime.errors import OutputLost
from pipeline.engine.runtime.lines import Lines
from pipeline.engine.runtime.scrub import Scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pipeline.digest import Digest
    from pipeline.engine.runtime.lines import Name
    from pipeline.engine.runtime.scrub import Forms
    from pipeline.engine.store import Blobs, BlobWriter

TAIL_BYTES: Final = 100 * 1024
_IN_MEMORY_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 18
_READS_AT_ONCE: Final = 4


class Kept:
    """Bytes on their way to a blob: in memory while they are few, on the disk when they are many."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._memory = bytearray()
        self._stack = contextlib.ExitStack()
        self._writer: BlobWriter | None = None
        self._tail = bytearray()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self.size_bytes += len(data)
        if self._writer is not None:
            self._writer.write(data)
        else:
            self._memory += data
            if len(self._memory) > _IN_MEMORY_BYTES:
                self._writer = self._stack.enter_context(self._blobs.writer())
                self._writer.write(bytes(self._memory))
                self._memory.clear()
        self._tail += data[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]

    async def keep(self) -> Digest:
        """Make it a blob.

        Raises:
            OutputLost: The disk does not take it.
        """
        try:
            if self._writer is None:
                return self._blobs.put_bytes(bytes(self._memory))
            await asyncio.to_thread(self._stack.close)
        except OSError as error:
            raise OutputLost(error) from error
        assert self._writer.digest is not None  # noqa: S101 - the writer's block has ended well
        return self._writer.digest

    def drop(self) -> None:
        """Give it up; nothing stays on the disk. After `keep` nothing happens."""
        error = _Dropped()
        self._stack.__exit__(_Dropped, error, None)

    def tail(self, *, trimmed: bool = True) -> str:
        """Return the end as it is told in an error: at most 100 KiB, marked where it is cut."""
        kept = bytes(self._tail)
        omitted = self.size_bytes - len(kept)
        if omitted > 0:
            notice = f"[omitting {omitted} bytes]...".encode()
            kept = notice + kept[len(notice) :]
        text = kept.decode("utf-8", "replace")
        return text.strip() if trimmed else text


class _Dropped(Exception):
    """Ends a blob writer's block without keeping the blob."""


class Stream:
    """One pipe of a command; the write end is the command's until `started`."""

    def __init__(
        self,
        name: Name,
        capture: Capture,
        forms: Forms,
        show: Callable[[Name, str], None],
        blobs: Blobs,
    ) -> None:
        self.kept = Kept(blobs)
        self.copy_to: int | None = None
        self._capture = capture
        self._scrubber = Scrubber(forms)
        self._lines = Lines(name, show)
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.write_end, True)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._read_end, self._on_readable)

    def _on_readable(self) -> None:
        try:
            for _ in range(_READS_AT_ONCE):
                try:
                    data = os.read(self._read_end, _READ_BYTES)
                except BlockingIOError:
                    return
                if not data:
                    self._take(self._scrubber.finish(), final=True)
                    self._finish()
                    return
                self._take(self._scrubber.feed(data))
        except Exception as error:  # noqa: BLE001 - handed to the one who waits: a full disk, a gone redirect
            self._finish(error)

    def _take(self, data: bytes, *, final: bool = False) -> None:
        if data:
            self.kept.write(data)
            self._capture.combined.write(data)
            if self.copy_to is not None:
                _write_all(self.copy_to, data)
        self._lines.feed(data, final=final)

    def _finish(self, error: Exception | None = None) -> None:
        self._loop.remove_reader(self._read_end)
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self._capture.broken.set()

    def close_write_end(self) -> None:
        """Leave the pipe to the command alone, so that its end is seen."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        """Free what is left."""
        self.close_write_end()
        if not self.ended.done():
            self._loop.remove_reader(self._read_end)
            self.ended.cancel()
        elif not self.ended.cancelled():
            self.ended.exception()  # seen by now, or nobody waits any more
        os.close(self._read_end)
        if self.copy_to is not None:
            os.close(self.copy_to)
        self.kept.drop()


class Capture:
    """Both streams of one command, and what they wrote in the order it came."""

    def __init__(self, blobs: Blobs, forms: Forms, show: Callable[[Name, str], None]) -> None:
        self.combined = Kept(blobs)
        self.broken = asyncio.Event()
        self.stdout = Stream("stdout", self, forms, show, blobs)
        self.stderr = Stream("stderr", self, forms, show, blobs)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stdout.close()
        self.stderr.close()
        self.combined.drop()

    async def while_running(self, run: Coroutine[Any, Any, int]) -> int:
        """Wait for `run`, the command's, and for the rest of what it wrote; return its exit code.

        Raises:
            OutputLost: Something could not be kept or copied; `run` was cancelled.
        """
        task = asyncio.ensure_future(run)
        broken = asyncio.ensure_future(self.broken.wait())
        try:
            both: set[asyncio.Future[Any]] = {task, broken}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self.broken.is_set():
                self._raise_broken()
            code = task.result()
            for stream in (self.stdout, self.stderr):
                stream.close_write_end()
                await stream.ended
            return code
        except OSError as error:
            raise OutputLost(error) from error
        finally:
            broken.cancel()
            task.cancel()
            while not task.done():
                # However often the caller is cancelled, the container has to be gone first.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})

    def _raise_broken(self) -> None:
        for stream in (self.stdout, self.stderr):
            if stream.ended.done():
                stream.ended.result()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
