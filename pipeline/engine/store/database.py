"""The SQLite file behind the store: opening, migrating, transactions, and what to do when it is damaged."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.store.values import FULL_HINT, StoreUnusable, using_disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BUSY_S: Final = 20.0
_CHECKED_BYTES: Final = 16 << 20
_LEAST_FREE_BYTES: Final = 1 << 20  # what SQLite may want at once: its log and its shared memory
_log = logging.getLogger(__name__)

# Each step is applied once, in order; a step that was released is never edited.
MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE drafts (id INTEGER PRIMARY KEY AUTOINCREMENT, owner INTEGER NOT NULL);
    CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, depth INTEGER NOT NULL,
        flat INTEGER NOT NULL, identity TEXT NOT NULL, size_bytes INTEGER NOT NULL, boot TEXT NOT NULL,
        durable INTEGER NOT NULL DEFAULT 0, used_by INTEGER NOT NULL, last_used REAL NOT NULL);
    CREATE INDEX snapshots_parent ON snapshots (parent);
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, boot TEXT NOT NULL,
        durable INTEGER NOT NULL DEFAULT 0, used_by INTEGER NOT NULL, last_used REAL NOT NULL);
    CREATE TABLE volumes (
        identity TEXT PRIMARY KEY, used_by INTEGER NOT NULL, last_used REAL NOT NULL);
    CREATE TABLE results (
        key TEXT PRIMARY KEY, trees TEXT NOT NULL, data TEXT NOT NULL, blobs TEXT NOT NULL,
        used_by INTEGER NOT NULL, last_used REAL NOT NULL);
    CREATE TABLE contents (digest TEXT PRIMARY KEY, snapshot INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX contents_snapshot ON contents (snapshot);
    CREATE TABLE recipes (id TEXT PRIMARY KEY, text TEXT NOT NULL);
    CREATE TABLE notes (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key));
    """,
    """
    ALTER TABLE snapshots ADD COLUMN kind TEXT NOT NULL DEFAULT 'results';
    """,
    """
    ALTER TABLE recipes ADD COLUMN used_by INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE recipes ADD COLUMN last_used REAL NOT NULL DEFAULT 0;
    ALTER TABLE notes ADD COLUMN used_by INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE notes ADD COLUMN last_used REAL NOT NULL DEFAULT 0;
    UPDATE recipes SET last_used = strftime('%s', 'now');
    UPDATE notes SET last_used = strftime('%s', 'now');
    """,
)


class Database:
    """One connection, used from any thread, one statement or transaction at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._turn = threading.RLock()

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return every row of a query.

        Raises:
            StoreUnusable: The database is damaged or locked for too long.
        """
        with self._turn, self._translated():
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query, or None."""
        with self._turn, self._translated():
            return self._connection.execute(query, values).fetchone()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the one write transaction of the store; it is undone when the block raises.

        Raises:
            StoreUnusable: The database is damaged or locked for too long.
        """
        with self._turn, self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # A commit that failed, such as on a full disk, leaves the transaction open, and with it
                # the lock that all engines wait for; some failures have ended it already.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def write(self, query: str, values: Sequence[object] = ()) -> int:
        """Carry out one statement in a transaction of its own; return how many rows it changed."""
        with self._turn, self._translated():
            return self._connection.execute(query, values).rowcount

    def sync(self) -> None:
        """Bring what was committed to the disk: a commit alone survives the process, not the machine."""
        with self._turn, using_disk(self.path.parent):
            _sync_file(f"{self.path}-wal")

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _refused(self.path, error) from error
        except sqlite3.DatabaseError as error:
            hint = "end the engines that use it: the next one sets the damaged index aside"
            raise StoreUnusable(self.path.parent, f"its index is damaged: {error}", hint=hint) from error


def _sync_file(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # no transaction since the last engine left
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, error: sqlite3.OperationalError) -> StoreUnusable:
    """Say what the index answered; on a full disk SQLite speaks of a full database or of an I/O error."""
    kind = error.sqlite_errorcode & 0xFF
    is_full = kind == sqlite3.SQLITE_FULL
    if kind == sqlite3.SQLITE_IOERR:
        is_full = shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES
    if is_full:
        return StoreUnusable(path.parent, os.strerror(errno.ENOSPC).lower(), hint=FULL_HINT)
    return StoreUnusable(path.parent, f"the index answers: {error}")


def open_database(path: Path, *, alone: bool, suspect: bool) -> Database:
    """Open the database at `path`, or make it; a damaged one is set aside with a warning.

    Args:
        alone: No other engine uses the store, so that a damaged index may be replaced.
        suspect: The last engine did not end well: look closely.

    Raises:
        StoreUnusable: It is damaged while others use it, or of a newer version.
    """
    try:
        return _connect(path, suspect=suspect)
    except sqlite3.OperationalError as error:
        raise _refused(path, error) from error
    except sqlite3.DatabaseError as error:
        if not alone:
            hint = "end the other engines; the next one then sets the damaged index aside"
            raise StoreUnusable(path.parent, f"its index is damaged: {error}", hint=hint) from error
        aside = _set_aside(path)
        _log.warning(
            "the index of the store `%s` was damaged (%s): it was set aside as `%s`; its work is done anew",
            path.parent,
            error,
            aside.name,
        )
        return _connect(path, suspect=False)


def _connect(path: Path, *, suspect: bool) -> Database:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = MEMORY")
        if suspect or os.path.getsize(path) < _CHECKED_BYTES:
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
        _migrate(path, connection)
    except BaseException:
        connection.close()
        raise
    return Database(path, connection)


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreUnusable(
            path.parent,
            f"a newer version of the engine made it (its index has version {version}, not {len(MIGRATIONS)})",
            hint="update the package, or name another folder as engine.store",
        )
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step}; PRAGMA user_version = {number}; COMMIT;")


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):  # the file itself last: until then the damage is found again
        if os.path.exists(f"{path}{suffix}"):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside
