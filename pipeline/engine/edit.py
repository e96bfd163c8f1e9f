"""Carry out the file actions of `ops` on a writable tree, never outside its root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine import ops


class EditFailed(EngineError):
    """A file action cannot be carried out on the tree it was asked for."""

    def __init__(self, act: str, path: str, reason: str) -> None:
        super().__init__(f"cannot {act} `{path}`: {reason}")
        self.path = path
        self.reason = reason


def apply(
    action: ops.Action, root: Path, view: Callable[[ops.Tree], Path], *, link: bool = False
) -> None:
    """Carry out `action` on the tree at `root`.

    Args:
        root: The merged, writable tree; no process may be changing it.
        view: Gives the readable path of a tree that the action names.
        link: Both trees are snapshots that nobody changes afterwards: files may be shared by hard links.

    Raises:
        EditFailed: The action does not fit the tree.
    """
    raise EditFailed("edit", str(root), "not available")


def selection_digest(copy: ops.Copy, source_root: Path) -> Digest:
    """Return the content digest of just what `copy` would take out of `source_root`.

    Raises:
        EditFailed: The source path is missing or of the wrong kind.
    """
    raise EditFailed("read", copy.source_path, "not available")


def difference(lower: Path, upper: Path, into: Path) -> None:
    """Copy to the empty directory `into` what `upper` adds to or changes in `lower`."""
    raise EditFailed("compare", str(upper), "not available")
