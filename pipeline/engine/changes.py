"""What happened between two trees, as git sees it: contents and the executable bit, no times or owners."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pipeline.engine.rootpath import find_status, is_directory
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Kind = Literal["ADDED", "MODIFIED", "REMOVED", "RENAMED"]
_KINDS: Final[dict[str, Kind]] = {
    "A": "ADDED",
    "M": "MODIFIED",
    "T": "MODIFIED",
    "D": "REMOVED",
    "R": "RENAMED",
}
_GIT: Final = ("git", "-c", "core.quotePath=false", "diff", "--no-index", "--no-prefix", "--find-renames")


class DiffFailed(EngineError):
    """Git could not compare two trees."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot compare two directories: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Paths, sorted; directories end in a slash, and a removed one stands for all that was below it.

    `is_empty` says that no file differs: empty directories are not counted.
    """

    added: tuple[str, ...]
    modified: tuple[str, ...]
    removed: tuple[str, ...]
    is_empty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What happened to a file, or a directory whose path ends in a slash; `old_path` is of a renamed file."""

    path: str
    kind: Kind
    added_lines: int
    removed_lines: int
    old_path: str = ""


def find_changes(before: Path, after: Path) -> Changes:
    """Compare two roots."""
    found = list(_compare(os.fspath(before), os.fspath(after), ""))
    lists = {
        kind: tuple(sorted(path for k, path, _ in found if k == kind))
        for kind in ("added", "modified", "removed")
    }
    return Changes(**lists, is_empty=not any(holds_files for _, _, holds_files in found))


def _compare(before: str, after: str, prefix: str) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, path and whether files are concerned, for everything below two directories."""
    old, new = _listing(before), _listing(after)
    for name in sorted(old.keys() | new.keys()):
        path = prefix + name
        was, now = old.get(name), new.get(name)
        was_directory = was is not None and stat.S_ISDIR(was.st_mode)
        is_directory = now is not None and stat.S_ISDIR(now.st_mode)
        if was_directory and is_directory:
            yield from _compare(f"{before}/{name}", f"{after}/{name}", path + "/")
            continue
        if was is not None and now is not None and not was_directory and not is_directory:
            if not _is_same(f"{before}/{name}", was, f"{after}/{name}", now):
                yield "modified", path, True
            continue
        if was is not None:
            holds = not was_directory or _holds_files(f"{before}/{name}")
            yield "removed", path + "/" * was_directory, holds
        if now is not None:
            yield "added", path + "/" * is_directory, not is_directory
            if is_directory:
                yield from _compare("", f"{after}/{name}", path + "/")


def _listing(directory: str) -> dict[str, os.stat_result]:
    if not directory:
        return {}
    with os.scandir(directory) as found:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in found}


def _is_same(before: str, was: os.stat_result, after: str, now: os.stat_result) -> bool:
    if stat.S_IFMT(was.st_mode) != stat.S_IFMT(now.st_mode):
        return False
    if _stamp(was) == _stamp(now):
        return True  # one file of a shared layer, seen through two views
    if stat.S_ISLNK(was.st_mode):
        return os.readlink(before) == os.readlink(after)
    if not stat.S_ISREG(was.st_mode):
        return True
    if (was.st_mode ^ now.st_mode) & 0o100 or was.st_size != now.st_size:
        return False
    import filecmp

    return filecmp.cmp(before, after, shallow=False)


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    return info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _holds_files(directory: str) -> bool:
    return any(files for _, _, files in os.walk(directory))


# ---- the changed files alone -----------------------------------------------------------------


def removed_files(changes: Changes, before: str) -> Iterator[str]:
    """Yield all files and links that were removed, those below removed directories too."""
    for path in changes.removed:
        if not path.endswith("/"):
            yield path
            continue
        for folder, names, files in os.walk(f"{before}/{path.rstrip('/')}"):
            inner = os.path.relpath(folder, before)
            links = (name for name in names if os.path.islink(f"{folder}/{name}"))
            yield from (f"{inner}/{name}" for name in (*links, *files))


def changed_files(changes: Changes, before: str) -> frozenset[str]:
    """Return all files and links that were added, changed or removed."""
    there = (path for path in (*changes.added, *changes.modified) if not path.endswith("/"))
    return frozenset((*there, *removed_files(changes, before)))


def find_file(root: str, path: str) -> str | None:
    """Return the place of a file or a link; None when there is none, or when a link stands above it."""
    *above, name = path.split("/")
    here = root
    for part in above:
        here = f"{here}/{part}"
        if not is_directory(here):
            return None
    info = find_status(f"{here}/{name}")
    known = info is not None and (stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode))
    return f"{here}/{name}" if known else None


def copy_for_git(root: str, path: str, into: str) -> None:
    """Copy what git would see of a file or a link, if there is one, to the same path in another root."""
    source = find_file(root, path)
    if source is None:
        return
    target = f"{into}/{path}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target, follow_symlinks=False)
    if not os.path.islink(target):
        os.chmod(target, 0o755 if os.lstat(source).st_mode & 0o100 else 0o644)


# ---- what git says ---------------------------------------------------------------------------


def file_changes(before: Path, after: Path) -> list[FileChange]:
    """Return what happened to each file and directory, with the lines that came and went.

    Files that were renamed are found; directories have no lines.

    Raises:
        DiffFailed: Git is missing, or fails.
    """
    found = find_changes(before, after)
    with _differ(before, after, found) as diff:
        files = list(_changes_of_files(diff))
    added = [path for path in found.added if path.endswith("/")]
    gone = [path for path in found.removed if path.endswith("/")]
    removed = [below for path in gone for below in _directories(os.fspath(before), path)]
    directories = [_directory_change(path, "ADDED") for path in added]
    directories += [_directory_change(path, "REMOVED") for path in removed]
    return sorted([*files, *directories], key=lambda change: change.path)


def _directory_change(path: str, kind: Kind) -> FileChange:
    return FileChange(path=path, kind=kind, added_lines=0, removed_lines=0)


def _directories(root: str, path: str) -> Iterator[str]:
    """Yield a directory and all below it, with slashes."""
    for folder, _, _ in os.walk(f"{root}/{path.rstrip('/')}"):
        yield os.path.relpath(folder, root) + "/"


def _changes_of_files(diff: Callable[..., str]) -> Iterator[FileChange]:
    kinds: dict[str, tuple[Kind, str]] = {}
    fields = iter(diff("--raw", "-z").split("\0"))
    for field in fields:
        if field.startswith(":"):
            letter = field.split(" ")[-1][:1]
            old = _bare(next(fields))
            path = _bare(next(fields)) if letter in "RC" else old
            kinds[path] = (_KINDS.get(letter, "MODIFIED"), old if letter == "R" else "")
    for path, added, removed in _line_counts(diff("--numstat", "-z")):
        if path in kinds:
            kind, old_path = kinds[path]
            yield FileChange(
                path=path, kind=kind, old_path=old_path, added_lines=added, removed_lines=removed
            )


def _line_counts(listing: str) -> Iterator[tuple[str, int, int]]:
    fields = iter(listing.split("\0"))
    for field in fields:
        if not field:
            continue
        added, removed, path = field.split("\t", 2)
        if not path:  # a rename: both paths follow
            old, new = next(fields), next(fields)
            path = old if new == os.devnull else new
        counts = [0 if text == "-" else int(text) for text in (added, removed)]
        yield _bare(path), counts[0], counts[1]


def patch_text(before: Path, after: Path) -> str:
    """Return a patch that `git apply` takes, with binary content.

    Raises:
        DiffFailed: Git is missing, or fails.
    """
    with _differ(before, after, find_changes(before, after)) as diff:
        lines = diff("--binary", "--patch").split("\n")
    # Git writes the roots' names into these two lines, and refuses to apply them.
    starts = {"rename from a/": "rename from ", "rename to b/": "rename to "}
    for number, line in enumerate(lines):
        for start, wanted in starts.items():
            if line.startswith(start):
                lines[number] = wanted + line.removeprefix(start)
    return "\n".join(lines)


@contextmanager
def _differ(before: Path, after: Path, changes: Changes) -> Iterator[Callable[..., str]]:
    """Lend a way to run git over the files that changed, in two directories `a` and `b`.

    Copies of those files alone: git would read all there is, and not see which files are one.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="changes-") as folder:
        for root, shown in ((before, f"{folder}/a"), (after, f"{folder}/b")):
            os.mkdir(shown)
            for path in changed_files(changes, os.fspath(before)):
                copy_for_git(os.fspath(root), path, shown)
        yield lambda *options: _diff(folder, *options)


def _diff(folder: str, *options: str) -> str:
    env = {"PATH": os.environ.get("PATH", os.defpath), "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*_GIT, *options, "a", "b"], cwd=folder, capture_output=True, check=False, env=env
        )
    except FileNotFoundError as error:
        raise DiffFailed("`git` is not installed") from error
    if done.returncode not in (0, 1):
        raise DiffFailed(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "surrogateescape")


def _bare(path: str) -> str:
    """Return a path without the name of its root."""
    return path.partition("/")[2] if path.startswith(("a/", "b/")) else path
