"""Opens the Dagger SDK on the embedded engine, or on a real Dagger engine.

Embedded: starts an engine process of our own, which ends when this process does, however that ends.
Leaves what is done with the client to the stages.
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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.engine.events import ExecEvent, ImageEvent, NoticeEvent
from pipeline.engine.settings import IDLE_S, EngineSettings, NetworkSettings, settings_to_json
from pipeline.engine.threads import in_thread, settled
from pipeline.errors import EngineError, UsageError
from pipeline.session.attach import Attached, open_attached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    import dagger

    from pipeline.config import Config
    from pipeline.config.lock import Lock
    from pipeline.engine.events import EngineEvent, Observer

START_LIMIT_S = 60.0
ANSWER_LIMIT_S = 10.0  # until a Dagger engine takes a connection
STOP_LIMIT_S = 10.0
WORDS_KEPT = 200
"""How many lines of what the engine says on stderr are remembered."""
_READ_BYTES = 1 << 16
TOLD_OF = ("HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
SETTINGS_VARIABLE = "PIPELINE_ENGINE_SETTINGS"
SESSION_PORT = "DAGGER_SESSION_PORT"
SESSION_TOKEN = "DAGGER_SESSION_TOKEN"  # noqa: S105 - a variable's name


class EngineNotStarted(EngineError):
    """No engine answers; the message has its own last words."""

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot start the engine: {what}")
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which engine to open: the embedded one, or Dagger at an address ("" = the session's own)."""

    kind: str  # "embedded" or "dagger"
    address: str = ""


def parse_target(text: str) -> Target:
    """Read `embedded`, `dagger` or `dagger=ADDRESS`.

    Raises:
        UsageError: It is none of these.
    """
    kind, _, address = text.partition("=")
    if kind not in ("embedded", "dagger") or (kind == "embedded" and "=" in text):
        raise UsageError(f"cannot use the engine `{text}`: expected embedded, dagger or dagger=ADDRESS")
    return Target(kind=kind, address=address)


def python_image_for(requires_python: str) -> str:
    """Return the Python image for a `requires-python`, such as "python:3.13-slim".

    Raises:
        BadPythonRequirement: Nothing satisfies it.
    """
    from pipeline.engine.recipes.recipe import python_image_for as choose

    return choose(requires_python)


def engine_settings(config: Config, lock: Lock | None = None) -> EngineSettings:
    """Return what the configuration, and the lock file, say that the embedded engine must know."""
    engine, network = config.engine, config.network
    return EngineSettings(
        store=engine.store or "",
        runner=engine.runner or "",
        offline=network.offline,
        image_fallback=config.images.fallback,
        pins=() if lock is None else tuple(lock.images.items()),
        stand_in_pins=() if lock is None else tuple(lock.stand_ins.items()),
        is_locked=lock is not None and config.images.locked,
        max_bytes=engine.max_bytes,
        min_free_bytes=engine.min_free_bytes,
        idle_s=engine.idle_s if engine.idle_s is not None else 0.0 if "CI" in os.environ else IDLE_S,
        exec_memory_bytes=engine.exec_max_memory,
        exec_pids=engine.exec_max_pids,
        mirrors=tuple((host, url) for host, urls in config.images.mirrors.items() for url in urls),
        network=network_settings(config),
    )


def network_settings(config: Config) -> NetworkSettings:
    """Return the declared network set-up as variables for containers, and the secrets in it."""
    network = config.network
    addresses = [a for a in (network.index_url, *network.extra_index_url) if a]
    proxies = [p for p in (network.http_proxy, network.https_proxy) if p]
    links = [link for link in network.find_links if "://" in link]  # folders are the host's alone
    env: dict[str, str] = {}
    _set(env, ("HTTP_PROXY", "http_proxy"), network.http_proxy)
    _set(env, ("HTTPS_PROXY", "https_proxy"), network.https_proxy)
    _set(env, ("NO_PROXY", "no_proxy"), network.no_proxy)
    _set(env, ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), network.index_url)
    _set(env, ("PIP_EXTRA_INDEX_URL", "UV_INDEX"), " ".join(network.extra_index_url))
    _set(env, ("PIP_FIND_LINKS", "UV_FIND_LINKS"), " ".join(links))
    _set(env, ("PIP_TRUSTED_HOST",), " ".join(network.trusted_host))
    if network.pip_timeout_s is not None:
        _set(env, ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"), f"{network.pip_timeout_s:.0f}")
    secrets = [s for address in (*addresses, *proxies, *links) for s in _passwords(address)]
    return NetworkSettings(
        ca_bundle=network.ca_bundle or "",
        env=tuple(env.items()),
        secrets=tuple(dict.fromkeys(secrets)),
    )


def _set(env: dict[str, str], names: tuple[str, ...], value: str | None) -> None:
    if value:
        env.update(dict.fromkeys(names, value))


def _passwords(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield f"{parts.username}:{parts.password}"


@contextlib.asynccontextmanager
async def open_session(
    target: Target, settings: EngineSettings, *, workdir: Path, observer: Observer
) -> AsyncIterator[dagger.Client]:
    """Open a session and lend the SDK's client; the engine is gone when this is left.

    The client is `dagger.dag`, so that code written for the global client works as well. The SDK's
    own retry of queries is off: the scheduler alone decides what is tried again.

    Raises:
        EngineNotStarted: The engine does not come up, or nothing answers at the address.
    """
    async with contextlib.AsyncExitStack() as stack:
        if target.kind == "embedded":
            # The engine starts while the SDK is imported: each takes some tenths of a second.
            engine = await stack.enter_async_context(_engine_process(settings, workdir, observer))
            import dagger

            environ: Mapping[str, str | None] = await engine.ready()
            config = dagger.Config(retry=None)
        else:
            import dagger

            await _check_address(target.address)
            _tell_unused(settings.network, observer)
            environ = dagger_environment(target)
            # The SDK takes a folder only for a session that it starts itself.
            has_session = target.address == "" and SESSION_PORT in os.environ
            config = dagger.Config(retry=None, workdir="" if has_session else workdir)
        stack.enter_context(_environment(environ))
        try:
            await stack.enter_async_context(dagger.connection(config))
        except (dagger.ClientError, dagger.ProvisionError) as error:
            raise EngineNotStarted(str(error)) from error
        yield dagger.dag


def dagger_environment(target: Target) -> dict[str, str | None]:
    """Return the variables by which the SDK finds a Dagger engine; None is one that must not be set.

    An address that was given goes before a session that is already in the environment.
    """
    if not target.address:
        return {}
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": target.address,
        SESSION_PORT: None,
        SESSION_TOKEN: None,
    }


async def _check_address(address: str) -> None:
    """Ask whether anything listens where an engine should: Dagger's own program tries for minutes.

    Raises:
        EngineNotStarted: Nothing does. Addresses other than `unix://` and `tcp://` are not asked.
    """
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            if parts.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(parts.netloc + parts.path)
            elif parts.scheme == "tcp":
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            else:
                return
    except (OSError, ValueError) as error:  # of OSError: no answer in time as well
        words = getattr(error, "strerror", None) or str(error) or "no answer"
        raise EngineNotStarted(f"nothing answers at `{address}`: {words.lower()}") from error
    writer.close()
    with contextlib.suppress(OSError):  # it answered: how it parts does not matter
        await writer.wait_closed()


def _tell_unused(network: NetworkSettings, observer: Observer) -> None:
    """Name the declared network settings that a Dagger engine is not told of."""
    names = [name for name, _ in network.env if name in TOLD_OF]
    if names:
        text = (
            f"a Dagger engine has its own network set-up and is not told {', '.join(names)}; set an index "
            "in `env` of a stage, proxies and certificates at the engine"
        )
        observer(NoticeEvent(text=text))


@contextlib.contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for as long as the session lasts: the SDK, and programs that stages start, read them."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _EngineProcess:
    """An engine of our own: its process, and its last words."""

    def __init__(self, process: subprocess.Popen[bytes] | Attached) -> None:
        self.process = process
        self.words: collections.deque[str] = collections.deque(maxlen=WORDS_KEPT)
        self.is_ending = False  # it was asked to
        self.was_killed = False  # by us
        self.was_ready = False  # until then it ends before the session, which `ready` says

    async def ready(self) -> dict[str, str]:
        """Wait for the port and return the variables the SDK finds it by.

        Raises:
            EngineNotStarted: It ended, says something else, or nothing within `START_LIMIT_S`.
        """
        assert self.process.stdout is not None  # noqa: S101 - made with a pipe below
        try:
            async with asyncio.timeout(START_LIMIT_S):
                line = await asyncio.to_thread(self.process.stdout.readline)
        except TimeoutError:
            raise EngineNotStarted(f"no answer within {START_LIMIT_S:.0f} s") from None
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
        code = self.process.returncode
        ending = f"exit code {code}" if code is None or code >= 0 else f"signal {-code}"
        return (lines[-1].removeprefix("pipeline-engine: ") if lines else ending), hint


@contextlib.asynccontextmanager
async def _engine_process(
    settings: EngineSettings, workdir: Path, observer: Observer
) -> AsyncIterator[_EngineProcess]:
    read_end, write_end = os.pipe()
    try:
        process = await in_thread(lambda: _begin(settings, workdir, write_end))
    except OSError as error:
        os.close(read_end)
        raise EngineNotStarted(str(error)) from error
    finally:
        os.close(write_end)
    engine = _EngineProcess(process)
    readers = [
        asyncio.ensure_future(_read_events(read_end, engine, observer)),
        asyncio.ensure_future(_read_lines(_descriptor(process.stderr), engine.words.append)),
    ]
    try:
        yield engine
    finally:
        engine.is_ending = True
        await _end(engine)
        # Both pipes end with the engine: what it told is told on before the session is left.
        await settled(*readers, within_s=STOP_LIMIT_S)
        for reader in readers:
            reader.cancel()
        await settled(*readers)
    for reader in readers:
        if not reader.cancelled():
            reader.result()


def _begin(settings: EngineSettings, workdir: Path, events: int) -> subprocess.Popen[bytes] | Attached:
    """Begin a session of the engine that stays; of one of our own where none may stay, or none can be had."""
    argv = ["session", "--workdir", os.path.abspath(workdir)]
    environ = {**os.environ, SETTINGS_VARIABLE: settings_to_json(settings)}
    if settings.idle_s > 0:
        store = settings.store_path()
        attached = open_attached(argv, store=store, idle_s=settings.idle_s, environ=environ, events=events)
        if attached is not None:
            return attached
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.session", *argv, "--events", str(events)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(events,),
        start_new_session=True,  # Ctrl-C is for the scheduler, which then ends the session in order
        env=environ,
    )


async def _read_events(descriptor: int, engine: _EngineProcess, observer: Observer) -> None:
    """Hand on every event; the pipe ends with the engine, and then it is told if that was too early."""
    await _read_lines(descriptor, lambda line: _tell(line, observer))
    await asyncio.to_thread(engine.process.wait)
    if notice := engine.find_notice():
        observer(notice)


def _descriptor(stream: Any) -> int:
    return os.dup(stream.fileno())


async def _end(engine: _EngineProcess) -> None:
    """Close the engine's stdin, which ends the session; kill it when it does not end in time."""
    process = engine.process
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    def wait() -> None:
        try:
            process.wait(STOP_LIMIT_S)
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
