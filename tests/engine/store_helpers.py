"""What the tests of the store share."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.digest import Digest, digest_text
from pipeline.engine.store import Snapshot, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def commit(store: Store, parent: Snapshot, change: Callable[[Path], object], name: str = "made") -> Snapshot:
    """Commit one change over `parent`, as the solver does."""
    draft = store.snapshots.prepare(parent)
    with store.snapshots.writable(draft) as root:
        change(root)
    return store.snapshots.commit(draft, identity=digest_text(name))


def write(name: str, text: str = "x") -> Callable[[Path], object]:
    """Return a change that writes a file."""
    return lambda root: (root / name).write_text(text)


def read(store: Store, snapshot: Snapshot) -> dict[str, str]:
    """Return every file of a snapshot with its content."""
    with store.snapshots.view(snapshot) as root:
        return {
            os.path.relpath(os.path.join(directory, name), root): Path(directory, name).read_text()
            for directory, _folders, files in os.walk(root)
            for name in files
        }


@contextmanager
def opened(root: Path) -> Iterator[Store]:
    """Open a store and close it again."""
    store = Store.open(root)
    try:
        yield store
    finally:
        store.close()


def key(name: str) -> Digest:
    """Return some digest for a name."""
    return digest_text(name)
