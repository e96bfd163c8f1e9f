"""Taking things away: what a dead engine left, what a crash of the machine made doubtful, and what is old.

Always in two steps: the rows in one transaction, the files after it, and those are only moved aside (`gone`).
"""

from __future__ import annotations

import heapq
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.store.usage import used_bytes, volume_bytes

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from pipeline.engine.store.database import Database
    from pipeline.engine.store.gone import Gone

_KEYS: Final = {
    "snapshots": "id",
    "blobs": "digest",
    "volumes": "identity",
    "recipes": "id",
    "notes": "rowid",
}
_LEAVES: Final = """
    SELECT last_used, 'snapshots', id, size_bytes, parent FROM snapshots AS s WHERE used_by < ?1
        AND NOT EXISTS (SELECT 1 FROM snapshots AS child WHERE child.parent = s.id)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning removed."""

    snapshots: tuple[int, ...] = ()
    blobs: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    notes: int = 0  # how many
    size_bytes: int = 0  # what the files took; the index uses the room of its rows again


def drop_doubtful(database: Database, boot: str) -> None:
    """Forget what another boot of the machine wrote and did not flush."""
    with database.writing() as connection:
        dropped = 0
        for table in ("snapshots", "blobs"):
            query = f"DELETE FROM {table} WHERE durable != 1 AND boot != ?"  # noqa: S608
            dropped += connection.execute(query, (boot,)).rowcount
        if not dropped:
            return
        orphans = "DELETE FROM snapshots WHERE parent != 0 AND parent NOT IN (SELECT id FROM snapshots)"
        while connection.execute(orphans).rowcount > 0:
            pass
        _drop_dangling(connection)


def sweep(root: Path, database: Database, living: frozenset[int], gone: Gone) -> None:
    """Remove the drafts of dead engines, and every file that no row names."""
    with database.writing() as connection:
        owners = connection.execute("SELECT DISTINCT owner FROM drafts").fetchall()
        for (owner,) in owners:
            if owner not in living:
                connection.execute("DELETE FROM drafts WHERE owner = ?", (owner,))
        named = {
            "snapshots": _names(connection, "SELECT id FROM snapshots UNION SELECT id FROM drafts") | {"0"},
            "blobs/sha256": _names(connection, "SELECT substr(digest, 8) FROM blobs"),
            "volumes": _names(connection, "SELECT substr(identity, 8) FROM volumes"),
        }
        # Under this same lock others make and rename theirs.
        nameless = [
            root / folder / name
            for folder, names in named.items()
            for name in os.listdir(root / folder)
            if name not in names
        ]
        for name in os.listdir(root / "blobs" / "new"):
            if int(name.partition("-")[0]) not in living:
                nameless.append(root / "blobs" / "new" / name)
        for path in nameless:
            gone.take(path)


def prune(
    root: Path,
    database: Database,
    gone: Gone,
    *,
    oldest_living: int,
    max_bytes: int | None,
    min_free_bytes: int | None,
    dry_run: bool,
) -> Pruned:
    """Remove what was not used for longest until both limits are kept, or nothing may be removed any more.

    Nothing that an engine numbered `oldest_living` or later has used is removed, nor a snapshot that
    others stand on. A `dry_run` only tells.
    """
    excess = _excess(root, database, max_bytes, min_free_bytes)
    if excess <= 0:
        return Pruned()
    volumes = {name: volume_bytes(root, name) for (name,) in database.rows("SELECT identity FROM volumes")}
    with database.writing() as connection:
        connection.execute("SAVEPOINT pruning")
        pruned = _drop_oldest(connection, volumes, excess, oldest_living)
        if dry_run:
            connection.execute("ROLLBACK TO pruning")
    if dry_run:
        return pruned
    for digest in pruned.blobs:
        gone.take(root / "blobs" / "sha256" / digest.removeprefix("sha256:"))
    for number in pruned.snapshots:
        gone.take(root / "snapshots" / str(number))
    for identity in pruned.volumes:
        gone.take(root / "volumes" / identity.removeprefix("sha256:"))
    return pruned


def _excess(root: Path, database: Database, max_bytes: int | None, min_free_bytes: int | None) -> int:
    over = 0 if max_bytes is None else used_bytes(root, database) - max_bytes
    short = 0 if min_free_bytes is None else min_free_bytes - shutil.disk_usage(root).free
    return max(over, short)


def _drop_oldest(
    connection: sqlite3.Connection, volumes: dict[str, int], excess: int, oldest_living: int
) -> Pruned:
    gone: dict[str, list[Any]] = {table: [] for table in _KEYS}
    freed = 0
    victims = _find_victims(connection, oldest_living)
    heapq.heapify(victims)
    while freed < excess and victims:
        _when, table, key, size_bytes, parent = heapq.heappop(victims)
        connection.execute(f"DELETE FROM {table} WHERE {_KEYS[table]} = ?", (key,))  # noqa: S608
        gone[table].append(key)
        freed += volumes.get(key, 0) if table == "volumes" else size_bytes
        if table == "snapshots":
            for uncovered in connection.execute(f"{_LEAVES} AND s.id = ?2", (oldest_living, parent)):
                heapq.heappush(victims, uncovered)
    _drop_dangling(connection)
    return Pruned(
        snapshots=tuple(gone["snapshots"]),
        blobs=tuple(gone["blobs"]),
        volumes=tuple(gone["volumes"]),
        recipes=tuple(gone["recipes"]),
        notes=len(gone["notes"]),
        size_bytes=freed,
    )


def _find_victims(connection: sqlite3.Connection, oldest_living: int) -> list[Any]:
    """Return what may go now, as (last use, table, key, bytes, parent); of snapshots the leaves only."""
    query = """
        UNION ALL SELECT last_used, 'blobs', digest, size_bytes, 0 FROM blobs WHERE used_by < ?1
        UNION ALL SELECT last_used, 'volumes', identity, 0, 0 FROM volumes WHERE used_by < ?1
        UNION ALL SELECT last_used, 'recipes', id, 0, 0 FROM recipes WHERE used_by < ?1
        UNION ALL SELECT last_used, 'notes', rowid, 0, 0 FROM notes WHERE used_by < ?1"""
    return connection.execute(_LEAVES + query, (oldest_living,)).fetchall()


def _drop_dangling(connection: sqlite3.Connection) -> None:
    """Forget the results and contents whose snapshots or blobs are gone."""
    connection.execute(
        "DELETE FROM contents WHERE snapshot != 0 AND snapshot NOT IN (SELECT id FROM snapshots)"
    )
    connection.execute(
        "DELETE FROM results WHERE EXISTS (SELECT 1 FROM json_each(results.trees) AS tree"
        " WHERE tree.value != 0 AND tree.value NOT IN (SELECT id FROM snapshots))"
        " OR EXISTS (SELECT 1 FROM json_each(results.blobs) AS blob"
        " WHERE blob.value NOT IN (SELECT digest FROM blobs))"
    )


def _names(connection: sqlite3.Connection, query: str) -> set[str]:
    return {str(name) for (name,) in connection.execute(query)}
