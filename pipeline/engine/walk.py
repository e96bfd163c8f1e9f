"""Walking a directory with filters applied on the way: what is excluded is never opened.

It reads names, metadata and `.gitignore` files; contents are left to others.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pipeline.engine.gitignore import GitIgnore
from pipeline.engine.patterns import TOP, FilterState, TreeFilter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.engine.actions import Filters

Kind = Literal["file", "dir", "symlink", "fifo", "socket", "device"]

_KINDS: Final[dict[int, Kind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_IGNORE_FILE: Final = ".gitignore"


class WalkEntry(NamedTuple):
    """One thing in a tree. `path` is relative to the root, decoded by `os.fsdecode`; `stat` follows no link.

    A tuple and not a dataclass, since thousands are made in the time that a caller notices.
    """

    path: str
    kind: Kind
    stat: os.stat_result


def walk(root: Path, filters: Filters, *, repo_root: Path | None = None) -> Iterator[WalkEntry]:
    """Yield what is below `root` and passes `filters`: depth first, a directory before its contents, by name.

    A directory that does not pass is yielded when something below it does. Entries that vanish on
    the way are left out. With `filters.gitignore` the rules of `repo_root` and of the directories down to
    `root` apply too.

    Raises:
        OSError: `root` or a directory below it cannot be read.
        BadPattern: A pattern is not in the dialect.
    """
    tree_filter = TreeFilter.of(filters)
    if filters.gitignore:
        top, prefix = _rules_above(root, repo_root)
        if prefix and _is_ignored_from_above(top, prefix):
            return iter(())
        return _Walker(tree_filter, prefix).walk_ignoring(os.fspath(root), "", TOP, top)
    if tree_filter.is_open:
        return _walk_all(os.fspath(root), "")
    return _Walker(tree_filter, "").walk_filtered(os.fspath(root), "", TOP)


def _walk_all(directory: str, prefix: str) -> Iterator[WalkEntry]:
    for entry in _scan(directory, is_root=not prefix):
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        path = prefix + entry.name
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        yield WalkEntry(path, kind, status)
        if kind == "dir":
            yield from _walk_all(entry.path, path + "/")


class _Walker:
    """A walk with filters; `above` is the path from the repository's root to the walk's, or ""."""

    def __init__(self, tree_filter: TreeFilter, above: str) -> None:
        self._filter = tree_filter
        self._above = above + "/" if above else ""
        self._pending: list[WalkEntry] = []  # directories above the current one that were not yielded yet

    def walk_filtered(self, directory: str, prefix: str, state: FilterState) -> Iterator[WalkEntry]:
        """Walk by include and exclude."""
        for entry in _scan(directory, is_root=not prefix):
            path = prefix + entry.name
            decision = self._filter.decide(path, state)
            if not decision.keep and not decision.descend:
                continue
            found = _entry(entry, path)
            if found is None or not (decision.keep or found.kind == "dir"):
                continue
            if decision.keep:
                yield from self._with_parents(found)
            if found.kind == "dir" and decision.descend:
                yield from self._below(
                    found, decision.keep, self.walk_filtered(entry.path, path + "/", decision.state)
                )

    def walk_ignoring(
        self, directory: str, prefix: str, state: FilterState, rules: GitIgnore
    ) -> Iterator[WalkEntry]:
        """Walk by include, exclude and git's rules."""
        text = _read_ignore_file(directory)
        if text is not None:
            rules = rules.below((self._above + prefix).removesuffix("/"), text)
        for entry in _scan(directory, is_root=not prefix):
            path = prefix + entry.name
            decision = self._filter.decide(path, state)
            if not decision.keep and not decision.descend:
                continue
            found = _entry(entry, path)
            if found is None or not (decision.keep or found.kind == "dir"):
                continue
            if rules.ignores(self._above + path, is_dir=found.kind == "dir"):
                continue
            if decision.keep:
                yield from self._with_parents(found)
            if found.kind == "dir" and decision.descend:
                deeper = self.walk_ignoring(entry.path, path + "/", decision.state, rules)
                yield from self._below(found, decision.keep, deeper)

    def _below(self, directory: WalkEntry, is_kept: bool, deeper: Iterator[WalkEntry]) -> Iterator[WalkEntry]:
        if is_kept:
            yield from deeper
            return
        self._pending.append(directory)
        yield from deeper
        if self._pending and self._pending[-1] is directory:
            self._pending.pop()

    def _with_parents(self, found: WalkEntry) -> Iterator[WalkEntry]:
        if self._pending:
            yield from self._pending
            self._pending.clear()
        yield found


def _scan(directory: str, *, is_root: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=_by_name)
    except FileNotFoundError:
        if is_root:
            raise
        return []


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _entry(entry: os.DirEntry[str], path: str) -> WalkEntry | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return WalkEntry(path, _KINDS[stat.S_IFMT(status.st_mode)], status)


def _read_ignore_file(directory: str) -> str | None:
    """Read a directory's `.gitignore`; like git, follow no link there."""
    try:
        descriptor = os.open(
            os.path.join(directory, _IGNORE_FILE), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        )
    except OSError:
        return None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return os.fsdecode(stream.read())


def _rules_above(root: Path, repo_root: Path | None) -> tuple[GitIgnore, str]:
    """Collect the rules from `repo_root` down to the directory above `root`, and the path between them."""
    rules = GitIgnore()
    if repo_root is None or repo_root == root:
        return rules, ""
    parts = root.relative_to(repo_root).parts
    for depth in range(len(parts)):
        text = _read_ignore_file(os.fspath(repo_root.joinpath(*parts[:depth])))
        if text is not None:
            rules = rules.below("/".join(parts[:depth]), text)
    return rules, "/".join(parts)


def _is_ignored_from_above(rules: GitIgnore, path: str) -> bool:
    """Say whether `path` or a directory above it is ignored; each is judged by the files above it."""
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        directory = "/".join(parts[:depth])
        applying = GitIgnore(
            files=tuple(f for f in rules.files if directory.startswith(f.base and f.base + "/"))
        )
        if applying.ignores(directory, is_dir=True):
            return True
    return False
