"""Files that stages keep."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.graph.context import Artifact, Context


def keep_files(ctx: Context, folder: Path) -> dict[str, Artifact]:
    """Keep every file of a folder, by its name."""
    return {name: ctx.keep(name, path) for name, path in files_of(folder).items() if "/" not in name}


def files_of(folder: Path) -> dict[str, Path]:
    """Every file below a folder that came out of a container, by its path from there, sorted.

    Links are left out: they would lead to this machine's own files.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            found[path.relative_to(folder).as_posix()] = path
    return found
