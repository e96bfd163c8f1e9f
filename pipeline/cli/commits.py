"""A commit's own work tree below `.pipeline/commits`, so that a run is about exactly what was committed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.errors import UsageError
from pipeline.graph.inputs import GitFailed, git

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT: Final = 3
"""How many commits' work trees are kept; the others are removed, longest unused first."""


class NoSuchCommit(UsageError):
    """The repository has no such commit, or there is no repository."""

    def __init__(self, ref: str, said: str) -> None:
        super().__init__(f"cannot run the commit `{ref}`: {said}")
        self.hint = "`git fetch` brings what only the remote has"


def check_out(root: Path, state: Path, ref: str) -> Path:
    """Check out `ref` beside the working tree, which is not touched, and return what `root` is in there.

    A work tree that is there already is used again when nothing in it was changed.

    Args:
        root: The project's root, in a git repository.
        state: The project's state folder, which the work tree is put into.

    Raises:
        NoSuchCommit: There is no such commit.
        GitFailed: Git cannot check it out.
    """
    try:
        asked = ("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
        sha = git(root, *asked, what="find it").decode().strip()
    except GitFailed as error:
        raise NoSuchCommit(ref, error.said.strip().removeprefix("fatal: ")) from error
    top = Path(
        os.fsdecode(git(root, "rev-parse", "--show-toplevel", what="find the repository")).rstrip("\n")
    )
    folder = state / "commits" / sha[:12]
    tree = folder / top.name  # a project may be named after its folder
    with _locked(state / "commits"):
        if not _is_clean(tree, sha):
            shutil.rmtree(folder, ignore_errors=True)
            git(root, "worktree", "prune", what="forget removed work trees")
            # Hooks are the user's own and meant for their own work tree.
            hookless = ("-c", f"core.hooksPath={os.devnull}")
            what = f"check out `{ref}`"
            git(root, *hookless, "worktree", "add", "--detach", os.fspath(tree), sha, what=what)
        os.utime(folder)
        _remove_old(folder.parent)
    return tree / root.relative_to(top)


def _is_clean(tree: Path, sha: str) -> bool:
    if not tree.is_dir():
        return False
    try:
        head = git(tree, "rev-parse", "HEAD", what="read the commit").decode().strip()
        return head == sha and not git(tree, "status", "--porcelain", what="look for changes").strip()
    except GitFailed:
        return False


def _remove_old(commits: Path) -> None:
    folders = sorted((one for one in commits.iterdir() if one.is_dir()), key=lambda one: -one.stat().st_mtime)
    for folder in folders[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)  # one in use elsewhere is removed the next time


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
