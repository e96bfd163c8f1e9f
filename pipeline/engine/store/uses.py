"""Stamps of use: they keep what a live engine uses from being pruned, and order the rest by age."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pipeline.engine.store.database import Database

Table = Literal["blobs", "snapshots", "volumes", "results", "recipes", "notes"]
_KEYS: Final[dict[Table, str]] = {
    "blobs": "digest",
    "snapshots": "id",
    "volumes": "identity",
    "results": "key",
    "recipes": "id",
    "notes": "rowid",
}
_DATED: Final = ("blobs", "snapshots", "volumes", "results")  # the others are used beside one of these
_TICK_S: Final = 1e-6


class Uses:
    """What this engine has used.

    The first use of a row by an engine is written at once, as `used_by`: the pruner spares every row
    whose `used_by` is not below the number of the oldest live engine. Later uses only move
    `last_used` and are written together.
    """

    def __init__(self, database: Database, owner: int, boot: str) -> None:
        self.boot = boot
        tables = " UNION ALL ".join(f"SELECT max(last_used) FROM {table}" for table in _DATED)  # noqa: S608
        self._latest = max(when or 0.0 for (when,) in database.rows(tables))
        self._database = database
        self._owner = owner
        self._known: dict[tuple[Table, str | int], float] = {}
        self._late: set[tuple[Table, str | int]] = set()
        self._turn = threading.Lock()

    def stamp(self) -> tuple[int, float]:
        """Return `used_by` and `last_used` for a row written now."""
        return self._owner, self._now()

    def _now(self) -> float:
        """The time, but later than any use that the store knew of when this engine entered it.

        Only the order of uses counts. A clock that was wrong once, and put right, would else make what
        was used in the meantime the newest for years.
        """
        self._latest = max(time.time(), self._latest + _TICK_S)
        return self._latest

    def touch(self, table: Table, key: str | int) -> bool:
        """Note a use; False when there is no such row."""
        item = (table, key)
        if item in self._known:
            with self._turn:
                self._known[item] = self._now()
                self._late.add(item)
            return True
        query = f"UPDATE {table} SET used_by = max(used_by, ?), last_used = ? WHERE {_KEYS[table]} = ?"  # noqa: S608
        if self._database.write(query, (*self.stamp(), key)) == 0:
            return False
        self.made(table, key)
        return True

    def made(self, table: Table, key: str | int) -> None:
        """Note a row that was written with the stamp of this engine."""
        with self._turn:
            self._known[table, key] = self._now()

    def forget(self, table: Table, key: str | int) -> None:
        """Note that a row is gone."""
        with self._turn:
            self._known.pop((table, key), None)
            self._late.discard((table, key))

    def write_late(self) -> None:
        """Write the uses that were noted since the last time."""
        with self._turn:
            late = [(table, self._known[table, key], key) for table, key in self._late]
            self._late.clear()
        if not late:
            return
        with self._database.writing() as connection:
            for table, when, key in late:
                query = f"UPDATE {table} SET last_used = ? WHERE {_KEYS[table]} = ?"  # noqa: S608
                connection.execute(query, (when, key))
