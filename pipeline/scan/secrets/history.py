"""The commits of the change: messages, and each line that one added, also when a later one took it away."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tempfile
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from pipeline.scan.scanner import Missed
from pipeline.scan.secrets.large import HistoryUnreadable, ask_git, find_in_blob, large_files
from pipeline.scan.secrets.reading import MOST_BYTES, find_in
from pipeline.scan.secrets.report import COMMITS, SHORT, Located

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pipeline.scan.secrets.rule import Hit

LIMIT_S: Final = 600.0
MOST_COMMITS: Final = 5000  # of one change, the newest; a change of more is a history
MARK: Final = b"\x01commit "
LOG: Final = (
    *("-c", "core.quotePath=false", "-c", "log.showRoot=true", "-c", "log.showSignature=false"),
    *("log", "--stdin", "--no-walk=unsorted", "--patch", "--unified=0", "--cc", "--text", "--no-renames"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-notes", "--src-prefix=a/", "--dst-prefix=b/"),
    "--format=%x01commit %H %as%n%B%x01",
)
_HUNK: Final = re.compile(rb"^@@(@*) .{1,200}?\+(\d+)(?:,\d+)? @@")
MESSAGE: Final = "(commit message)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The commits to look at."""

    commits: tuple[str, ...]
    is_shallow: bool = False  # the clone ends inside the change, or before where it began
    older: int = 0  # commits that are too many


def commits_of(root: Path, base: str) -> Change:
    """The commits between where the branch left `base` and HEAD; without a base, all of them.

    Raises:
        HistoryUnreadable: There is no such commit here, or no git.
    """
    boundary = set(_shallow_commits(root))
    since = base
    if base:
        try:
            since = _git(root, "merge-base", "--end-of-options", base, "HEAD").strip()
        except HistoryUnreadable:
            if not boundary:
                raise
            return Change(commits=(_git(root, "rev-parse", "HEAD").strip(),), is_shallow=True)
    listed = tuple(_git(root, "rev-list", "HEAD", *([f"^{since}"] if since else []), "--").split())
    is_cut = bool(boundary) and (not since or not boundary.isdisjoint(listed))
    older = max(0, len(listed) - MOST_COMMITS)
    return Change(commits=listed[:MOST_COMMITS], is_shallow=is_cut, older=older)


def _shallow_commits(root: Path) -> list[str]:
    if _git(root, "rev-parse", "--is-shallow-repository").strip() != "true":
        return []
    place = _git(root, "rev-parse", "--git-path", "shallow").strip()
    try:
        with open(os.path.join(root, place), encoding="ascii") as stream:
            return stream.read().split()
    except OSError as error:
        raise HistoryUnreadable(str(error)) from error


def scan_commits(root: Path, commits: Sequence[str]) -> tuple[list[Located], list[Missed]]:
    """Look through what these commits added; of a large file that one changed, through all of it.

    Returns:
        What was found, and the files that were not read whole.

    Raises:
        HistoryUnreadable: Git failed on the way.
    """
    found: list[Located] = []
    missed: list[Missed] = []
    large = large_files(root, commits) if commits else {}
    found += _scan_patches(root, [commit for commit in commits if commit not in large])
    for commit, files in large.items():
        patches = _scan_patches(root, [commit], [one.path for one in files])
        found += patches
        when = _git(root, "show", "-s", "--format=%as", commit).strip()
        for one in files:
            hits = find_in_blob(root, one) if one.blob else []
            found += [_located(hit, one.path, commit, when) for hit in hits]
            if one.size_bytes > MOST_BYTES:
                why = (
                    f"only the first {MOST_BYTES // 1024**2} of its {one.size_bytes // 1024**2} MB were read"
                )
                missed.append(Missed(what=f"{one.path} in commit {commit[:SHORT]}", why=why))
    return found, missed


def _scan_patches(root: Path, commits: Sequence[str], without: Sequence[str] = ()) -> list[Located]:
    return [
        _located(replace(hit, line=added.line_of(hit.line)), added.path, added.commit, added.when)
        for added in _added(root, commits, without)
        for hit in find_in(io.BytesIO(b"".join(added.lines)), added.path)
    ]


def _located(hit: Hit, path: str, commit: str, when: str) -> Located:
    return Located(hit=hit, path=path, commit=commit, when=when, scanner=COMMITS)


@dataclass(slots=True, kw_only=True)
class Added:
    """What one commit added to one file; filled while the patch is read."""

    commit: str
    path: str
    when: str = ""  # the author's day
    lines: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # of `lines` at which hunks begin, from 1
    numbers: list[int] = field(default_factory=list)  # and their numbers in the file

    def line_of(self, line: int) -> int:
        """The number in the file of a line of the text; 0 where it is not known."""
        index = bisect_right(self.starts, line) - 1
        return self.numbers[index] + line - self.starts[index] if line and index >= 0 else 0

    def if_any(self) -> Iterator[Added]:
        """This, unless nothing was added."""
        if self.lines:
            yield self


def _added(root: Path, commits: Sequence[str], without: Sequence[str]) -> Iterator[Added]:
    if not commits:
        return
    # Without `--sparse`, a commit that changed nothing else would be left out, and its message with it.
    paths = (
        ["--sparse", "--", ":(top)", *(f":(top,exclude,literal){path}" for path in without)]
        if without
        else []
    )
    with tempfile.TemporaryFile() as patch:
        asked = "".join(f"{commit}\n" for commit in commits).encode()
        argv = ["git", *LOG, *paths]
        try:
            subprocess.run(
                argv, cwd=root, input=asked, stdout=patch, stderr=subprocess.PIPE, timeout=LIMIT_S, check=True
            )
        except subprocess.CalledProcessError as error:
            raise HistoryUnreadable(error.stderr.decode(errors="replace")) from error
        except (subprocess.SubprocessError, OSError) as error:
            raise HistoryUnreadable(str(error)) from error
        patch.seek(0)
        yield from parse_patches(patch)


def parse_patches(patch: Iterable[bytes]) -> Iterator[Added]:
    """What each commit added, from what `git log` printed; a commit's message comes first."""
    one = Added(commit="", path="")
    parents = 1
    where: Literal["message", "head", "lines"] = "head"
    for line in patch:
        if line.startswith(MARK):
            yield from one.if_any()
            commit, _, when = line[len(MARK) :].strip().decode().partition(" ")
            one = Added(commit=commit, path=MESSAGE, when=when)
            where = "message"
        elif where == "message":
            if line.startswith(b"\x01"):
                where = "head"
            else:
                one.lines.append(line)
        elif line.startswith(b"diff --"):
            yield from one.if_any()
            one, where = Added(commit=one.commit, path="", when=one.when), "head"
        elif where == "head" and line.startswith(b"+++ "):
            one.path = _name(line[4:])
        elif hunk := _HUNK.match(line):
            where, parents = "lines", max(1, len(hunk[1]))
            one.starts.append(len(one.lines) + 1)
            one.numbers.append(int(hunk[2]))
        elif where == "lines" and b"+" in line[:parents] and b"-" not in line[:parents]:
            one.lines.append(line[parents:])
    yield from one.if_any()


def _name(field: bytes) -> str:
    text = field.rstrip(b"\t\r\n")
    if text.startswith(b'"') and text.endswith(b'"'):  # git quotes names with quotes and control characters
        text = text[1:-1].decode("unicode_escape", "surrogateescape").encode("latin-1", "replace")
    return os.fsdecode(text.removeprefix(b"b/"))


def _git(root: Path, *argv: str) -> str:
    return ask_git(root, *argv).decode(errors="replace")
