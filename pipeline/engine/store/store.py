"""One store: its directory, the engines that share it, and the doors to blobs, snapshots and index."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.store import owners, prune, usage
from pipeline.engine.store.blobs import Blobs
from pipeline.engine.store.database import Database, open_database
from pipeline.engine.store.gone import Gone
from pipeline.engine.store.index import Index
from pipeline.engine.store.snapshots import Snapshots
from pipeline.engine.store.uses import Uses
from pipeline.engine.store.values import StoreUnusable, using_disk
from pipeline.engine.store.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.engine.store.owners import Owner
    from pipeline.engine.store.prune import Pruned
    from pipeline.engine.store.usage import Limits
    from pipeline.engine.store.values import Usage

_FOLDERS = ("owners", "blobs/sha256", "blobs/new", "snapshots/0/fs", "volumes", "gone")
_LEAVE_LIMIT_S: Final = 2.0


class Store:
    """A store that this engine has entered; `close` it, or leave it to die: both are safe."""

    def __init__(self, root: Path, database: Database, owner: Owner, boot: str) -> None:
        self.root = root
        self._database = database
        self._owner = owner
        self._uses = Uses(database, owner.number, boot)
        self._views = Views(owner.path / "views")
        self.gone = Gone(root)
        self.blobs = Blobs(root, database, self._uses, owner.number)
        self.snapshots = Snapshots(root, database, self._uses, self._views, self.gone, owner.number)
        self.index = Index(root, database, self._uses, self.snapshots, self.blobs)

    @classmethod
    def open(cls, root: Path, *, tell: Callable[[str], None] = owners.silent) -> Store:
        """Enter the store at `root`, making it when it is missing, and clear up after dead engines.

        Their files are only moved aside, into `gone`: whoever has the time empties it.

        Args:
            tell: Hears a sentence when another engine has to be waited for.

        Raises:
            StoreUnusable: The directory cannot be used, the index is locked, of a newer version, or
                damaged while another engine uses it; or one stays in the door.
        """
        with using_disk(root):
            for folder in _FOLDERS:
                (root / folder).mkdir(parents=True, exist_ok=True)
            with owners.guard(root, tell=tell):
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
                prune.sweep(root, database, living, Gone(root))
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
            marked = 0
            for table in ("snapshots", "blobs"):
                query = f"UPDATE {table} SET durable = ? WHERE durable = 0"  # noqa: S608
                marked += connection.execute(query, (mark,)).rowcount
        if marked:
            _syncfs(self.root)
            with self._database.writing() as connection:
                for table in ("snapshots", "blobs"):
                    query = f"UPDATE {table} SET durable = 1 WHERE durable = ?"  # noqa: S608
                    connection.execute(query, (mark,))
        self._database.sync()  # or a crash of the machine would take the marks, and with them the work

    def usage(self) -> tuple[Usage, ...]:
        """Say what takes the space, by kind; walks the cache volumes, mirrors and recipes."""
        return usage.measure_usage(self.root, self._database)

    def keep_within(self, limits: Limits, is_over: Callable[[], bool] = lambda: False) -> Pruned:
        """Prune when a limit is broken, and somewhat further; cheap when none is. See `prune`.

        Args:
            is_over: Says when there is no more time; what is left then is removed another time.
        """
        if not self.gone.empty(is_over):
            return prune.Pruned()  # how much is free is not known before
        goal = usage.find_breach(self.root, self._database, limits)
        if goal is None:
            return prune.Pruned()
        return self.prune(max_bytes=goal.max_bytes, min_free_bytes=goal.min_free_bytes, is_over=is_over)

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        dry_run: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Pruned:
        """Remove what was not used for longest until the store fits; never what a live engine has used.

        Args:
            max_bytes: The most the store may take; None sets no limit.
            min_free_bytes: The least its file system has to have free; None sets no limit.
            dry_run: Only say what would go.
            is_over: Says when there is no more time: files may be left, which no row names any more.
        """
        self._uses.write_late()
        living, _dead = owners.find_living(self.root)
        pruned = prune.prune(
            self.root,
            self._database,
            self.gone,
            oldest_living=min(living),
            max_bytes=max_bytes,
            min_free_bytes=min_free_bytes,
            dry_run=dry_run,
        )
        if dry_run:
            return pruned
        self.snapshots.forget(list(pruned.snapshots))
        self.gone.empty(is_over)
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
                    self.gone.take(folder)
        if not dry_run:
            self.gone.empty(lambda: False)
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
            self._leave()

    def _leave(self) -> None:
        try:
            with owners.guard(self.root, limit_s=_LEAVE_LIMIT_S):
                self._owner.leave()
        except owners.DoorHeld:
            self._owner.die()


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
