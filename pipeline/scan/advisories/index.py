"""Advisories on disk: one SQLite file in which the records about a package are found by its name.

Made once from records in the OSV schema; reading decodes only what is asked for.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.advisories.match import about
from pipeline.scan.advisories.names import base_of, normal_name
from pipeline.scan.advisories.osv import (
    EVENT_KINDS,
    Advisory,
    Affected,
    BadAdvisory,
    Event,
    Range,
    parse_advisory,
)
from pipeline.scan.advisories.times import newest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

FORMAT: Final = 2
_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE records (
    ecosystem TEXT, name TEXT, id TEXT, body BLOB, PRIMARY KEY (ecosystem, name, id)
) WITHOUT ROWID;
"""
BATCH: Final = 5000


class IndexBroken(PipelineError):
    """The file holds no advisories that can be read."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"cannot read the advisories in `{path}`: {why}")
        self.hint = "import them again: `pipeline prefetch --import FILE`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an index holds."""

    source: SourceInfo
    counts: dict[str, int]  # records by ecosystem, without suffix
    bad: int = 0  # records that were left out because they cannot be read
    first_bad: str = ""


def build_index(target: Path, records: Iterable[object], source: SourceInfo, *, now: datetime) -> Contents:
    """Write an index of records, in place of the one that is there only when it is complete.

    Args:
        records: Tables in the OSV schema, or `BadAdvisory` for what could not even be read.
        source: What is known of the data but for `ecosystems` and, where it is empty, `as_of`.
    """
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(fresh)
        try:
            connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
            contents = _fill(connection, records, source, now)
            connection.execute("INSERT INTO meta VALUES ('contents', ?)", (json.dumps(_plain(contents)),))
            connection.commit()
        finally:
            connection.close()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return contents


def _fill(
    connection: sqlite3.Connection, records: Iterable[object], source: SourceInfo, now: datetime
) -> Contents:
    counts: dict[str, int] = {}
    modified = ""
    bad: list[str] = []
    number_bad = 0
    rows: list[tuple[str, str, str, bytes]] = []
    for table in records:
        try:
            if isinstance(table, BadAdvisory):
                raise table
            advisory = parse_advisory(table)
        except BadAdvisory as error:
            number_bad += 1
            bad = bad or [str(error)]
            continue
        modified = newest([modified, advisory.modified], now)
        for ecosystem in {base_of(one.ecosystem) for one in advisory.affected}:
            counts[ecosystem] = counts.get(ecosystem, 0) + 1
        rows += _rows(advisory)
        if len(rows) >= BATCH:
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", rows)
            rows.clear()
    connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)", rows)
    told = replace(source, ecosystems=tuple(sorted(counts)), as_of=source.as_of or modified)
    return Contents(source=told, counts=counts, bad=number_bad, first_bad=bad[0] if bad else "")


def _rows(advisory: Advisory) -> Iterator[tuple[str, str, str, bytes]]:
    """One row for each package; it holds only what is said of that package."""
    for key in {(base_of(one.ecosystem), normal_name(one.ecosystem, one.name)) for one in advisory.affected}:
        yield (*key, advisory.id, encode(about(advisory, *key)))


def encode(advisory: Advisory) -> bytes:
    """An advisory as compressed JSON without field names."""
    affected = [
        [
            one.ecosystem,
            one.name,
            [
                [each.type, [[EVENT_KINDS.index(e.kind), e.version] for e in each.events]]
                for each in one.ranges
            ],
            sorted(one.versions),
            one.severity,
        ]
        for one in advisory.affected
    ]
    row = [
        *(advisory.id, advisory.aliases, advisory.modified, advisory.published, advisory.is_withdrawn),
        *(advisory.summary, advisory.url, advisory.severity, advisory.rating, advisory.cwe, affected),
    ]
    return zlib.compress(json.dumps(row, separators=(",", ":")).encode(), 1)


def decode(body: bytes) -> Advisory:
    """Read what `encode` wrote."""
    row = json.loads(zlib.decompress(body))
    return Advisory(
        id=row[0],
        aliases=tuple(row[1]),
        modified=row[2],
        published=row[3],
        is_withdrawn=row[4],
        summary=row[5],
        url=row[6],
        severity=tuple((kind, score) for kind, score in row[7]),
        rating=row[8],
        cwe=tuple(row[9]),
        affected=tuple(_affected(one) for one in row[10]),
    )


@lru_cache(maxsize=8192)
def _event(kind: int, version: str) -> Event:
    return Event(kind=EVENT_KINDS[kind], version=version)


def _affected(row: list[Any]) -> Affected:
    ecosystem, name, ranges, versions, severity = row
    return Affected(
        ecosystem=ecosystem,
        name=name,
        ranges=tuple(
            Range(type=kind, events=tuple(_event(at, text) for at, text in events)) for kind, events in ranges
        ),
        versions=frozenset(versions),
        severity=tuple((kind, score) for kind, score in severity),
    )


class Index:
    """An index, open for reading; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open an index.

        Raises:
            IndexBroken: It is not there, is damaged, or was written by another version of the program.
        """
        self.path = path
        if not path.is_file():
            raise IndexBroken(path, "there is no such file")
        try:
            self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        except sqlite3.Error as error:
            raise IndexBroken(path, str(error)) from error
        try:
            row = self._connection.execute("SELECT value FROM meta WHERE name = 'contents'").fetchone()
            self.contents = _contents(json.loads(row[0]))
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            self._connection.close()
            raise IndexBroken(path, str(error)) from error

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def about(self, ecosystem: str, name: str) -> list[Advisory]:
        """Every advisory about a package, withdrawn ones included: they hold aliases.

        Args:
            name: In the form of `normal_name`.

        Raises:
            IndexBroken: The file is damaged.
        """
        query = "SELECT body FROM records WHERE ecosystem = ? AND name = ?"
        try:
            rows = self._connection.execute(query, (base_of(ecosystem), name)).fetchall()
            found = [decode(body) for (body,) in rows]
            return [about(one, ecosystem, name) for one in found] if ":" in ecosystem else found
        except (sqlite3.Error, zlib.error, ValueError, IndexError, TypeError) as error:
            raise IndexBroken(self.path, str(error)) from error


def _plain(contents: Contents) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(contents)}


def _contents(table: dict[str, Any]) -> Contents:
    if table.pop("format") != FORMAT:
        raise ValueError("another version of the program wrote it")
    source = table.pop("source")
    source["ecosystems"] = tuple(source["ecosystems"])
    return Contents(source=SourceInfo(**source), **table)
