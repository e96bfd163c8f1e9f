"""Files that stages keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.context import Artifact, Context


def keep_files(ctx: Context, folder: Path) -> dict[str, Artifact]:
    """Keep every file of a folder, by its name."""
    return {path.name: ctx.keep(path.name, path) for path in sorted(folder.iterdir()) if path.is_file()}
