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

from pipeline.errors import PipelineError
from pipeline.scan.secrets.reading import find_in
from pipeline.scan.secrets.report import COMMITS, Located

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

LIMIT_S: Final = 600.0
MOST_COMMITS: Final = 5000  # of one change, the newest; a change of more is a history
MARK: Final = b"\x01commit "
LOG: Final = (
    *("-c", "core.quotePath=false", "-c", "log.showRoot=true", "-c", "log.showSignature=false"),
    *("log", "--stdin", "--no-walk=unsorted", "--patch", "--unified=0", "--cc", "--text", "--no-renames"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-notes", "--src-prefix=a/", "--dst-prefix=b/"),
    "--format=%x01commit %H%n%B%x01",
)
_HUNK: Final = re.compile(rb"^@@(@*) .{1,200}?\+(\d+)(?:,\d+)? @@")
MESSAGE: Final = "(commit message)"


class HistoryUnreadable(PipelineError):
    """Git does not tell about the commits."""

    def __init__(self, said: str) -> None:
        super().__init__(f"cannot read the commits of the change: git said: {said.strip() or 'nothing'}")


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


def scan_commits(root: Path, commits: Sequence[str]) -> list[Located]:
    """Look through what these commits added.

    Raises:
        HistoryUnreadable: Git failed on the way.
    """
    found: list[Located] = []
    for added in _added(root, commits):
        for hit in find_in(io.BytesIO(b"".join(added.lines)), added.path):
            found.append(
                Located(
                    hit=replace(hit, line=added.line_of(hit.line)),
                    path=added.path,
                    commit=added.commit,
                    scanner=COMMITS,
                )
            )
    return found


@dataclass(slots=True, kw_only=True)
class Added:
    """What one commit added to one file; filled while the patch is read."""

    commit: str
    path: str
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


def _added(root: Path, commits: Sequence[str]) -> Iterator[Added]:
    if not commits:
        return
    with tempfile.TemporaryFile() as patch:
        asked = "".join(f"{commit}\n" for commit in commits).encode()
        argv = ["git", *LOG]
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
            one = Added(commit=line[len(MARK) :].strip().decode(), path=MESSAGE)
            where = "message"
        elif where == "message":
            if line.startswith(b"\x01"):
                where = "head"
            else:
                one.lines.append(line)
        elif line.startswith(b"diff --"):
            yield from one.if_any()
            one, where = Added(commit=one.commit, path=""), "head"
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
    try:
        done = subprocess.run(["git", *argv], cwd=root, capture_output=True, timeout=LIMIT_S, check=True)
    except subprocess.CalledProcessError as error:
        raise HistoryUnreadable(error.stderr.decode(errors="replace")) from error
    except (subprocess.SubprocessError, OSError) as error:
        raise HistoryUnreadable(str(error)) from error
    return done.stdout.decode(errors="replace")
