"""Files of commits that are too large for a patch: git would hold them whole, and fails beyond 1 GB."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.errors import PipelineError
from pipeline.scan.secrets.reading import find_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pipeline.scan.secrets.rule import Hit

LIMIT_S: Final = 600.0
LARGE: Final = 8 * 1024 * 1024  # bytes; what is larger is read as a file, not as a patch
GIT: Final = ("git", "-c", f"core.bigFileThreshold={LARGE}")  # such a blob is unpacked bit by bit
CHANGES: Final = ("diff-tree", "--stdin", "-r", "-c", "--root", "--raw", "-z", "--no-renames", "--no-abbrev")
_COMMIT: Final = re.compile(rb"[0-9a-f]{40,64}")
_NOTHING: Final = re.compile(rb"0+")
_FILE: Final = b"100"  # what modes of files begin with: a link is short, a submodule no blob


class HistoryUnreadable(PipelineError):
    """Git does not tell about the commits."""

    def __init__(self, said: str) -> None:
        super().__init__(f"cannot read the commits of the change: git said: {said.strip() or 'nothing'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    """A large file that a commit changed; `blob` is "" when it took the file away."""

    path: str
    blob: str
    size_bytes: int


def ask_git(root: Path, *argv: str, given: bytes = b"") -> bytes:
    """Return what git says to some input.

    Raises:
        HistoryUnreadable: It failed, or took too long.
    """
    try:
        done = subprocess.run(
            [*GIT, *argv], cwd=root, input=given, capture_output=True, timeout=LIMIT_S, check=True
        )
    except subprocess.CalledProcessError as error:
        raise HistoryUnreadable(error.stderr.decode(errors="replace")) from error
    except (subprocess.SubprocessError, OSError) as error:
        raise HistoryUnreadable(str(error)) from error
    return done.stdout


def large_files(root: Path, commits: Sequence[str]) -> dict[str, list[Large]]:
    """The large files that commits changed, by commit; also one that was large before.

    Raises:
        HistoryUnreadable: Git failed.
    """
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    changes = list(parse_changes(ask_git(root, *CHANGES, given=asked).split(b"\0")))
    sizes = _sizes(root, {blob for _, _, *blobs in changes for blob in blobs if blob})
    found: dict[str, list[Large]] = {}
    for commit, path, *blobs in changes:
        if max(sizes.get(blob, 0) for blob in blobs) > LARGE:
            one = Large(path=path, blob=blobs[-1], size_bytes=sizes.get(blobs[-1], 0))
            found.setdefault(commit, []).append(one)
    return found


def parse_changes(fields: Iterable[bytes]) -> Iterator[tuple[str, ...]]:
    """Commit, path, blobs before (one for each parent) and after, from what `git diff-tree -c -z` printed."""
    commit = ""
    blobs: list[str] = []
    for field in fields:
        if blobs:
            if any(blobs):
                yield commit, os.fsdecode(field), *blobs
            blobs = []
        elif field.startswith(b":"):
            told = field.lstrip(b":").split(b" ")
            sides = len(field) - len(field.lstrip(b":")) + 1
            blobs = [_blob(mode, name) for mode, name in zip(told, told[sides:-1], strict=False)]
        elif _COMMIT.fullmatch(field.strip()):
            commit = field.strip().decode()


def _blob(mode: bytes, name: bytes) -> str:
    return name.decode() if mode.startswith(_FILE) and not _NOTHING.fullmatch(name) else ""


def _sizes(root: Path, blobs: set[str]) -> dict[str, int]:
    asked = "".join(f"{blob}\n" for blob in sorted(blobs)).encode()
    told = ask_git(root, "cat-file", "--batch-check=%(objectname) %(objectsize)", given=asked)
    rows = (line.split() for line in told.decode().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def find_in_blob(root: Path, one: Large) -> list[Hit]:
    """Every secret in as much of a file as is read of any, whatever its size; git is stopped after that.

    Raises:
        HistoryUnreadable: Git could not be run.
    """
    argv = [*GIT, "cat-file", "blob", one.blob]
    try:
        with subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as git:
            if git.stdout is None:
                return []
            hits = find_in(git.stdout, one.path)
            git.kill()
            return hits
    except OSError as error:
        raise HistoryUnreadable(str(error)) from error
