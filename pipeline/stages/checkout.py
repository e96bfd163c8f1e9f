"""`checkout`: which files the run is about."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pipeline.digest import digest_json
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.inputs import project_files
from pipeline.graph.stage import stage
from pipeline.stages.results import Source

if TYPE_CHECKING:
    from pathlib import Path


@stage(transparent=True, timeout_s=300)
async def checkout(ctx: Context) -> Source:
    """Take the tracked files of the working tree, and say which commit they are."""
    files = project_files(ctx.root)
    source = Source(
        commit=ctx.commit,
        dirty=ctx.dirty,
        digest=digest_json(dict(files.digests)),
        files=len(files.digests),
        version=described_version(ctx.root),
        submodules=tuple(files.submodules),
        lfs_pointers=tuple(files.lfs_pointers),
    )
    state = "with uncommitted changes" if source.dirty else "clean"
    where = f"commit {source.commit[:12]}, {state}" if source.commit else "no git repository"
    ctx.log(f"{source.files} files, {where}, {source.digest[:19]}\n")
    if source.lfs_pointers:
        listed = ", ".join(source.lfs_pointers[:5])
        ctx.log(f"warning: {len(source.lfs_pointers)} LFS files are pointers only: {listed}\n")
        ctx.log("hint: git lfs pull\n")
    if source.submodules:
        ctx.log(f"submodules: {', '.join(source.submodules)}\n")
    return source


def described_version(root: Path) -> str:
    """Return the nearest tag as a version, such as "1.4.2" or "1.4.2.dev3"; "" when there is none."""
    argv = ["git", "describe", "--tags", "--long", "--match", "*[0-9]*"]
    try:
        done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return ""
    tag, commits, _ = done.stdout.strip().rsplit("-", 2)
    version = tag.lstrip("v")
    return version if commits == "0" else f"{version}.post{commits}"
