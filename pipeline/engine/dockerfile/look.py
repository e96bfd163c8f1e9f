"""What a build looks for in file trees: sources by name or wildcard, archives, ignore files."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine.actions import Filters
from pipeline.engine.dockerfile.lines import FILE_LIMIT
from pipeline.engine.paths import base_name, join
from pipeline.engine.patterns import PatternMatcher, parse_ignore_file, parse_pattern
from pipeline.engine.read import PathProblem, resolve
from pipeline.engine.unpack import is_archive
from pipeline.engine.walk import walk
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WILDCARD: Final = re.compile(r"[*?\[]")
_STARS: Final = re.compile(r"\*+")


class SourceMissing(EngineError):
    """Nothing in a tree goes by the name or pattern that a source gives."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f'"{join("/", pattern)}": not found')
        self.pattern = pattern


class TooLarge(EngineError):
    """A file that has to be read whole is larger than any sensible one."""

    def __init__(self, path: str) -> None:
        super().__init__(f"`{path}` is larger than {FILE_LIMIT >> 20} MiB")
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A source: its path in the tree with links followed, and the name it was asked for by."""

    path: str
    name: str
    is_directory: bool
    is_archive: bool = False


def find_sources(root: Path, pattern: str, *, archives: bool = False) -> tuple[Found, ...]:
    """Return what a COPY source means in the tree at `root`, in order of path; `..` stops at the root.

    `archives` asks whether files are tar archives.

    Raises:
        SourceMissing: Nothing is there, or the wildcard matches nothing.
        BadPattern: The wildcard is malformed.
    """
    clean = join("/", pattern)
    paths = _glob(root, clean) if _WILDCARD.search(clean) else [clean]
    found = [each for path in paths if (each := _stat(root, path, archives=archives)) is not None]
    if not found:
        raise SourceMissing(pattern)
    return tuple(found)


def require_match(root: Path, pattern: str, below: str, exclude: Sequence[str]) -> None:
    """Check that a `--parents` source, relative to directory `below`, selects something.

    Raises:
        SourceMissing: It does not.
    """
    try:
        start = resolve(root, below)
        entries = walk(start, Filters(include=(pattern,), exclude=tuple(exclude)))
        if not pattern or next(entries, None) is not None:
            return
    except (PathProblem, OSError) as error:
        raise SourceMissing(join(below, pattern)) from error
    raise SourceMissing(join(below, pattern))


def read_text(root: Path, path: str) -> str | None:
    """Return a text file's content; None when there is no such file.

    Raises:
        OSError: It is there and cannot be read.
        TooLarge: It is.
    """
    try:
        found = resolve(root, path)
    except PathProblem:
        return None
    if not found.is_file():
        return None
    if found.stat().st_size > FILE_LIMIT:
        raise TooLarge(path)
    return found.read_bytes().decode("utf-8", "surrogateescape")


def read_ignore_patterns(root: Path, directory: str, dockerfile: str) -> tuple[str, ...]:
    """Return the patterns of `<dockerfile>.dockerignore`, or else of the directory's `.dockerignore`."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        text = read_text(root, join(directory, name.lstrip("/")))
        if text:
            return parse_ignore_file(text)
    return ()


def is_excluded(name: str, exclude: Sequence[str]) -> bool:
    """Does a file of that name match one of the `--exclude` patterns?"""
    return bool(exclude) and PatternMatcher(exclude).matches(name)


def _stat(root: Path, path: str, *, archives: bool) -> Found | None:
    try:
        here = resolve(root, path)
        mode = os.lstat(here).st_mode
    except (PathProblem, FileNotFoundError, NotADirectoryError):
        return None
    return Found(
        path=join("/", os.path.relpath(here, root)),
        name=base_name(path),
        is_directory=stat.S_ISDIR(mode),
        is_archive=archives and stat.S_ISREG(mode) and is_archive(os.fspath(here)),
    )


def _glob(root: Path, pattern: str) -> list[str]:
    """Return the paths that match segment by segment; a star never crosses a slash."""
    paths = ["/"]
    for segment in pattern.strip("/").split("/"):
        if not _WILDCARD.search(segment):
            paths = [join(path, segment) for path in paths]
            continue
        # The segment is put below another one, so that a leading `!` is a letter like any other.
        compiled = parse_pattern("x/" + _STARS.sub("*", segment))
        if compiled is None:
            return []
        paths = [
            join(path, name)
            for path in paths
            for name in _names(root, path)
            if compiled.matcher.fullmatch("x/" + name)
        ]
    return paths


def _names(root: Path, path: str) -> list[str]:
    try:
        return sorted(os.listdir(resolve(root, path)))
    except (PathProblem, FileNotFoundError, NotADirectoryError):
        return []
