"""One store: its directory, the engines that share it, and the doors to blobs, snapshots and index."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.store import owners, prune, usage
from pipeline.engine.store.blobs import Blobs
from pipeline.engine.store.database import Database, open_database
from pipeline.engine.store.index import Index
from pipeline.engine.store.layers import remove_tree
from pipeline.engine.store.snapshots import Snapshots
from pipeline.engine.store.uses import Uses
from pipeline.engine.store.values import StoreUnusable, using_disk
from pipeline.engine.store.views import Views

if TYPE_CHECKING:
    from pipeline.engine.store.owners import Owner
    from pipeline.engine.store.prune import Pruned
    from pipeline.engine.store.usage import Limits
    from pipeline.engine.store.values import Usage

_FOLDERS = ("owners", "blobs/sha256", "blobs/new", "snapshots/0/fs", "volumes")


class Store:
    """A store that this engine has entered; `close` it, or leave it to die: both are safe."""

    def __init__(self, root: Path, database: Database, owner: Owner, boot: str) -> None:
        self.root = root
        self._database = database
        self._owner = owner
        self._uses = Uses(database, owner.number, boot)
        self._views = Views(owner.path / "views")
        self.blobs = Blobs(root, database, self._uses, owner.number)
        self.snapshots = Snapshots(root, database, self._uses, self._views, owner.number)
        self.index = Index(root, database, self._uses, self.snapshots, self.blobs)

    @classmethod
    def open(cls, root: Path) -> Store:
        """Enter the store at `root`, making it when it is missing, and clear up after dead engines.

        Raises:
            StoreUnusable: The directory cannot be used, the index is locked, of a newer version, or
                damaged while another engine uses it.
        """
        with using_disk(root):
            for folder in _FOLDERS:
                (root / folder).mkdir(parents=True, exist_ok=True)
            with owners.guard(root):
                return cls._enter(root)

    @classmethod
    def _enter(cls, root: Path) -> Store:
        living, dead = owners.find_living(root)
        is_new = not (root / "engine.db").exists()
        database = open_database(root / "engine.db", alone=not living, suspect=bool(dead))
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            prune.drop_doubtful(database, boot)
            if dead or is_new or not living:
                prune.sweep(root, database, living)
            for path in dead:
                owners.clear(path)
            owner = owners.enter(root, _next_number(database))
        except BaseException:
            database.close()
            raise
        return cls(root, database, owner, boot)

    def flush(self) -> None:
        """Bring everything written so far to the disk and note that it is safe there; takes a while."""
        self._uses.write_late()
        mark = -self._owner.number
        with self._database.writing() as connection:
            for table in ("snapshots", "blobs"):
                connection.execute(f"UPDATE {table} SET durable = ? WHERE durable = 0", (mark,))  # noqa: S608
        _syncfs(self.root)
        with self._database.writing() as connection:
            changed = 0
            for table in ("snapshots", "blobs"):
                query = f"UPDATE {table} SET durable = 1 WHERE durable = ?"  # noqa: S608
                changed += connection.execute(query, (mark,)).rowcount
        if changed:
            self._database.sync()  # or a crash of the machine would take the marks, and with them the work

    def usage(self) -> tuple[Usage, ...]:
        """Say what takes the space, by kind; walks the cache volumes, mirrors and recipes."""
        return usage.measure_usage(self.root, self._database)

    def keep_within(self, limits: Limits) -> Pruned:
        """Prune when a limit is broken, and somewhat further; cheap when none is. See `prune`."""
        goal = usage.find_breach(self.root, self._database, limits)
        if goal is None:
            return prune.Pruned()
        return self.prune(max_bytes=goal.max_bytes, min_free_bytes=goal.min_free_bytes)

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        dry_run: bool = False,
    ) -> Pruned:
        """Remove what was not used for longest until the store fits; never what a live engine has used.

        Args:
            max_bytes: The most the store may take; None sets no limit.
            min_free_bytes: The least its file system has to have free; None sets no limit.
            dry_run: Only say what would go.
        """
        self._uses.write_late()
        living, _dead = owners.find_living(self.root)
        pruned = prune.prune(
            self.root,
            self._database,
            oldest_living=min(living),
            max_bytes=max_bytes,
            min_free_bytes=min_free_bytes,
            dry_run=dry_run,
        )
        if dry_run:
            return pruned
        self.snapshots.forget(list(pruned.snapshots))
        return pruned

    def drop_sources(self, *, dry_run: bool = False) -> int:
        """Remove the mirrors of repositories and the packages of recipes; return their bytes.

        Nothing goes while another engine is at work: it may be reading them. None comes in meanwhile.
        """
        folders = [self.root / name for name in usage.SOURCE_FOLDERS]
        with owners.guard(self.root):
            living, _dead = owners.find_living(self.root)
            if living != {self._owner.number}:
                return 0
            size_bytes = sum(usage.tree_bytes(folder)[1] for folder in folders)
            if not dry_run:
                for folder in folders:
                    remove_tree(folder)
        return size_bytes

    def close(self) -> None:
        """Flush, unmount the views and leave, which succeeds on a full disk as well.

        Raises:
            StoreUnusable: It could not be flushed; the store is closed all the same.
        """
        self._views.close()
        try:
            self.flush()
        finally:
            self._database.close()
            with owners.guard(self.root):
                self._owner.leave()


def _next_number(database: Database) -> int:
    with database.writing() as connection:
        connection.execute(
            "INSERT INTO counters (name, value) VALUES ('engines', 1)"
            " ON CONFLICT (name) DO UPDATE SET value = value + 1"
        )
        row = connection.execute("SELECT value FROM counters WHERE name = 'engines'").fetchone()
    return int(row[0])


def _syncfs(root: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise StoreUnusable(root, f"it cannot be flushed: {os.strerror(code).lower()}")
    finally:
        os.close(descriptor)
