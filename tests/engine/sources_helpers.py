"""What the tests of the sources share: a store, and reading trees back by their content digest."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.engine import mounts
from pipeline.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.digest import Digest


@contextmanager
def open_store(root: Path) -> Iterator[Store]:
    """Open a store whose views are mounted in a namespace of this process."""
    mounts.enter_private_mount_namespace()
    store = Store.open(root)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def tree(store: Store, content: Digest) -> Iterator[Path]:
    """Lend the tree with a content digest."""
    snapshot = store.index.find_content(content)
    assert snapshot is not None, f"{content} is not in the store"
    with store.snapshots.view(snapshot) as root:
        yield root


def listing(store: Store, content: Digest) -> dict[str, str]:
    """Return what a tree holds: files by their text, links by `-> target`, directories by `/`."""
    found: dict[str, str] = {}
    with tree(store, content) as root:
        for folder, names, files in os.walk(root):
            for name in (*names, *files):
                path = os.path.join(folder, name)
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    text = "-> " + os.readlink(path)
                elif stat.S_ISDIR(mode):
                    text = "/"
                else:
                    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                        text = stream.read()
                found[os.path.relpath(path, root)] = text
    return dict(sorted(found.items()))
