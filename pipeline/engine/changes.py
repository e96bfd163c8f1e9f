"""What happened between two trees, as git sees it: contents and the executable bit, no times or owners."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipeline.engine.mounts import bind, unmount
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """What happened to one file; `old_path` is where a renamed one was."""

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
    if stat.S_ISLNK(was.st_mode):
        return os.readlink(before) == os.readlink(after)
    if not stat.S_ISREG(was.st_mode):
        return True
    import filecmp

    return (was.st_mode ^ now.st_mode) & 0o100 == 0 and filecmp.cmp(before, after, shallow=False)


def _holds_files(directory: str) -> bool:
    return any(files for _, _, files in os.walk(directory))


def file_changes(before: Path, after: Path) -> list[FileChange]:
    """Return what happened to each file, renames found, with the lines that came and went.

    Raises:
        DiffFailed: Git is missing, or fails.
    """
    raw = _diff(before, after, "--raw", "-z").split("\0")
    kinds: dict[str, tuple[Kind, str]] = {}
    fields = iter(raw)
    for field in fields:
        if field.startswith(":"):
            letter = field.split(" ")[-1][:1]
            old = _bare(next(fields))
            path = _bare(next(fields)) if letter in "RC" else old
            kinds[path] = (_KINDS.get(letter, "MODIFIED"), old if letter == "R" else "")
    return [
        FileChange(
            path=path, kind=kinds[path][0], old_path=kinds[path][1], added_lines=added, removed_lines=removed
        )
        for path, added, removed in _line_counts(before, after)
        if path in kinds
    ]


def _line_counts(before: Path, after: Path) -> Iterator[tuple[str, int, int]]:
    fields = iter(_diff(before, after, "--numstat", "-z").split("\0"))
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
    lines = _diff(before, after, "--binary", "--patch").split("\n")
    # Git writes the roots' names into these two lines, and refuses to apply them.
    starts = {"rename from a/": "rename from ", "rename to b/": "rename to "}
    for number, line in enumerate(lines):
        for start, wanted in starts.items():
            if line.startswith(start):
                lines[number] = wanted + line.removeprefix(start)
    return "\n".join(lines)


def _diff(before: Path, after: Path, *options: str) -> str:
    """Run git over the roots, shown as `a` and `b`."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="changes-") as folder:
        shown = Path(folder) / "a", Path(folder) / "b"
        mounted = []
        try:
            for source, target in zip((before, after), shown, strict=True):
                target.mkdir()
                bind(source, target, read_only=True)
                mounted.append(target)
            done = subprocess.run(
                [*_GIT, *options, "a", "b"],
                cwd=folder,
                capture_output=True,
                check=False,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "GIT_CONFIG_GLOBAL": os.devnull,
                    "LC_ALL": "C",
                },
            )
        except FileNotFoundError as error:
            raise DiffFailed("`git` is not installed") from error
        finally:
            for target in mounted:
                unmount(target)
    if done.returncode not in (0, 1):
        raise DiffFailed(done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "surrogateescape")


def _bare(path: str) -> str:
    """Return a path without the name of its root."""
    return path.partition("/")[2] if path.startswith(("a/", "b/")) else path
