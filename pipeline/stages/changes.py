"""Which lines a change touches, and what it is a change of: asked of git."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from pipeline.graph.inputs import GitFailed, git

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HUNK: Final = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "v": "\v", "f": "\f"}
USUAL: Final = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


def find_base(root: Path, wanted: str | None, environ: Mapping[str, str]) -> str:
    """Return the commit that the change in the working tree starts from: where it left the branch it goes to.

    That branch is `wanted`, else the one a pull request names (`GITHUB_BASE_REF`), else the remote's default.

    Raises:
        GitFailed: There is no git or no such commit here; a shallow clone may lack it.
    """
    asked = environ.get("GITHUB_BASE_REF")
    names = (wanted,) if wanted else (f"origin/{asked}", asked) if asked else USUAL
    what = f"find what changed since {' or '.join(f'`{name}`' for name in names)}"
    said = "no such branch"
    for name in names:
        try:
            git(root, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", what=what)
        except GitFailed as error:
            said = error.said
            continue
        found = git(root, "merge-base", "--end-of-options", name, "HEAD", what=what)
        return found.decode().strip()
    raise GitFailed(what, said)


def changed_lines(root: Path, base: str) -> dict[str, frozenset[int]]:
    """Return the lines of the project's files that are not as in `base`, by path, as they are numbered now.

    A file that was only moved has none; one that is gone is left out.

    Raises:
        GitFailed: There is no such commit here, or no git.
    """
    argv = ("-c", "core.quotePath=false", "diff", "-U0", "--find-renames", "--relative", "--no-color")
    plain = ("--no-ext-diff", "--no-textconv", "--ignore-submodules", "--src-prefix=a/", "--dst-prefix=b/")
    return parse_diff(git(root, *argv, *plain, base, "--", what=f"find what changed since `{base}`"))


def parse_diff(diff: bytes) -> dict[str, frozenset[int]]:
    """Read a diff without context: the added lines of each file. Content may look like a header."""
    found: dict[str, set[int]] = {}
    path: str | None = None
    content = 0  # lines of the hunk still to come
    for line in diff.split(b"\n"):
        if content:
            content -= not line.startswith(b"\\")
        elif line.startswith(b"+++ "):
            path = _path(os.fsdecode(line[4:]))
        elif path is not None and (hunk := HUNK.match(line)):
            removed, start, added = (int(one) if one else 1 for one in hunk.groups())
            content = removed + added
            found.setdefault(path, set()).update(range(start, start + added))
    return {name: frozenset(numbers) for name, numbers in found.items() if numbers}


def _path(name: str) -> str | None:
    """The file a header names; None for one that is gone. Git writes a tab after names with spaces."""
    name = name.removesuffix("\t")
    if name == "/dev/null":
        return None
    if name.startswith('"'):
        name = _unquoted(name[1:-1])
    return name.removeprefix("b/")


def _unquoted(name: str) -> str:
    """A name as git quotes it, in C's way; what stands for bytes becomes them."""
    parts: Sequence[str] = re.findall(r"\\[0-7]{3}|\\.|[^\\]+", name)
    data = bytearray()
    for part in parts:
        if re.fullmatch(r"\\[0-7]{3}", part):
            data.append(int(part[1:], 8))
        else:
            text = ESCAPES.get(part[1:], part[1:]) if part.startswith("\\") else part
            data += os.fsencode(text)
    return os.fsdecode(bytes(data))
