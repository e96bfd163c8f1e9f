"""What a run does for its stages' contexts: logs, kept files, secrets, and the one engine client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from pipeline.errors import PipelineError, UsageError
from pipeline.graph.context import Artifact, current_context
from pipeline.graph.events import StageOutput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from pipeline.graph.cache import StageCache
    from pipeline.graph.context import EngineOpener
    from pipeline.graph.events import Event
    from pipeline.graph.record import RunFolder
    from pipeline.graph.scrub import Scrubber

SCRUBBED_MAX_BYTES = 16 << 20


class ArtifactGone(PipelineError):
    """Neither this run nor the stage cache has the content of an artifact."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(f"cannot find `{artifact.name}` ({artifact.digest}): its content is no longer here")
        self.artifact = artifact


class NoEngine(UsageError):
    """A stage asked for the Dagger client in a run that has none."""


class EngineHost:
    """Opens the run's engine at the first request and holds it until the run closes it.

    A task of its own enters and leaves the client's context manager, since whoever asks first may be
    cancelled long before the others are done.
    """

    def __init__(self, opener: EngineOpener | None, emit: Callable[[Event], None], tasks: TaskGroup) -> None:
        self._opener = opener
        self._emit = emit
        self._tasks = tasks
        self._asked = False
        self._client: Any = None
        self._error: Exception | None = None
        self._ready = anyio.Event()
        self._closing = anyio.Event()
        self._done = anyio.Event()
        self.problem: str | None = None  # what went wrong when it was closed

    async def client(self) -> Any:
        """The client, opened on the first call.

        Raises:
            NoEngine: The run has no opener.
            Exception: What opening raised; the same for everybody who asks.
        """
        if self._opener is None:
            raise NoEngine("cannot open an engine: this run was started without one")
        if not self._asked:
            self._asked = True
            self._tasks.start_soon(self._hold, self._opener)
        await self._ready.wait()
        if self._error is not None:
            raise self._error
        return self._client

    async def close(self, within_s: float) -> None:
        """Close the engine if it was opened; gives up waiting after `within_s`."""
        self._closing.set()
        if self._asked:
            with anyio.move_on_after(within_s) as limit:
                await self._done.wait()
            if limit.cancelled_caught:
                self.problem = f"the engine did not close within {within_s:g} s"

    async def _hold(self, opener: EngineOpener) -> None:
        current_context.set(None)  # the engine works for the run, not for the stage that asked first
        try:
            async with opener(self._emit) as self._client:
                self._ready.set()
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who asked
            if self._ready.is_set():
                self.problem = f"the engine did not close cleanly: {error}"
            self._error = error
        finally:
            self._ready.set()
            self._done.set()


class RunServices:
    """The services of one run; `pipeline.graph.context.Services`."""

    def __init__(
        self,
        *,
        folder: RunFolder,
        cache: StageCache | None,
        emit: Callable[[Event], None],
        secret: Callable[[str], str | None],
        scrubber: Scrubber,
        engine: EngineHost,
    ) -> None:
        self._folder = folder
        self._cache = cache
        self._emit = emit
        self._secret = secret
        self._scrubber = scrubber
        self._engine = engine
        self._paths: dict[str, Path] = {}
        self.kept: dict[str, dict[str, Artifact]] = {}  # by stage and name

    def log(self, stage: str, text: str) -> None:
        """Tell people `text`."""
        self._emit(StageOutput(at=time.time(), stage=stage, stream="log", text=text))

    def keep(self, stage: str, name: str, data: bytes | Path) -> Artifact:
        """Keep a file, without secrets in it; files above 16 MiB are kept as they are."""
        if not isinstance(data, bytes) and data.stat().st_size <= SCRUBBED_MAX_BYTES:
            content = data.read_bytes()
            clean = self._scrubber.data(content)
            data = data if clean == content else clean
        elif isinstance(data, bytes):
            data = self._scrubber.data(data)
        stored = self._folder.keep(stage, name, data)
        self.know(stage, stored.artifact, stored.path)
        return stored.artifact

    def know(self, stage: str, artifact: Artifact, path: Path) -> None:
        """Note where a kept file is."""
        self.kept.setdefault(stage, {})[artifact.name] = artifact
        self._paths[artifact.digest] = path

    def path(self, artifact: Artifact) -> Path:
        """Where an artifact's content is.

        Raises:
            ArtifactGone: It is nowhere.
        """
        known = self._paths.get(artifact.digest)
        if known is not None and known.is_file():
            return known
        stored = None if self._cache is None else self._cache.blob(artifact.digest)
        if stored is None:
            raise ArtifactGone(artifact)
        return stored

    def remember(self, stage: str, name: str, data: bytes) -> None:
        """Leave a note beside the stage cache, without secrets in it; where that cannot be, it is lost."""
        if self._cache is None:
            return
        try:
            self._cache.put_note(stage, name, self._scrubber.data(data))
        except OSError as error:
            self.log(stage, f"not remembered: {error}\n")

    def recall(self, stage: str, name: str) -> bytes | None:
        """The note an earlier run left."""
        return None if self._cache is None else self._cache.note(stage, name)

    def secret(self, name: str) -> str | None:
        """A secret's value, hidden from now on wherever it would be told."""
        value = self._secret(name)
        if value is not None:
            self._scrubber.learn(value)
        return value

    async def client(self) -> Any:
        """The run's one client."""
        return await self._engine.client()
