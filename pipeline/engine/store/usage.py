"""What takes the space of a store, by kind, and how much it may take."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine.store.values import Usage

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.store.database import Database

_DEFAULT_BYTES: Final = 50 * 1024**3
_DEFAULT_SHARE: Final = 0.60
_DEFAULT_FREE_SHARE: Final = 0.05
_AGAIN_BYTES: Final = 0.10  # pruning goes so much further than the limit, or it would begin again at once

_MEASURE_EVERY_S: Final = 600

_SNAPSHOTS: Final = "SELECT kind, count(*), sum(size_bytes) FROM snapshots GROUP BY kind"
_BLOBS: Final = """
    WITH outputs AS (SELECT value AS digest FROM results, json_each(results.blobs)),
         downloads AS (SELECT json_extract(value, '$.blob') AS digest FROM notes WHERE kind = 'http')
    SELECT CASE WHEN digest IN outputs THEN 'results' WHEN digest IN downloads THEN 'http' ELSE 'images' END,
        count(*), sum(size_bytes) FROM blobs GROUP BY 1"""
SOURCE_FOLDERS: Final = ("git", "recipes")
"""What sources keep beside the index, and can fetch again."""

_KINDS: Final = (
    "images",
    "results",
    "host directories",
    "git",
    "http",
    "cache volumes",
    "recipes",
    "index",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a store may take, and how much of its file system has to stay free, in bytes."""

    max_bytes: int
    min_free_bytes: int


def limits_of(root: Path, *, max_bytes: int | None = None, min_free_bytes: int | None = None) -> Limits:
    """Fill in what is not given: 50 GiB or 60 % of the file system, whichever is less, and 5 % free."""
    total = shutil.disk_usage(root).total
    usual = min(_DEFAULT_BYTES, int(total * _DEFAULT_SHARE))
    floor = int(total * _DEFAULT_FREE_SHARE)
    return Limits(
        max_bytes=usual if max_bytes is None else max_bytes,
        min_free_bytes=floor if min_free_bytes is None else min_free_bytes,
    )


def find_breach(root: Path, database: Database, limits: Limits) -> Limits | None:
    """Return what to prune to when a limit is broken; None while all is well.

    The free space is looked at in each call. The store is measured, which walks cache volumes, only when
    no engine did so in the last ten minutes, and the whole file system holds more than the store may.
    """
    disk = shutil.disk_usage(root)
    is_over = (
        disk.used > limits.max_bytes and _is_time(database) and used_bytes(root, database) > limits.max_bytes
    )
    if disk.free >= limits.min_free_bytes and not is_over:
        return None
    return beyond(limits)


def beyond(limits: Limits) -> Limits:
    """Return what a store is pruned to when `limits` are broken: somewhat more than they ask."""
    return Limits(
        max_bytes=int(limits.max_bytes * (1 - _AGAIN_BYTES)),
        min_free_bytes=int(limits.min_free_bytes * (1 + _AGAIN_BYTES)),
    )


def _is_time(database: Database) -> bool:
    """Is it time to measure? If so, the other engines need not for a while."""
    now = int(time.time())
    row = database.row("SELECT value FROM counters WHERE name = 'measured'")
    if row is not None and abs(now - row[0]) < _MEASURE_EVERY_S:
        return False
    database.write("INSERT OR REPLACE INTO counters (name, value) VALUES ('measured', ?)", (now,))
    return True


def used_bytes(root: Path, database: Database) -> int:
    """Return what the whole store takes."""
    return sum(usage.size_bytes for usage in measure_usage(root, database))


def measure_usage(root: Path, database: Database) -> tuple[Usage, ...]:
    """Say what takes the space, by kind; volumes, mirrors and recipes are walked, the rest is known."""
    counts = dict.fromkeys(_KINDS, 0)
    sizes = dict.fromkeys(_KINDS, 0)

    def add(kind: str, count: int, size_bytes: int) -> None:
        counts[kind] += count
        sizes[kind] += size_bytes

    for query in (_SNAPSHOTS, _BLOBS):
        for kind, count, size_bytes in database.rows(query):
            add(kind, count, size_bytes)
    volumes = [identity for (identity,) in database.rows("SELECT identity FROM volumes")]
    add("cache volumes", len(volumes), sum(volume_bytes(root, identity) for identity in volumes))
    add("git", *tree_bytes(root / "git"))
    add("recipes", *tree_bytes(root / "recipes"))
    add("host directories", 0, tree_bytes(root / "host")[1])
    results = database.row("SELECT count(*) FROM results")[0]
    add("index", results, sum(_file_bytes(f"{database.path}{suffix}") for suffix in ("", "-wal", "-shm")))
    return tuple(Usage(kind=kind, count=counts[kind], size_bytes=sizes[kind]) for kind in _KINDS)


def volume_bytes(root: Path, identity: str) -> int:
    """Return what a cache volume takes."""
    return tree_bytes(root / "volumes" / identity.removeprefix("sha256:"))[1]


def tree_bytes(folder: Path) -> tuple[int, int]:
    """Return how many files are below a folder, and what they take."""
    count = total = 0
    for directory, _folders, files in os.walk(folder):
        count += len(files)
        total += sum(_file_bytes(os.path.join(directory, name)) for name in files)
    return count, total


def _file_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:  # removed meanwhile
        return 0
