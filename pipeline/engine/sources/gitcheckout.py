"""Checking a commit out so that the same commit is the same tree: no times, no inodes, no logs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from pipeline.engine.sources.gitcommand import GitAddress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.engine.sources.gitcommand import Git
    from pipeline.engine.sources.gitrefs import ResolvedRef

TREE_TIME_S: Final = 1_577_836_800
"""Time stamp of everything in a checkout: 2020-01-01, which every archive format can hold."""

_TRACES: Final = ("FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG", "gc.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What is checked out, and how much of `.git` comes along."""

    ref: ResolvedRef
    tag_object: str = ""  # the object of an annotated tag
    discard_git_dir: bool = False
    depth: int = 1  # 0 = all history
    tags: Mapping[str, str] = field(default_factory=dict)  # full name: object
    origin: str = ""  # address of the repository; "" for one in a tree

    @property
    def identity(self) -> object:
        """Return all that the tree depends on, as JSON can express it."""
        if self.discard_git_dir:
            return [self.ref.commit]
        return [
            self.ref.commit,
            self.ref.name,
            self.tag_object,
            self.depth,
            sorted(self.tags.items()),
            self.origin,
        ]


async def check_out(
    git: Git,
    mirror: Path,
    target: Path,
    checkout: Checkout,
    place: object,
    addresses: Mapping[str, str],
) -> None:
    """Fill the empty directory `target` from the mirror, which has every object that is needed.

    Raises:
        GitFailed: Git could not; also when a submodule cannot be fetched.
    """
    name, commit = checkout.ref.name, checkout.ref.commit
    await git.local("init", "-q", "--template=", "--initial-branch=main", cwd=target)
    if checkout.origin:
        await git.local("remote", "add", "origin", checkout.origin, cwd=target)
    wanted = dict(checkout.tags)
    wanted[name or "refs/commit"] = checkout.tag_object or commit
    refspecs = [f"+{sha}:{ref}" for ref, sha in wanted.items()]
    depth = (f"--depth={checkout.depth}",) if checkout.depth else ("--update-shallow",)
    await git.local(
        *("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--update-head-ok", "--no-recurse-submodules"),
        *(*depth, "--", mirror.as_uri(), *refspecs),
        cwd=target,
    )
    if name.startswith("refs/heads/"):
        await git.local("checkout", "-q", "--force", name.removeprefix("refs/heads/"), "--", cwd=target)
    else:
        await git.local("checkout", "-q", "--force", "--detach", commit, cwd=target)
    if not name:
        await git.local("update-ref", "-d", "refs/commit", cwd=target)
    if await anyio.Path(target / ".gitmodules").exists():
        await _check_out_submodules(git, target, place, addresses)
    git_dirs = await anyio.to_thread.run_sync(lambda: list(_git_dirs(target / ".git")))
    if not checkout.discard_git_dir:
        for git_dir in git_dirs:
            await _forget_disk(git, git_dir)
    await anyio.to_thread.run_sync(_tidy, target, git_dirs, checkout.discard_git_dir)


async def _check_out_submodules(git: Git, target: Path, place: object, addresses: Mapping[str, str]) -> None:
    command = ("submodule", "update", "-q", "--init", "--recursive", "--depth=1")
    if isinstance(place, GitAddress):
        await git.remote(*command, cwd=target, address=place, addresses=addresses)
    else:
        await git.local(*command, cwd=target)


async def _forget_disk(git: Git, git_dir: Path) -> None:
    """Write the index anew: the one of a checkout holds inodes and times of files."""
    (git_dir / "index").unlink(missing_ok=True)
    await git.local(f"--git-dir={git_dir}", "read-tree", "HEAD", cwd=git_dir)


def _git_dirs(git_dir: Path) -> Iterator[Path]:
    """Yield a repository's directory and those of its submodules."""
    yield git_dir
    modules = git_dir / "modules"
    for folder, names, files in os.walk(modules):
        if "HEAD" in files and "objects" in names:
            yield Path(folder)
            names[:] = [name for name in names if name == "modules"]


def _tidy(target: Path, git_dirs: list[Path], discard_git_dir: bool) -> None:
    if discard_git_dir:
        _remove_git(target)
    else:
        for git_dir in git_dirs:
            for name in _TRACES:
                (git_dir / name).unlink(missing_ok=True)
            for log in (git_dir / "logs").rglob("*"):
                if log.is_file():
                    os.truncate(log, 0)
    _set_times(target)


def _remove_git(target: Path) -> None:
    from shutil import rmtree

    for folder, names, files in os.walk(target):
        if ".git" in names:
            names.remove(".git")
            rmtree(os.path.join(folder, ".git"))
        if ".git" in files:
            os.unlink(os.path.join(folder, ".git"))


def _set_times(target: Path) -> None:
    moment = (TREE_TIME_S, TREE_TIME_S)
    for folder, names, files in os.walk(target, topdown=False):
        for name in (*names, *files):
            os.utime(os.path.join(folder, name), moment, follow_symlinks=False)
    os.utime(target, moment)
