"""The lines a change touches: from where the branch left its base to the working tree."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from pipeline.graph.inputs import GitFailed, git

if TYPE_CHECKING:
    from pathlib import Path

_HUNK: Final = re.compile(rb"^@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
BRANCHES: Final = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
PLAIN: Final = ("--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def base_of(root: Path) -> str:
    """What a change is compared with: the branch a pull request names, else the default branch.

    Where that branch is what is checked out, the change is its last commit. "" when nobody can tell.
    """
    asked = os.environ.get("GITHUB_BASE_REF") or os.environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
    for name in [f"origin/{asked}"] if asked else BRANCHES:
        if commit := _commit(root, name):
            if commit != _commit(root, "HEAD"):
                return name
            return "HEAD^" if _commit(root, "HEAD^") else ""
    return ""


def _commit(root: Path, name: str) -> str:
    argv = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    try:
        return git(root, *argv, what=f"find the commit of `{name}`").decode().strip()
    except GitFailed:
        return ""  # there is none: another name is tried


def changed_lines(root: Path, ref: str) -> dict[str, frozenset[int]]:
    """The lines of each file that differ from where the working tree left `ref`, by number.

    What a moved file keeps counts as unchanged. Deleted lines have no number.

    Raises:
        GitFailed: There is no such commit here (a shallow clone may lack it), or no git.
    """
    what = f"find the lines changed since `{ref}`"
    base = git(root, "merge-base", "--end-of-options", ref, "HEAD", what=what).decode().strip()
    argv = ("-c", "core.quotePath=false", "diff", "--unified=0", "--relative", "--find-renames")
    return _parse(git(root, *argv, *PLAIN, base, "--", what=what))


def _parse(patch: bytes) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    path: str | None = None
    is_head = False
    for line in patch.split(b"\n"):
        if line.startswith(b"diff --git "):
            path, is_head = None, True
        elif is_head and line.startswith(b"+++ "):
            path = _name(line[4:])
        elif hunk := _HUNK.match(line):
            is_head = False
            first, count = int(hunk[1]), int(hunk[2] or 1)
            if path is not None and count:
                found.setdefault(path, set()).update(range(first, first + count))
    return {name: frozenset(lines) for name, lines in found.items()}


def _name(field: bytes) -> str | None:
    text = field.rstrip(b"\t\r")
    if text == b"/dev/null":
        return None
    if text.startswith(b'"') and text.endswith(b'"'):  # git quotes names with quotes and control characters
        text = text[1:-1].decode("unicode_escape", "surrogateescape").encode("latin-1", "replace")
    return os.fsdecode(text.removeprefix(b"b/"))
