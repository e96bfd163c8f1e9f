"""Reads a tree that is there: listings, contents, search. Plain functions over a merged root.

Paths are resolved as if the root were `/`: a symbolic link never leads out of it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pipeline.engine.paths import join
from pipeline.engine.patterns import PatternMatcher
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONTENTS_MAX_BYTES: Final = 128 * 1024 * 1024
LINKS_MAX: Final = 40

FileKind = Literal["REGULAR", "DIRECTORY", "SYMLINK", "UNKNOWN"]


class PathProblem(EngineError):
    """A path of a tree cannot be read as asked; the text is what the system would say."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


def missing(path: str) -> PathProblem:
    """Return the error for a path that is not there."""
    return PathProblem(path, "no such file or directory")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """What a path is; `permissions` are the low nine bits."""

    name: str
    size: int
    kind: FileKind
    permissions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """One match: the file, its 1-based line, the byte offset of the line, and the matched parts."""

    path: str
    line: int
    offset: int
    text: str
    parts: tuple[tuple[str, int, int], ...]  # text, start and end in bytes of the line


def resolve(root: Path, path: str, *, follow_last: bool = True) -> Path:
    """Return the host path of `path` in `root`, links resolved inside the root.

    Raises:
        PathProblem: A parent is missing or no directory, or links go in a circle. The last
            component may be missing.
    """
    wanted = [part for part in join("/", path).split("/") if part]
    done: list[str] = []
    links = 0
    while wanted:
        part = wanted.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        if os.path.islink(here) and (wanted or follow_last):
            links += 1
            if links > LINKS_MAX:
                raise PathProblem(path, "too many levels of symbolic links")
            target = os.readlink(here)
            done = [] if target.startswith("/") else done
            wanted = [*target.split("/"), *wanted]
            continue
        if wanted:
            _require_directory(here, path)
        done.append(part)
    return root.joinpath(*done)


def _require_directory(here: Path, path: str) -> None:
    try:
        mode = os.lstat(here).st_mode
    except FileNotFoundError:
        raise missing(path) from None
    if not stat.S_ISDIR(mode):
        raise PathProblem(path, "not a directory")


def require_directory(root: Path, path: str) -> Path:
    """Return the host path of a directory.

    Raises:
        PathProblem: It is missing or no directory.
    """
    here = resolve(root, path)
    _require_directory(here, path)
    return here


def require_file(root: Path, path: str) -> Path:
    """Return the host path of a regular file.

    Raises:
        PathProblem: It is missing or no regular file.
    """
    here = resolve(root, path)
    try:
        mode = os.lstat(here).st_mode
    except FileNotFoundError:
        raise missing(path) from None
    if not stat.S_ISREG(mode):
        raise PathProblem(path, "not a file")
    return here


def entries(root: Path, path: str) -> list[str]:
    """List one directory, sorted, directories with a trailing slash."""
    here = require_directory(root, path)
    with os.scandir(here) as found:
        listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    return [name + "/" if is_dir else name for name, is_dir in listed]


def _walk(here: Path, prefix: str = "") -> Iterator[tuple[str, bool]]:
    with os.scandir(here) as found:
        listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in found)
    for name, is_dir in listed:
        yield prefix + name, is_dir
        if is_dir:
            yield from _walk(here / name, prefix + name + "/")


def glob(root: Path, path: str, pattern: str) -> list[str]:
    """Return paths below `path` that match, depth first in name order, directories with a slash."""
    here = require_directory(root, path)
    matcher = PatternMatcher([pattern])
    return [name + "/" if is_dir else name for name, is_dir in _walk(here) if matcher.matches(name)]


def contents(root: Path, path: str, *, offset_lines: int = 0, limit_lines: int | None = None) -> str:
    """Return a file's text; bytes that are not UTF-8 become U+FFFD.

    Raises:
        PathProblem: It is no file, or larger than 128 MiB.
    """
    here = require_file(root, path)
    if os.stat(here).st_size > CONTENTS_MAX_BYTES:
        raise PathProblem(path, f"file size exceeds the limit of {CONTENTS_MAX_BYTES} bytes")
    data = here.read_bytes()
    if offset_lines or limit_lines is not None:
        end = None if limit_lines is None else offset_lines + limit_lines
        data = b"".join(_lines(data)[offset_lines:end])
    return data.decode("utf-8", "replace")


def _lines(data: bytes) -> list[bytes]:
    """Split at newlines alone, which stay; other characters that Python breaks lines at are text."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def kind_of(mode: int) -> FileKind:
    """Return what a mode says a path is."""
    if stat.S_ISREG(mode):
        return "REGULAR"
    if stat.S_ISDIR(mode):
        return "DIRECTORY"
    return "SYMLINK" if stat.S_ISLNK(mode) else "UNKNOWN"


def stat_of(root: Path, path: str, *, follow: bool = True) -> FileStat:
    """Return what a path is.

    Raises:
        PathProblem: It is missing: `stat X: no such file or directory`.
    """
    here = resolve(root, path, follow_last=follow)
    try:
        found = os.lstat(here)
    except FileNotFoundError:
        raise PathProblem(f"stat {path}", "no such file or directory") from None
    return FileStat(
        name=os.path.basename(join("/", path)),
        size=found.st_size,
        kind=kind_of(found.st_mode),
        permissions=found.st_mode & 0o777,
    )


def exists(root: Path, path: str, *, kind: str | None = None, follow: bool = True) -> bool:
    """Is there something at `path`, of `kind` (an ExistsType) if given?

    Raises:
        PathProblem: The path leads through a file.
    """
    follow = follow and kind != "SYMLINK_TYPE"
    try:
        found = os.lstat(resolve(root, path, follow_last=follow))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PathProblem as problem:
        if str(problem).endswith("no such file or directory"):
            return False
        raise
    wanted = {"REGULAR_TYPE": stat.S_ISREG, "DIRECTORY_TYPE": stat.S_ISDIR, "SYMLINK_TYPE": stat.S_ISLNK}
    return kind is None or wanted[kind](found.st_mode)


def find_up(root: Path, name: str, start: str) -> str | None:
    """Return the path of `name` in `start` or the nearest parent that has it; absolute if start is."""
    here = join("/", start)
    while True:
        candidate = join(here, name)
        try:
            if os.path.lexists(resolve(root, candidate)):
                return candidate if start.startswith("/") else candidate.lstrip("/")
        except PathProblem:
            pass  # a parent is missing: look further up
        if here == "/":
            return None
        here = os.path.dirname(here)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search; the words are ripgrep's."""

    literal: bool = False
    multiline: bool = False
    dotall: bool = False
    insensitive: bool = False
    skip_ignored: bool = False
    skip_hidden: bool = False
    files_only: bool = False
    limit: int | None = None


def search(
    root: Path,
    path: str,
    pattern: str,
    *,
    options: SearchOptions,
    paths: Sequence[str] = (),
    globs: Sequence[str] = (),
) -> list[SearchHit]:
    """Return matches ordered by path, then line; binary files are skipped.

    Raises:
        PathProblem: A path is missing or leaves the directory.
        BadPattern: The pattern is no regular expression, or has a newline without `multiline`.
    """
    base = require_directory(root, path)
    matcher = _compile(pattern, options)
    hits: list[SearchHit] = []
    for name in _searched(base, paths, globs, options):
        for hit in _search_file(base / name, name, matcher, options):
            hits.append(hit)
            if options.limit is not None and len(hits) >= options.limit:
                return hits
            if options.files_only:
                break
    return hits


class BadPattern(EngineError):
    """A search pattern cannot be used."""


def _compile(pattern: str, options: SearchOptions) -> re.Pattern[bytes]:
    if "\n" in pattern and not options.multiline:
        raise BadPattern("the pattern has a newline: set multiline")
    flags = re.IGNORECASE if options.insensitive else 0
    flags |= re.DOTALL if options.dotall else 0
    flags |= re.MULTILINE
    text = re.escape(pattern) if options.literal else pattern
    try:
        return re.compile(text.encode(), flags)
    except re.error as error:
        raise BadPattern(f"cannot read the pattern `{pattern}`: {error}") from error


def _searched(
    base: Path, paths: Sequence[str], globs: Sequence[str], options: SearchOptions
) -> Iterator[str]:
    from pipeline.engine.actions import Filters
    from pipeline.engine.walk import walk

    matcher = PatternMatcher([g if "/" in g else f"**/{g}" for g in globs]) if globs else None
    wanted = [_inside(base, path) for path in paths]
    for entry in walk(base, Filters(gitignore=options.skip_ignored)):
        hidden = any(part.startswith(".") for part in entry.path.split("/"))
        below = not wanted or any(
            w == "" or entry.path == w or entry.path.startswith(w + "/") for w in wanted
        )
        if entry.kind != "file" or not below or (hidden and options.skip_hidden):
            continue
        if matcher is None or matcher.matches(entry.path):
            yield entry.path


def _inside(base: Path, path: str) -> str:
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise PathProblem(path, "path escapes the directory")
    found = resolve(base, path, follow_last=False)
    if not os.path.lexists(found):
        raise missing(path)
    return "" if found == base else str(found.relative_to(base))


def _search_file(
    here: Path, name: str, matcher: re.Pattern[bytes], options: SearchOptions
) -> Iterator[SearchHit]:
    try:
        data = here.read_bytes()
    except OSError as error:
        raise PathProblem(name, os.strerror(error.errno or errno.EIO)) from error
    if b"\0" in data[:8192]:
        return
    if options.multiline:
        for match in matcher.finditer(data):
            start = data.rfind(b"\n", 0, match.start()) + 1
            end = data.find(b"\n", max(match.end() - 1, match.start()))
            stop = len(data) if end == -1 else end + 1
            number = data.count(b"\n", 0, start) + 1
            yield _hit(name, data[start:stop], [match], number=number, offset=start, start=start)
        return
    offset = 0
    for number, line in enumerate(_lines(data), start=1):
        found = list(matcher.finditer(line.removesuffix(b"\n")))
        if found:
            yield _hit(name, line, found, number=number, offset=offset)
        offset += len(line)


def _hit(
    name: str,
    text: bytes,
    matches: Sequence[re.Match[bytes]],
    *,
    number: int,
    offset: int,
    start: int = 0,  # where `text` begins in what the matches count from
) -> SearchHit:
    return SearchHit(
        path=name,
        line=number,
        offset=offset,
        text=text.decode("utf-8", "replace"),
        parts=tuple(
            (m.group().decode("utf-8", "replace"), m.start() - start, m.end() - start) for m in matches
        ),
    )
