"""An engine's process as it is seen by who began it: its port, its events, its last words, its end.

Where an engine may stay the process is a session of that one (`attach`), else one of our own. Either ends
when this process does, however that ends.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.events import ExecEvent, ImageEvent, NoticeEvent
from pipeline.engine.settings import SETTINGS_VARIABLE, settings_to_json
from pipeline.engine.threads import in_thread, settled
from pipeline.errors import EngineError
from pipeline.session.attach import Attached, open_attached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from pipeline.engine.events import EngineEvent, Observer
    from pipeline.engine.settings import EngineSettings

START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 10.0
SESSION_PORT: Final = "DAGGER_SESSION_PORT"
SESSION_TOKEN: Final = "DAGGER_SESSION_TOKEN"  # noqa: S105 - a variable's name
WORDS_KEPT: Final = 200
"""How many lines of what the engine says on stderr are remembered."""
_READ_BYTES: Final = 1 << 16


class EngineNotStarted(EngineError):
    """No engine answers; the message has its own last words."""

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot start the engine: {what}")
        self.hint = hint


class EngineProcess:
    """An engine of our own: its process, and its last words."""

    def __init__(self, process: subprocess.Popen[bytes] | Attached) -> None:
        self.process = process
        self.words: collections.deque[str] = collections.deque(maxlen=WORDS_KEPT)
        self.is_ending = False  # it was asked to
        self.was_killed = False  # by us
        self.was_ready = False  # until then it ends before the session, which `ready` says

    async def ready(self, *, limit_s: float = START_LIMIT_S) -> dict[str, str]:
        """Wait for the port and return the variables the SDK finds it by.

        Raises:
            EngineNotStarted: It ended, says something else, or nothing within `limit_s`.
        """
        assert self.process.stdout is not None  # noqa: S101 - made with a pipe below
        try:
            async with asyncio.timeout(limit_s):
                line = await asyncio.to_thread(self.process.stdout.readline)
        except TimeoutError:
            words = [word for word in self.words if word.strip()]
            last = f"; it last said: {words[-1]}" if words else ""
            raise EngineNotStarted(f"no answer within {limit_s:.0f} s{last}") from None
        if not line:
            await asyncio.to_thread(self.process.wait)
            await asyncio.sleep(0)  # what it said last is read by now or never
            what, hint = self._last_words()
            raise EngineNotStarted(what, hint=hint)
        try:
            told = json.loads(line)
            environ = {SESSION_PORT: str(told["port"]), SESSION_TOKEN: str(told["session_token"])}
        except (ValueError, TypeError, KeyError) as error:
            said = line.decode("utf-8", "replace").strip()[:200]
            raise EngineNotStarted(f"it said `{said}` in place of its port") from error
        self.was_ready = True
        return environ

    def find_notice(self) -> NoticeEvent | None:
        """Return what people should know of how it ended: by itself in the middle, or not well."""
        code = self.process.poll()
        if code is None or not self.was_ready or self.was_killed or (self.is_ending and code == 0):
            return None
        what, hint = self._last_words()
        advice = f" (hint: {hint})" if hint else ""
        return NoticeEvent(text=f"the engine did not end in order: {what}{advice}")

    def _last_words(self) -> tuple[str, str | None]:
        said = [word for word in self.words if word.strip()]
        hint = said[-1].removeprefix("hint: ") if said and said[-1].startswith("hint: ") else None
        lines = [word for word in said if not word.startswith("hint: ")]
        return (lines[-1].removeprefix("pipeline-engine: ") if lines else self._ending()), hint

    def _ending(self) -> str:
        code = self.process.returncode
        if isinstance(self.process, Attached) and not self.process.is_known:
            return "how it ended is not known, since the engine that stays was killed as well"
        return f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"


@contextlib.asynccontextmanager
async def engine_process(
    settings: EngineSettings, workdir: Path, observer: Observer, *, stop_limit_s: float = STOP_LIMIT_S
) -> AsyncIterator[EngineProcess]:
    """Begin a session and lend its process; it has ended when this is left, killed after `stop_limit_s`.

    Raises:
        EngineNotStarted: No process can be made.
    """
    read_end, write_end = os.pipe()
    try:
        process = await in_thread(lambda: _begin(settings, workdir, write_end))
    except OSError as error:
        os.close(read_end)
        raise EngineNotStarted(str(error)) from error
    finally:
        os.close(write_end)
    engine = EngineProcess(process)
    readers = [
        asyncio.ensure_future(_read_events(read_end, engine, observer)),
        asyncio.ensure_future(_read_lines(_descriptor(process.stderr), engine.words.append)),
    ]
    try:
        yield engine
    finally:
        engine.is_ending = True
        await _end(engine, stop_limit_s)
        # Both pipes end with the engine: what it told is told on before the session is left.
        await settled(*readers, within_s=stop_limit_s)
        for reader in readers:
            reader.cancel()
        await settled(*readers)
    for reader in readers:
        if not reader.cancelled():
            reader.result()


def _begin(settings: EngineSettings, workdir: Path, events: int) -> subprocess.Popen[bytes] | Attached:
    """Begin a session of the engine that stays; of one of our own where none may stay, or none can be had."""
    argv = ["session", "--workdir", os.path.abspath(workdir)]
    if settings.idle_s:
        store = settings.store_path()
        environ = {**os.environ, SETTINGS_VARIABLE: settings_to_json(settings)}
        attached = open_attached(argv, store=store, idle_s=settings.idle_s, environ=environ, events=events)
        if attached is not None:
            return attached
    alone = replace(settings, idle_s=0.0)  # it is not to ask for the engine that stays itself
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.session", *argv, "--events", str(events)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(events,),
        start_new_session=True,  # Ctrl-C is for the scheduler, which then ends the session in order
        env={**os.environ, SETTINGS_VARIABLE: settings_to_json(alone)},
    )


async def _read_events(descriptor: int, engine: EngineProcess, observer: Observer) -> None:
    """Hand on every event; the pipe ends with the engine, and then it is told if that was too early."""
    await _read_lines(descriptor, lambda line: _tell(line, observer))
    await asyncio.to_thread(engine.process.wait)
    if notice := engine.find_notice():
        observer(notice)


def _descriptor(stream: Any) -> int:
    return os.dup(stream.fileno())


async def _end(engine: EngineProcess, limit_s: float) -> None:
    """Close the engine's stdin, which ends the session; kill it when it does not end in time."""
    process = engine.process
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    def wait() -> None:
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            engine.was_killed = True
            process.send_signal(signal.SIGKILL)
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    await in_thread(wait)


async def _read_lines(descriptor: int, each: Callable[[str], None]) -> None:
    """Hand on every line of a pipe until its end, however long the lines are."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    stream = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    parts: list[bytes] = []  # of a line whose end has not come
    try:
        while data := await reader.read(_READ_BYTES):
            *whole, rest = data.split(b"\n")
            for line in whole:
                each(b"".join([*parts, line]).decode("utf-8", "replace"))
                parts.clear()
            if rest:
                parts.append(rest)
        if parts:
            each(b"".join(parts).decode("utf-8", "replace"))
    finally:
        transport.close()


_KINDS: Mapping[str, type[EngineEvent]] = {
    "ExecEvent": ExecEvent,
    "ImageEvent": ImageEvent,
    "NoticeEvent": NoticeEvent,
}


def _tell(line: str, observer: Observer) -> None:
    try:
        table = json.loads(line)
    except ValueError:
        return  # the engine was killed while it wrote the line
    kind = _KINDS[table.pop("event")]
    if "argv" in table:
        table["argv"] = tuple(table["argv"])
    observer(kind(**table))
