"""Snapshots: prepare a draft over a parent, change it, commit it; read any of them merged."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.store.layers import copy_attributes, flatten, is_changed, measure, remove_tree
from pipeline.engine.store.values import Draft, Snapshot, SnapshotNotFound, told_when_full, using_disk
from pipeline.engine.treehash import digest_entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.store.database import Database
    from pipeline.engine.store.gone import Gone
    from pipeline.engine.store.uses import Uses
    from pipeline.engine.store.values import SnapshotKind
    from pipeline.engine.store.views import Views

MAX_STACK: Final = 100
"""The most directories in one overlay; a snapshot that would need more also gets a flat copy."""

_EMPTY_ID: Final = 0
_DISCARD_LIMIT_S: Final = 1.0
"""How long the files of a draft are removed before the rest waits for a better time."""


class Snapshots:
    """The snapshots of one store.

    Life cycle: `prepare` → write into `Draft.upper` (as overlay layers are written), or into the path
    that `writable` lends → `commit` or `discard`. A draft is used by one task; a snapshot never changes.
    What this engine got, prepared or committed stays as long as it lives.
    """

    def __init__(
        self, root: Path, database: Database, uses: Uses, views: Views, gone: Gone, owner: int
    ) -> None:
        self._root = root
        self._folder = root / "snapshots"
        self._database = database
        self._uses = uses
        self._views = views
        self._gone = gone
        self._owner = owner
        self._known: dict[int, Snapshot] = {}
        self._lowers: dict[int, tuple[Path, ...]] = {}
        self.empty = Snapshot(id=_EMPTY_ID, parent=None, depth=0, identity=digest_entries(()), size_bytes=0)

    def get(self, number: int) -> Snapshot:
        """Return a snapshot by its id.

        Raises:
            SnapshotNotFound: It is not in the store, or its files are gone.
        """
        if number == _EMPTY_ID:
            return self.empty
        if not self._uses.touch("snapshots", number):
            raise SnapshotNotFound(number)
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._load(number)
        return known

    def prepare(self, parent: Snapshot) -> Draft:
        """Begin a snapshot over `parent`; the root directory starts with the parent's attributes.

        Raises:
            StoreUnusable: The disk is full or cannot be written.
        """
        with self._database.writing() as connection:
            query = "INSERT INTO drafts (owner) VALUES (?)"
            number = int(connection.execute(query, (self._owner,)).lastrowid or 0)
        folder = self._folder / str(number)
        draft = Draft(id=number, parent=parent, upper=folder / "fs", work=folder / "work")
        with using_disk(self._root):
            for directory in (folder, draft.upper, draft.work):
                os.mkdir(directory)
            copy_attributes(os.fspath(self.lowers(parent)[0]), os.fspath(draft.upper))
        return draft

    def commit(
        self,
        draft: Draft,
        *,
        identity: Digest,
        kind: SnapshotKind = "results",
        size_bytes: int | None = None,
    ) -> Snapshot:
        """Make a draft a snapshot; one that changed nothing is discarded and its parent returned.

        Every so many levels it also makes a flat copy by hard links.

        Args:
            size_bytes: What the draft takes on the disk, from a caller who wrote it without whiteouts;
                None walks it to find out.

        Raises:
            StoreUnusable: The disk is full or cannot be written; the draft is still one.
        """
        with using_disk(self._root):
            return self._commit(draft, identity, kind, size_bytes)

    def _commit(self, draft: Draft, identity: Digest, kind: SnapshotKind, size_bytes: int | None) -> Snapshot:
        below = self.lowers(draft.parent)
        if not is_changed(os.fspath(draft.upper), os.fspath(below[0])):
            self._discard_unchanged(draft)
            return draft.parent
        at_bottom = draft.parent.id == _EMPTY_ID
        if size_bytes is None:
            size_bytes = measure(os.fspath(draft.upper), drop_whiteouts=at_bottom)
        lowers = (draft.upper,) if at_bottom else (draft.upper, *below)
        is_flat = len(lowers) > MAX_STACK
        if is_flat:
            flat = draft.upper.with_name("flat")
            flatten(lowers, flat)
            lowers = (flat,)
        remove_tree(draft.work)
        snapshot = Snapshot(
            id=draft.id,
            parent=draft.parent.id,
            depth=draft.parent.depth + 1,
            identity=identity,
            size_bytes=size_bytes,
        )
        self._save(snapshot, kind, is_flat=is_flat)
        self._lowers[snapshot.id] = lowers
        return snapshot

    def discard(self, draft: Draft) -> None:
        """Give a draft up and remove its files; one that was committed or discarded already is left alone."""
        # The files first: they may be what fills the disk, and then no row can be changed.
        if self._database.row("SELECT 1 FROM drafts WHERE id = ?", (draft.id,)) is not None:
            self._gone.take(self._folder / str(draft.id))
            self._gone.empty_within(_DISCARD_LIMIT_S)
            self._database.write("DELETE FROM drafts WHERE id = ?", (draft.id,))

    def _discard_unchanged(self, draft: Draft) -> None:
        """Do what `discard` does in a few calls: most execs that write nothing are short."""
        folder = draft.upper.parent
        try:
            os.rmdir(draft.work / "work")  # the kernel's
            for directory in (draft.work, draft.upper, folder):
                os.rmdir(directory)
        except OSError:  # it was never mounted, or is opaque
            remove_tree(folder)
        self._database.write("DELETE FROM drafts WHERE id = ?", (draft.id,))

    def changes(self, snapshot: Snapshot) -> Path:
        """Return the directory of a snapshot's own changes over its parent, as an overlay layer."""
        return self._folder / str(snapshot.id) / "fs"

    def lowers(self, snapshot: Snapshot) -> tuple[Path, ...]:
        """Return the directories an overlay of this snapshot consists of, top first; never none.

        Raises:
            SnapshotNotFound: One of its ancestors is not in the store.
        """
        found = self._lowers.get(snapshot.id)
        if found is None:
            found = self._lowers[snapshot.id] = tuple(self._stack(snapshot))
        return found

    @contextmanager
    def view(self, snapshot: Snapshot) -> Iterator[Path]:
        """Lend a path where the whole tree can be read; nothing may be written there.

        Raises:
            MountFailed: The overlay cannot be mounted.
        """
        with self._views.reading(snapshot.id, self.lowers(snapshot)) as path:
            yield path

    @contextmanager
    def writable(self, draft: Draft) -> Iterator[Path]:
        """Lend a path where the parent's tree can be changed; the changes are the draft's.

        Raises:
            MountFailed: The overlay cannot be mounted.
            StoreUnusable: The disk is full; also when the caller's writes find it so.
        """
        with told_when_full(self._root):
            if draft.parent.id == _EMPTY_ID:
                yield draft.upper
                return
            remove_tree(draft.work)
            draft.work.mkdir()
            with self._views.writing(self.lowers(draft.parent), draft.upper, draft.work) as path:
                yield path

    def forget(self, numbers: list[int]) -> None:
        """Drop what is remembered of snapshots that were removed, and their views."""
        for number in numbers:
            self._known.pop(number, None)
            self._lowers.pop(number, None)
            self._uses.forget("snapshots", number)
        self._views.drop(numbers)

    def _load(self, number: int) -> Snapshot:
        query = "SELECT parent, depth, identity, size_bytes FROM snapshots WHERE id = ?"
        row = self._database.row(query, (number,))
        if row is None:
            raise SnapshotNotFound(number)
        parent, depth, identity, size_bytes = row
        snapshot = Snapshot(id=number, parent=parent, depth=depth, identity=identity, size_bytes=size_bytes)
        for lower in self.lowers(snapshot):
            if not lower.is_dir():
                self._lowers.pop(number, None)
                raise SnapshotNotFound(number)
        return snapshot

    def _stack(self, snapshot: Snapshot) -> Iterator[Path]:
        number = snapshot.id
        if number == _EMPTY_ID:
            yield self._folder / "0" / "fs"
        while number != _EMPTY_ID:
            row: Any = self._database.row("SELECT parent, flat FROM snapshots WHERE id = ?", (number,))
            if row is None:
                raise SnapshotNotFound(number)
            parent, is_flat = row
            if is_flat:
                yield self._folder / str(number) / "flat"
                return
            yield self._folder / str(number) / "fs"
            if parent in self._lowers and parent != _EMPTY_ID:
                yield from self._lowers[parent]
                return
            number = parent

    def _save(self, snapshot: Snapshot, kind: SnapshotKind, *, is_flat: bool) -> None:
        row = (
            snapshot.id,
            snapshot.parent,
            snapshot.depth,
            int(is_flat),
            snapshot.identity,
            snapshot.size_bytes,
            self._uses.boot,
            *self._uses.stamp(),
            kind,
        )
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO snapshots (id, parent, depth, flat, identity, size_bytes, boot, used_by,"
                " last_used, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            connection.execute("DELETE FROM drafts WHERE id = ?", (snapshot.id,))
        self._uses.made("snapshots", snapshot.id)
        self._known[snapshot.id] = snapshot
