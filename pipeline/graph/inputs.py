"""The project's files and their digests, fast: from git where there is one, else by a walk with a memory.

In git only tracked files count, with their content in the working tree. A digest is opaque: equal digests
mean equal content, kind and executable bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UsageError
from pipeline.globs import compile_globs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LFS_POINTER: Final = b"version https://git-lfs.github.com/spec/v1\n"
READ_BYTES = 1 << 20  # of a file at a time
LFS_POINTER_MAX_BYTES: Final = 1024
GIT_LIMIT_S: Final = 60.0
WALK_LEAVES_OUT: Final = frozenset(
    {".git", ".hg", ".svn", ".pipeline", ".venv", "venv", "node_modules", "__pycache__"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".cache"}
)


class GitFailed(UsageError):
    """Git refused to tell about the project's files."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(f"cannot {what}: git said: {said.strip() or 'nothing'}")
        self.said = said


@dataclass(frozen=True, kw_only=True)
class ProjectFiles:
    """Digest of each file by path from the project root (`/` between parts), sorted."""

    digests: Mapping[str, str]
    from_git: bool
    submodules: tuple[str, ...] = ()  # their digest covers commit and changes inside
    lfs_pointers: tuple[str, ...] = ()  # content not fetched: what is digested is the pointer
    _picked: dict[tuple[str, ...] | None, dict[str, str]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def matching(self, globs: Sequence[str] | None) -> dict[str, str]:
        """The files the globs pick, sorted, with their digests; None picks all."""
        asked = None if globs is None else tuple(globs)
        found = self._picked.get(asked)
        if found is None:
            chooser = None if asked is None else compile_globs(asked)
            found = {p: d for p, d in self.digests.items() if chooser is None or chooser(p)}
            self._picked[asked] = found
        return dict(found)


def project_files(root: Path, memory: Path | None = None) -> ProjectFiles:
    """Digest the project's files.

    Args:
        memory: Where digests of files outside git are remembered by size and times; None remembers nothing.

    Raises:
        GitFailed: `root` is in a git work tree and git could not answer.
        OSError: A file cannot be read.
    """
    if _in_git(root):
        found = _from_git(root)
        # A folder that git knows nothing of (say, an ignored one below somebody's repository) is walked.
        if found.digests:
            return found
    return _from_walk(root, memory)


def _in_git(root: Path) -> bool:
    return any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents))


def git(root: Path, *argv: str, what: str) -> bytes:
    """The stdout of a git command at `root`; takes no locks and asks nothing.

    Raises:
        GitFailed: Git is missing, took too long, or ended with an error; its text is kept.
    """
    process = _start_git(root, *argv)
    return _finish_git(process, what)


def _start_git(root: Path, *argv: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.Popen(
            ["git", *argv],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise GitFailed("read the project's files", "there is no git on this machine") from error


def _finish_git(process: subprocess.Popen[bytes], what: str) -> bytes:
    try:
        out, said = process.communicate(timeout=GIT_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise GitFailed(what, f"nothing within {GIT_LIMIT_S:.0f} s") from error
    if process.returncode != 0:
        raise GitFailed(what, said.decode("utf-8", "replace"))
    return out


def _from_git(root: Path) -> ProjectFiles:
    what = "list the project's tracked files"
    # Both at once: each spends most of its time waiting for the disk.
    listing = _start_git(root, "ls-files", "-s", "-z")
    changed = _start_git(root, "diff-files", "--name-only", "-z", "--relative", "--no-ext-diff")
    try:
        entries = _finish_git(listing, what)
    finally:
        differing = _finish_git(changed, what)
    digests: dict[str, str] = {}
    submodules = []
    for entry in os.fsdecode(entries).split("\0")[:-1]:
        head, path = entry.split("\t", 1)
        mode, blob, _stage = head.split(" ")
        digests[path] = f"{mode[-6:]}:{blob}"
        if mode == "160000":
            submodules.append(path)
    for path in os.fsdecode(differing).split("\0")[:-1]:
        now = _worktree_digest(root, path, digests.get(path, ""))
        if now is None:
            digests.pop(path, None)
        else:
            digests[path] = now
    return ProjectFiles(
        digests=dict(sorted(digests.items())),
        from_git=True,
        submodules=tuple(submodules),
        lfs_pointers=_lfs_pointers(root, digests),
    )


def _worktree_digest(root: Path, path: str, known: str) -> str | None:
    """Digest a changed file the way git names blobs, so that a change taken back gives the old digest."""
    full = os.path.join(root, path)
    try:
        found = os.lstat(full)
    except (FileNotFoundError, NotADirectoryError):
        return None
    make = hashlib.sha256 if len(known.partition(":")[2]) == 64 else hashlib.sha1
    if stat.S_ISLNK(found.st_mode):
        target = os.fsencode(os.readlink(full))
        digest = make(b"blob %d\0" % len(target) + target, usedforsecurity=False)
        return f"120000:{digest.hexdigest()}"
    if stat.S_ISDIR(found.st_mode):
        if not os.path.exists(os.path.join(full, ".git")):
            return None
        inside = _from_git(Path(full)).digests
        return f"160000:{known.partition(':')[2]}+{_short_digest(inside)}"
    if not stat.S_ISREG(found.st_mode):
        return None  # git cannot hold it, and reading a pipe would wait for ever
    mode = "100755" if found.st_mode & stat.S_IXUSR else "100644"
    with open(full, "rb") as stream:
        digest = make(b"blob %d\0" % os.fstat(stream.fileno()).st_size, usedforsecurity=False)
        while piece := stream.read(READ_BYTES):
            digest.update(piece)
    return f"{mode}:{digest.hexdigest()}"


def _short_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _lfs_pointers(root: Path, digests: Mapping[str, str]) -> tuple[str, ...]:
    """Files that should hold LFS content and hold only the pointer; looked for where LFS is in use."""
    attributes = [p for p in digests if p == ".gitattributes" or p.endswith("/.gitattributes")]
    if not any(b"filter=lfs" in _head(os.path.join(root, path), 1 << 16) for path in attributes):
        return ()
    return tuple(
        path
        for path in sorted(digests)
        if digests[path].startswith("100") and _is_pointer(os.path.join(root, path))
    )


def _is_pointer(path: str) -> bool:
    try:
        small = os.lstat(path).st_size <= LFS_POINTER_MAX_BYTES
    except FileNotFoundError:
        return False
    return small and _head(path, len(LFS_POINTER)) == LFS_POINTER


def _head(path: str, length: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(length)
    except FileNotFoundError:
        return b""


def _from_walk(root: Path, memory: Path | None) -> ProjectFiles:
    remembered = _load_memory(memory)
    digests: dict[str, str] = {}
    seen: dict[str, list[Any]] = {}
    for path, full, found in sorted(_walk(str(root), "")):
        if stat.S_ISLNK(found.st_mode):
            digests[path] = "120000:" + hashlib.sha256(os.fsencode(os.readlink(full))).hexdigest()
            continue
        # Inode and change time too: a file replaced by one of equal size and restored times still differs.
        mark = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        known = remembered.get(path)
        if known is not None and known[:4] == mark:
            content = known[4]
        else:
            with open(full, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        seen[path] = [*mark, content]
        digests[path] = f"{'100755' if found.st_mode & stat.S_IXUSR else '100644'}:{content}"
    if memory is not None and seen != remembered:
        _save_memory(memory, seen)
    return ProjectFiles(digests=digests, from_git=False)


def _walk(folder: str, prefix: str) -> Iterable[tuple[str, str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in WALK_LEAVES_OUT:
                    yield from _walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield prefix + entry.name, entry.path, entry.stat(follow_symlinks=False)


def _load_memory(memory: Path | None) -> dict[str, list[Any]]:
    if memory is None:
        return {}
    try:
        data = json.loads(memory.read_text("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        return {}  # a lost or damaged memory costs time, nothing else
    well_formed = isinstance(data, dict) and all(isinstance(v, list) and len(v) == 5 for v in data.values())
    return data if well_formed else {}


def _save_memory(memory: Path, seen: Mapping[str, list[Any]]) -> None:
    from pipeline.graph.files import write_atomically

    with contextlib.suppress(OSError):  # where nothing can be written, each run reads the files anew
        write_atomically(memory, json.dumps(seen).encode("utf-8", "surrogatepass"))
