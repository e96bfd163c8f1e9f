"""Directories of the host as trees in the store: read once a session, and only as far as they changed.

What was read before is known from sizes, times and inodes (`statcache`); copying is in `importing`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from pipeline.engine import actions
from pipeline.engine.patterns import clean
from pipeline.engine.sources.importing import ImportFailed, TreeImport
from pipeline.engine.sources.statcache import StatCache, fingerprint, see
from pipeline.engine.store.values import told_when_full
from pipeline.engine.walk import WalkEntry, walk
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.digest import Digest
    from pipeline.engine.store import Store


class HostPathFailed(EngineError):
    """A path of the host cannot be loaded: it is missing, of another kind, or cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot load `{path}` from the host: {reason}")
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFile:
    """A file of the host: a tree with it alone, and its name there."""

    content: Digest
    name: str


class HostDirectories:
    """The host's directories as one session sees them; relative paths start at `workdir`."""

    def __init__(self, store: Store, workdir: str | Path) -> None:
        self._store = store
        self._workdir = os.path.abspath(workdir)
        self._cache = StatCache(store.root / "host")
        self._known: dict[tuple[str, actions.Filters], Digest] = {}
        self._turns: dict[tuple[str, actions.Filters], anyio.Lock] = {}

    async def load(self, path: str, filters: actions.Filters, no_cache: bool = False) -> Digest:
        """Return the content digest of a directory whose tree is now in the store.

        The same call again in this session gives the first answer, unless `no_cache` asks for a new
        look. Owners become 0:0; modes, times and links are kept; fifos, sockets and devices are left out,
        and so are files that vanish meanwhile. Patterns that are absolute or lead out are ignored.

        Raises:
            HostPathFailed: It is missing, no directory, or a file in it cannot be read.
            BadPattern: A pattern is not in the dialect.
        """
        root = self.resolve(path)
        local = _local(filters)

        def read() -> Digest:
            _expect_directory(path, root)
            repo_root = _find_repo_root(root) if local.gitignore else None
            wanted = _with_ignore_files(local) if repo_root not in (None, root) else local
            return self._load(path, root, wanted, lambda: walk(root, wanted, repo_root=repo_root))

        return await self._once((os.fspath(root), local), read, no_cache=no_cache)

    async def load_file(self, path: str, no_cache: bool = False) -> LoadedFile:
        """Return a tree with one file of the host; its directory is not read, a link is followed.

        Raises:
            HostPathFailed: It is missing, no file, or cannot be read.
        """
        root = self.resolve(path)

        def read() -> Digest:
            info = _stat(path, root)
            entry = WalkEntry(root.name, "file", info)
            if not os.path.isfile(root):
                raise HostPathFailed(path, f"{root}: not a file")
            return self._load(path, root.parent, actions.Filters(include=(root.name,)), lambda: iter([entry]))

        key = (os.fspath(root), actions.Filters(include=("",)))
        return LoadedFile(content=await self._once(key, read, no_cache=no_cache), name=root.name)

    def find_up(self, name: str) -> str | None:
        """Look for `name` in the working directory and those above it; the path is relative to the former."""
        for directory in (Path(self._workdir), *Path(self._workdir).parents):
            candidate = directory / name
            if os.path.lexists(candidate):
                return os.path.relpath(candidate, self._workdir)
        return None

    def resolve(self, path: str) -> Path:
        """Return the absolute path that `path` means: `~` is the home directory."""
        return Path(os.path.abspath(os.path.join(self._workdir, os.path.expanduser(path))))

    async def _once(
        self, key: tuple[str, actions.Filters], read: Callable[[], Digest], *, no_cache: bool
    ) -> Digest:
        async with self._turns.setdefault(key, anyio.Lock()):
            if no_cache or key not in self._known:
                self._known[key] = await anyio.to_thread.run_sync(read)
            return self._known[key]

    def _load(
        self, path: str, root: Path, filters: actions.Filters, look: Callable[[], Iterator[WalkEntry]]
    ) -> Digest:
        """Look at the disk; read only what may have changed since the last time."""
        began_ns = time.time_ns()
        try:
            found = see(look())
            place = self._cache.place(root, filters)
            mark = fingerprint(found)
            known = place.find_unchanged(mark)
            if known is not None and self._store.index.find_content(known) is not None:
                return known
            with told_when_full(self._store.root):
                imported = TreeImport(self._store, root, place.load()).run(found)
                place.save(mark, imported, began_ns=began_ns)
        except ImportFailed as error:
            raise HostPathFailed(path, f"{error.path}: {error.reason}") from error
        except OSError as error:
            where = error.filename if error.filename is not None else root
            raise HostPathFailed(
                path, f"{os.fsdecode(where)}: {(error.strerror or str(error)).lower()}"
            ) from error
        return imported.content


def _stat(path: str, root: Path) -> os.stat_result:
    try:
        return os.stat(root)
    except OSError as error:
        raise HostPathFailed(path, f"{root}: {(error.strerror or str(error)).lower()}") from error


def _expect_directory(path: str, root: Path) -> None:
    _stat(path, root)
    if not os.path.isdir(root):
        raise HostPathFailed(path, f"{root}: not a directory")


def _find_repo_root(root: Path) -> Path | None:
    return next((above for above in (root, *root.parents) if (above / ".git").exists()), None)


def _local(filters: actions.Filters) -> actions.Filters:
    return actions.Filters(
        include=tuple(pattern for pattern in filters.include if _is_local(pattern)),
        exclude=tuple(pattern for pattern in filters.exclude if _is_local(pattern)),
        gitignore=filters.gitignore,
    )


def _is_local(pattern: str) -> bool:
    body = pattern.strip().removeprefix("!")
    return not body.startswith("/") and clean(body).split("/")[0] != ".."


def _with_ignore_files(filters: actions.Filters) -> actions.Filters:
    """Let the `.gitignore` files come along, as they do when the repository begins above the directory."""
    if not filters.include:
        return filters
    include = (*filters.include, "**/.gitignore")
    return actions.Filters(include=include, exclude=filters.exclude, gitignore=True)
