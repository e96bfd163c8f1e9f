"""The index: what was made before, by key. Whatever is lost or damaged is a miss, never an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pipeline.engine.store.values import SnapshotNotFound, StoredResult

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.store.blobs import Blobs
    from pipeline.engine.store.database import Database
    from pipeline.engine.store.snapshots import Snapshots
    from pipeline.engine.store.uses import Uses
    from pipeline.engine.store.values import Snapshot, SnapshotKind


_NO_ENGINE: Final = 1 << 62
"""Above the number of every engine: pruning spares what was used by those that came after the oldest one."""


class Index:
    """The index of one store."""

    def __init__(
        self, root: Path, database: Database, uses: Uses, snapshots: Snapshots, blobs: Blobs
    ) -> None:
        self._volumes = root / "volumes"
        self._database = database
        self._uses = uses
        self._snapshots = snapshots
        self._blobs = blobs

    def find_result(self, key: Digest) -> StoredResult | None:
        """Return the result of an op; one whose snapshots or blobs are gone is removed, and None."""
        row = self._database.row("SELECT trees, data, blobs FROM results WHERE key = ?", (key,))
        if row is None:
            return None
        result = _read_result(row)
        if result is not None and self._is_whole(result) and self._uses.touch("results", key):
            return result
        self._database.write("DELETE FROM results WHERE key = ?", (key,))
        self._uses.forget("results", key)
        return None

    def save_result(self, key: Digest, result: StoredResult) -> None:
        """Keep what an op made, in place of what was kept before.

        Raises:
            TypeError: `result.data` holds something JSON cannot express.
        """
        self.save_results((key,), result)

    def save_results(self, keys: Collection[Digest], result: StoredResult) -> None:
        """Keep what an op made under each of several keys: all of them, or none.

        Raises:
            TypeError: `result.data` holds something JSON cannot express.
        """
        texts = [json.dumps(part) for part in (dict(result.trees), dict(result.data), list(result.blobs))]
        stamp = self._uses.stamp()
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO results (key, trees, data, blobs, used_by, last_used)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [(key, *texts, *stamp) for key in keys],
            )
        for key in keys:
            self._uses.made("results", key)

    def find_content(self, digest: Digest) -> Snapshot | None:
        """Return a snapshot whose tree has this content digest."""
        row = self._database.row("SELECT snapshot FROM contents WHERE digest = ?", (digest,))
        if row is None:
            return None
        try:
            return self._snapshots.get(row[0])
        except SnapshotNotFound:
            self._database.write("DELETE FROM contents WHERE digest = ?", (digest,))
            return None

    def save_content(self, digest: Digest, snapshot: Snapshot) -> None:
        """Note that a snapshot's tree has this content digest."""
        query = "INSERT OR REPLACE INTO contents (digest, snapshot) VALUES (?, ?)"
        self._database.write(query, (digest, snapshot.id))

    def find_recipe(self, number: str) -> str | None:
        """Return the text an object's id stands for."""
        row = self._database.row("SELECT text FROM recipes WHERE id = ?", (number,))
        if row is None:
            return None
        self._uses.touch("recipes", number)
        return str(row[0])

    def save_recipe(self, number: str, text: str) -> None:
        """Keep the text an object's id stands for."""
        query = "INSERT OR REPLACE INTO recipes (id, text, used_by, last_used) VALUES (?, ?, ?, ?)"
        self._database.write(query, (number, text, *self._uses.stamp()))
        self._uses.made("recipes", number)

    def find_note(self, kind: str, key: str) -> str | None:
        """Return a small fact, such as what a tag led to."""
        row = self._database.row("SELECT rowid, value FROM notes WHERE kind = ? AND key = ?", (kind, key))
        if row is None:
            return None
        self._uses.touch("notes", row[0])
        return str(row[1])

    def save_note(self, kind: str, key: str, value: str) -> None:
        """Keep a small fact."""
        query = "INSERT INTO notes (kind, key, value, used_by, last_used) VALUES (?, ?, ?, ?, ?)"
        query += " ON CONFLICT DO UPDATE SET value = excluded.value, used_by = max(used_by, excluded.used_by)"
        query += ", last_used = excluded.last_used"
        self._database.write(query, (kind, key, value, *self._uses.stamp()))

    def volume_path(self, identity: Digest, *, is_kept: bool = False) -> tuple[Path, bool]:
        """Return the directory of a cache volume, and whether it was made by this call.

        Args:
            is_kept: No pruning may ever take it.
        """
        path = self._volumes / identity.removeprefix("sha256:")
        if self._uses.touch("volumes", identity) and path.is_dir():
            return path, False
        used_by, last_used = self._uses.stamp()
        with self._database.writing() as connection:
            created = not path.is_dir()
            path.mkdir(mode=0o755, exist_ok=True)
            connection.execute(
                "INSERT OR REPLACE INTO volumes (identity, used_by, last_used) VALUES (?, ?, ?)",
                (identity, _NO_ENGINE if is_kept else used_by, last_used),
            )
        self._uses.made("volumes", identity)
        return path, created

    # ---- all of it, for a cache that travels ------------------------------------------------

    def results(self) -> list[tuple[tuple[Digest, ...], StoredResult]]:
        """Return every result with all its keys, those used last first; damaged ones are left out."""
        query = "SELECT trees, data, blobs, json_group_array(key) FROM results"
        query += " GROUP BY trees, data, blobs ORDER BY max(last_used) DESC"
        found = [(json.loads(row[3]), _read_result(row[:3])) for row in self._database.rows(query)]
        return [(tuple(sorted(keys)), result) for keys, result in found if result is not None]

    def contents(self) -> dict[Digest, int]:
        """Return the snapshot of every content digest."""
        return dict(self._database.rows("SELECT digest, snapshot FROM contents"))

    def identities(self) -> dict[Digest, int]:
        """Return a snapshot of every identity."""
        return dict(self._database.rows("SELECT identity, id FROM snapshots"))

    def kinds(self) -> dict[int, SnapshotKind]:
        """Return what every snapshot is of."""
        return dict(self._database.rows("SELECT id, kind FROM snapshots"))

    def recipes(self) -> dict[str, str]:
        """Return every text by the id that stands for it."""
        return dict(self._database.rows("SELECT id, text FROM recipes"))

    def notes(self) -> list[tuple[str, str, str]]:
        """Return every small fact: kind, key, value."""
        query = "SELECT kind, key, value FROM notes"
        return [(kind, key, value) for kind, key, value in self._database.rows(query)]

    def volumes(self) -> list[Digest]:
        """Return the identities of all cache volumes, those used last first."""
        return [row[0] for row in self._database.rows("SELECT identity FROM volumes ORDER BY last_used DESC")]

    def _is_whole(self, result: StoredResult) -> bool:
        try:
            for number in result.trees.values():
                self._snapshots.get(number)
        except SnapshotNotFound:
            return False
        return all(self._blobs.has(digest) for digest in result.blobs)


def _read_result(row: Sequence[str]) -> StoredResult | None:
    """Return what a row says; None when it is damaged."""
    try:
        trees, data, blobs = (json.loads(text) for text in row)
        numbers = {str(name): int(number) for name, number in trees.items()}
        return StoredResult(trees=numbers, data=dict(data), blobs=tuple(blobs))
    except (ValueError, TypeError, AttributeError):
        return None
