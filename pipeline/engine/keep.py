"""Takes a file that the engine made into the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.engine import ops
from pipeline.engine.files import File
from pipeline.engine.treehash import content_digest

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.store import Store


def keep_file(store: Store, path: Path, name: str, *, mode: int = 0o644) -> File:
    """Move the file at `path`, which lies in the store's own file system, into the store and return it.

    Its times are set to the epoch: equal content is an equal file.
    """
    draft = store.snapshots.prepare(store.snapshots.empty)
    try:
        inside = draft.upper / name
        os.rename(path, inside)
        os.chmod(inside, mode)
        os.utime(inside, (0, 0))
        content = content_digest(draft.upper)
        if store.index.find_content(content) is None:
            store.index.save_content(content, store.snapshots.commit(draft, identity=content))
        else:
            store.snapshots.discard(draft)
    except BaseException:
        store.snapshots.discard(draft)
        raise
    return File(tree=ops.Pinned(content=content), path=f"/{name}")
