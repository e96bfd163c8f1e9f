"""The engine of one session: a store, a runner, a network, and what a client may ask of them.

`Engine.open` is the way in. Values (`Container`, `Directory`, `File`) are described without it;
everything that has to look, run, fetch or write is a method here.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.engine import actions, ops, read
from pipeline.engine.bycontent import exec_inputs
from pipeline.engine.container import NoCommand
from pipeline.engine.events import NoticeEvent
from pipeline.engine.files import Directory, File
from pipeline.engine.hostfiles import export_directory, export_file
from pipeline.engine.images import Images
from pipeline.engine.mounts import enter_private_mount_namespace
from pipeline.engine.partfiles import PartFiles
from pipeline.engine.runtime.cgroups import Limits
from pipeline.engine.runtime.errors import OutputTooLong
from pipeline.engine.runtime.execute import execute
from pipeline.engine.runtime.network import Network
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.services import Services
from pipeline.engine.runtime.surroundings import Surroundings
from pipeline.engine.settings import CA_PATH, CA_VARIABLES
from pipeline.engine.solve import Solver
from pipeline.engine.sources.host import HostDirectories
from pipeline.engine.sources.secrets import Secrets
from pipeline.engine.store import Store, StoreUnusable
from pipeline.engine.store.usage import limits_of
from pipeline.engine.threads import in_thread, settled
from pipeline.engine.treehash import content_digest, digest_entries, entry_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from pipeline.digest import Digest
    from pipeline.engine.container import Container
    from pipeline.engine.dockerfile.remote import GitSource
    from pipeline.engine.events import EngineEvent, Observer
    from pipeline.engine.runtime.execute import ExecOutcome
    from pipeline.engine.runtime.spec import Runner
    from pipeline.engine.settings import EngineSettings
    from pipeline.engine.solve import ExecResult
    from pipeline.engine.sources.git import GitSources
    from pipeline.engine.sources.http import HttpSources
    from pipeline.engine.store import Snapshot

R = TypeVar("R")
FLUSH_EVERY_S = 5.0
LIMIT_EVERY = 6  # flushes
LEAVE_LIMIT_S = 1.0
"""How long an engine that leaves removes files."""


def _silent(_event: EngineEvent) -> None:
    """Observe nothing."""


@dataclass(kw_only=True)
class Engine:
    """An open engine; made by `Engine.open`, which also closes it."""

    settings: EngineSettings
    workdir: Path
    store: Store
    runner: Runner
    network: Network
    observer: Observer
    secrets: Secrets
    host: HostDirectories
    leaving: threading.Event = field(default_factory=threading.Event)
    solver: Solver = field(init=False)
    services: Services = field(init=False)
    images: Images = field(init=False)

    def __post_init__(self) -> None:
        surroundings = surroundings_of(self.settings)
        slots = asyncio.Semaphore(self.settings.max_execs or 4 * (os.cpu_count() or 1))

        async def run(node: ops.Exec, trees: Mapping[Digest, Snapshot]) -> ExecOutcome:
            return await execute(
                self.store,
                self.runner,
                self.network,
                node,
                trees,
                observer=self.observer,
                services=self.services,
                surroundings=surroundings,
                slot=slots,
            )

        async def evaluate(node: ops.Exec) -> Mapping[Digest, Snapshot]:
            return await self.solver.trees(exec_inputs(node))

        self.solver = Solver(self.store, run, observer=self.observer)
        self.services = Services(self.store, self.runner, self.network, evaluate, surroundings=surroundings)
        self.images = Images(self.store, self.solver, self.settings, self.observer)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, settings: EngineSettings, *, workdir: Path, observer: Observer = _silent
    ) -> AsyncIterator[Engine]:
        """Open the store and everything over it; on the way out nothing of it is left running.

        Moves the process into a mount namespace of its own: call it before any thread is started.

        Raises:
            EngineError: The store cannot be used, or no runner works here.
        """
        enter_private_mount_namespace()
        store = Store.open(settings.store_path(), tell=lambda text: observer(NoticeEvent(text=text)))
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(store.close)
            limits = Limits(memory_bytes=settings.exec_memory_bytes, pids=settings.exec_pids)
            runner = find_runner(settings.runner or None, limits=limits)
            network = await Network.open(store.root, offline=settings.offline)
            stack.push_async_callback(network.close)
            engine = cls(
                settings=settings,
                workdir=workdir,
                store=store,
                runner=runner,
                network=network,
                observer=observer,
                secrets=Secrets(store.root, workdir),
                host=HostDirectories(store, workdir),
            )
            stack.push_async_callback(engine.images.close)
            stack.push_async_callback(engine.services.close)
            stack.push_async_callback(engine.solver.close)
            flusher = asyncio.ensure_future(engine._look_after_store())
            stack.push_async_callback(engine._leave_store, flusher)
            yield engine

    @functools.cached_property
    def git(self) -> GitSources:
        """Repositories, as this session sees them; loaded when one is first asked for."""
        from pipeline.engine.sources.git import GitSources

        return GitSources(self.store, offline=self.settings.offline)

    @functools.cached_property
    def http(self) -> HttpSources:
        """Downloads, as this session sees them; loaded when one is first asked for."""
        from pipeline.engine.sources.http import HttpSources

        return HttpSources(self.store, offline=self.settings.offline)

    @property
    def parts(self) -> PartFiles:
        """Names for files of the host that are not whole yet."""
        return PartFiles(folder=self.store.root / "exports")

    async def _leave_store(self, flusher: asyncio.Task[None]) -> None:
        """End the task that looks after the store, and prune: a short run is over before that task does.

        What cannot be removed in time is left to the next engine.
        """
        self.leaving.set()
        await _stop(flusher)
        until = time.monotonic() + LEAVE_LIMIT_S
        try:
            await in_thread(lambda: self.limit_store(lambda: time.monotonic() > until))
        except (StoreUnusable, OSError) as error:
            self.notice(f"the store was not pruned: {error}")

    async def _look_after_store(self) -> None:
        """Make finished work durable from time to time; what is in between is lost only with the machine.
        Now and then keep the store within its limits.

        First it removes what killed engines left, of their exports and of the store.
        """
        try:
            await in_thread(self.parts.sweep)
            await in_thread(lambda: self.store.gone.empty(self.leaving.is_set))
        except OSError as error:
            self.notice(
                f"cannot remove `{error.filename}`, left by an engine that was killed: {error.strerror}"
            )
        told = ""
        for count in itertools.count():
            await asyncio.sleep(FLUSH_EVERY_S)
            try:
                await in_thread(self.store.flush)
                await in_thread(lambda: self.store.gone.empty(self.leaving.is_set))
                if count % LIMIT_EVERY == 0:
                    await in_thread(lambda: self.limit_store(self.leaving.is_set))
            except (StoreUnusable, OSError) as error:
                if str(error) != told:
                    self.notice(told := str(error))

    def limit_store(self, is_over: Callable[[], bool]) -> None:
        """Remove what was not used for longest, when the store is larger or its disk fuller than it may be.

        What this engine or another living one has used stays. `is_over` says when there is no more time.

        Raises:
            StoreUnusable: The index cannot be used.
            OSError: Something cannot be removed.
        """
        settings = self.settings
        limits = limits_of(
            self.store.root, max_bytes=settings.max_bytes, min_free_bytes=settings.min_free_bytes
        )
        self.store.keep_within(limits, is_over)

    def notice(self, text: str) -> None:
        """Tell the observer one sentence."""
        self.observer(NoticeEvent(text=text))

    # ---- evaluation ------------------------------------------------------------------------

    async def sync(self, container: Container) -> None:
        """Evaluate a container: its root file system and its mounted trees."""
        mounted = [m.tree for m in container.mounts if isinstance(m, ops.TreeMount)]
        await self.solver.trees([container.rootfs, *mounted])

    async def last_exec(self, container: Container) -> ExecResult:
        """Return the result of the container's last exec.

        Raises:
            NoCommand: It never ran one.
            ExecFailed: It failed.
        """
        if container.last_exec is None:
            raise NoCommand
        return await self.solver.exec(container.last_exec)

    async def output(self, container: Container, stream: str) -> str:
        """Return `stdout`, `stderr` or `combined` of the last exec; bad UTF-8 becomes U+FFFD.

        Raises:
            OutputTooLong: It has more bytes than one answer takes.
        """
        result = await self.last_exec(container)
        digest: Digest = getattr(result, stream)
        size_bytes = self.store.blobs.path(digest).stat().st_size
        if size_bytes > read.CONTENTS_MAX_BYTES:
            raise OutputTooLong(stream, size_bytes, read.CONTENTS_MAX_BYTES)
        data = await in_thread(lambda: self.store.blobs.read(digest))
        return data.decode("utf-8", "replace")

    async def look(self, tree: ops.Tree, reader: Callable[[Path], R]) -> R:
        """Evaluate a tree and call `reader` on its merged root, in a thread."""
        snapshot = await self.solver.tree(tree)

        def work() -> R:
            with self.store.snapshots.view(snapshot) as root:
                return reader(root)

        return await in_thread(work)

    @contextlib.asynccontextmanager
    async def view(self, tree: ops.Tree) -> AsyncIterator[Path]:
        """Evaluate a tree and lend its merged root, read-only."""
        snapshot = await self.solver.tree(tree)
        with self.store.snapshots.view(snapshot) as root:
            yield root

    async def require(self, value: Directory | File) -> None:
        """Evaluate a directory or file.

        Raises:
            PathProblem: It is not there, or not of its kind.
        """
        check = read.require_directory if isinstance(value, Directory) else read.require_file
        await self.look(value.tree, lambda root: check(root, value.path))

    async def digest(self, value: Directory | File) -> Digest:
        """Return the content digest of a directory or file: names, types, modes, owners, contents."""

        def digest(root: Path) -> Digest:
            if isinstance(value, Directory):
                return content_digest(read.require_directory(root, value.path))
            found = entry_of(os.fspath(read.require_file(root, value.path)), "file")
            return digest_entries([found] if found else [])

        return await self.look(value.tree, digest)

    # ---- sources ---------------------------------------------------------------------------

    async def host_directory(
        self,
        path: str,
        *,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        no_cache: bool = False,
        gitignore: bool = False,
    ) -> Directory:
        """Read a directory of the host now; the result is known by its content."""
        filters = actions.Filters(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore)
        return Directory(tree=ops.Pinned(content=await self.host.load(path, filters, no_cache=no_cache)))

    async def from_image(self, container: Container, address: str) -> Container:
        """Return `container` on an image; see `Images.from_image`."""
        return await self.images.from_image(container, address)

    async def http_file(self, url: str, *, checksum: str = "") -> File:
        """Return a download, mode 0600."""
        from pipeline.engine.sources.http import HttpRequest

        fetched = await self.http.fetch(HttpRequest(url=url, checksum=checksum))
        return File(tree=ops.Pinned(content=fetched.content), path="/" + fetched.name)

    async def git_directory(self, source: GitSource) -> Directory:
        """Return a repository's files at a ref; see `load_repository`."""
        from pipeline.engine.dockerfile.git import load_repository

        return await load_repository(self.git, source)

    # ---- the way out -----------------------------------------------------------------------

    async def export(
        self, value: Directory | File, path: str, *, wipe: bool = False, into_parent: bool = False
    ) -> str:
        """Write a directory or file to the host and return the absolute path.

        Raises:
            ExportFailed: The target is of the wrong kind, or cannot be written.
        """
        target = self.host_path(path)
        if isinstance(value, Directory):

            def write(root: Path) -> str:
                source = read.require_directory(root, value.path)
                with self.parts.named(target, below=True) as part:
                    return export_directory(source, target, wipe=wipe, part=part)
        else:

            def write(root: Path) -> str:
                source = read.require_file(root, value.path)
                return self.write_file(source, target, name=value.name, into_parent=into_parent)

        return await self.look(value.tree, write)

    def write_file(self, source: Path, target: Path, *, name: str, into_parent: bool = False) -> str:
        """Write a file of this machine to the host; see `export_file`. Blocks."""
        with self.parts.named(target, target.parent, below=False) as part:
            return export_file(source, target, name=name, into_parent=into_parent, part=part)

    def host_path(self, path: str) -> Path:
        """Return a path of the host: `~` expanded, relative to the session's directory."""
        return Path(os.path.normpath(self.workdir / os.path.expanduser(path)))


def surroundings_of(settings: EngineSettings) -> Surroundings:
    """Return what every exec sees of the host's network set-up."""
    env = dict(settings.network.env)
    binds: dict[str, Path] = {}
    if settings.network.ca_bundle:
        binds[CA_PATH] = Path(settings.network.ca_bundle)
        env = {**dict.fromkeys(CA_VARIABLES, CA_PATH), **env}
    return Surroundings(env=env, binds=binds, secrets=settings.network.secrets)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await settled(task)
