"""Notes in a database: SQLite for a laptop, PostgreSQL for a server, by one address."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sql

_tables = sql.MetaData()
_notes = sql.Table(
    "notes",
    _tables,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("text", sql.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note; `id` is given by the database."""

    id: int
    text: str


class Notes:
    """The notes of one database; its table is made when it is missing."""

    def __init__(self, address: str) -> None:
        in_memory = address in ("sqlite://", "sqlite:///:memory:")
        pool = {"poolclass": sql.pool.StaticPool} if in_memory else {"pool_pre_ping": True}
        connect = {"check_same_thread": False} if address.startswith("sqlite") else {}
        self._engine = sql.create_engine(address, connect_args=connect, **pool)
        _tables.create_all(self._engine)

    def add(self, text: str) -> Note:
        """Keep a note and return it with its id."""
        with self._engine.begin() as connection:
            result = connection.execute(_notes.insert().values(text=text))
            return Note(id=result.inserted_primary_key[0], text=text)

    def find(self, note_id: int) -> Note | None:
        """Return a note, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(_notes.select().where(_notes.c.id == note_id)).first()
        return None if row is None else Note(id=row.id, text=row.text)

    def list(self, most: int = 100) -> list[Note]:
        """Return the newest notes, the newest first."""
        return self._select(_notes.select().order_by(_notes.c.id.desc()).limit(most))

    def search(self, part: str, most: int = 100) -> list[Note]:
        """Return the newest notes that contain `part`, whatever the case of its letters."""
        matching = _notes.select().where(_notes.c.text.icontains(part, autoescape=True))
        return self._select(matching.order_by(_notes.c.id.desc()).limit(most))

    def remove(self, note_id: int) -> bool:
        """Remove a note; tell whether there was one."""
        with self._engine.begin() as connection:
            return connection.execute(_notes.delete().where(_notes.c.id == note_id)).rowcount > 0

    def check(self) -> None:
        """Ask the database for one row; raises what the driver raises when it does not answer."""
        with self._engine.connect() as connection:
            connection.execute(sql.text("SELECT 1"))

    def _select(self, query: sql.Select[tuple[int, str]]) -> list[Note]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [Note(id=row.id, text=row.text) for row in rows]
