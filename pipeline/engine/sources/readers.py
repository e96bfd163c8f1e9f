"""Several processes that read and copy files at once; `copying` is what each of them runs.

The caller's own thread takes part: a helper takes 15 ms to start, and may never start at all. What a
helper had in hand when it died is read here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.sources import copying
from pipeline.engine.sources.copying import ImportFailed, Reader, ReadFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import RawIOBase

_OWN_BATCH: Final = 16  # small: a helper that is done waits for the end of it
_HELPER_BATCH: Final = 256
_MOST_HELPERS: Final = 3
_FILES_PER_HELPER: Final = 1000  # fewer are read in the time that a helper takes to start
_log = logging.getLogger(__name__)


def read_files(source: str, target: str | None, paths: Sequence[str]) -> list[ReadFile]:
    """Read the files `paths` below `source`, and copy them to `target`, where their directories are.

    Files that are gone are left out. The order is not that of `paths`.

    Raises:
        ImportFailed: A file cannot be read, or changes all the time.
        OSError: `target` cannot be written.
    """
    reader = Reader(source, target)
    todo = list(reversed(paths))
    read: list[ReadFile] = []
    with _started(source, target, len(paths)) as helpers:
        while todo or any(helper.batch for helper in helpers):
            for helper in [h for h in helpers if h.is_ready(wait=not todo)]:
                try:
                    read += helper.take()
                    helper.give(_pop(todo, _HELPER_BATCH))
                except (EOFError, BrokenPipeError) as error:
                    _log.warning("a process that reads files has died (%s): they are read again", error)
                    helpers.remove(helper)
                    todo += helper.batch
            read += reader.read_batch(_pop(todo, _OWN_BATCH))
    return read


def _pop(todo: list[str], count: int) -> list[str]:
    """Take the last `count` away, or what there is."""
    taken = todo[-count:]
    del todo[-count:]
    return taken


class _Helper:
    """One process, and the batch it has in hand.

    It never has two: while it writes an answer nothing is written to it, so that neither end waits for
    the other for ever.
    """

    def __init__(self, source: str, target: str | None) -> None:
        mode = f"utf8={sys.flags.utf8_mode}"  # names of files mean the same to both
        argv = [sys.executable, "-I", "-S", "-X", mode, copying.__file__, source, target or ""]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._requests: RawIOBase = self._process.stdin  # type: ignore[assignment]
        self._answers: RawIOBase = self._process.stdout  # type: ignore[assignment]
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        self.batch: list[str] = []

    def is_ready(self, *, wait: bool) -> bool:
        """Has it answered, or nothing to do? With `wait`, only say so when it has."""
        return not self.batch or bool(self._poll.poll(None if wait else 0))

    def give(self, batch: list[str]) -> None:
        """Let it read a batch."""
        self.batch = batch
        if batch:
            copying.send(self._requests, batch)

    def take(self) -> list[ReadFile]:
        """Wait for the answer to the batch in hand; nothing when there is none.

        Raises:
            ImportFailed: As `copying.Reader.read_batch`.
            OSError: As there.
            EOFError: It has died.
        """
        if not self.batch:
            return []
        answer: Any = copying.receive(self._answers)
        if answer is None:
            raise EOFError("it has ended")
        self.batch = []
        if isinstance(answer, tuple):
            kind, *told = answer
            raise ImportFailed(*told) if kind == "import" else OSError(*told)
        files: list[ReadFile] = answer
        return files

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._requests.close()
        self._answers.close()
        self._process.wait()


@contextlib.contextmanager
def _started(source: str, target: str | None, files: int) -> Iterator[list[_Helper]]:
    """Start as many helpers as the files are worth and the processors can feed, and end them all."""
    count = min(files // _FILES_PER_HELPER, len(os.sched_getaffinity(0)) - 1, _MOST_HELPERS)
    with contextlib.ExitStack() as stack:
        helpers: list[_Helper] = []
        try:
            for _ in range(count):
                helpers.append(_Helper(source, target))
                stack.callback(helpers[-1].end)
        except OSError as error:
            _log.warning("cannot start a process that reads files: %s", error)
        yield helpers
