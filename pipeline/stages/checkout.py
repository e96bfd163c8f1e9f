"""`checkout`: which files the run is about."""

from __future__ import annotations

from pipeline.digest import digest_json
from pipeline.graph.context import Context  # noqa: TC001 - read when the graph is checked
from pipeline.graph.inputs import project_files
from pipeline.graph.stage import stage
from pipeline.stages.git import described_version
from pipeline.stages.results import Source
from pipeline.text import some


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
    ctx.log(f"{some(source.files, 'file')}, {where}, {source.digest[:19]}\n")
    if source.lfs_pointers:
        listed = ", ".join(source.lfs_pointers[:5])
        ctx.log(f"warning: {len(source.lfs_pointers)} LFS files are pointers only: {listed}\n")
        ctx.log("hint: git lfs pull\n")
    if source.submodules:
        ctx.log(f"submodules: {', '.join(source.submodules)}\n")
    if absent := [name for name in source.submodules if not (ctx.root / name / ".git").exists()]:
        ctx.log(f"warning: submodules that are not checked out: {', '.join(absent)}\n")
        ctx.log("hint: git submodule update --init\n")
    return source
