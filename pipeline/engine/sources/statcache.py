"""What is remembered of a host directory between sessions: which file had which content when.

A file whose size, times, inode, device and mode are as before has the content it had. What was modified
less than two seconds before it was looked at is not remembered: it may change again within one tick
of the clock. Whatever is lost or damaged means reading again, never an error.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pipeline.digest import Digest, digest_json
from pipeline.engine.sources.copying import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline.engine.actions import Filters
    from pipeline.engine.sources.copying import ReadFile, Stamp
    from pipeline.engine.sources.importing import ImportedTree
    from pipeline.engine.walk import Kind, WalkEntry

_KEPT: Final = frozenset({"file", "dir", "symlink"})
_MARGIN_NS: Final = 2_000_000_000
_MOST_PLACES: Final = 256
_CHUNK: Final = 4096
_VERSION: Final = f"host 2 {sys.implementation.cache_tag}\n".encode()


class Seen(NamedTuple):
    """What a walk saw of one file, without what nobody asks for: a tree may have 100,000 of them."""

    path: str
    kind: Kind
    stamp: Stamp
    links: int


def see(entries: Iterable[WalkEntry]) -> list[Seen]:
    """Keep of a walk what the store keeps of a directory: files, directories and links."""
    return [Seen(path, kind, stamp(info), info.st_nlink) for path, kind, info in entries if kind in _KEPT]


def fingerprint(found: Sequence[Seen]) -> str:
    """Hash the names and stamps of a walk, in its order."""
    total = hashlib.sha256()
    for at in range(0, len(found), _CHUNK):
        lines = [f"{path}\0{stamp}\0" for path, _, stamp, _ in found[at : at + _CHUNK]]
        total.update("".join(lines).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The last import from a place: its content, and the files that may be trusted."""

    content: Digest | None = None
    files: Mapping[str, tuple[Stamp, str]] = field(default_factory=dict)  # path: stamp, SHA-256

    def find_sha256(self, seen: Seen) -> str | None:
        """Return a file's SHA-256, if it is as it was."""
        known = self.files.get(seen.path)
        return known[1] if known is not None and known[0] == seen.stamp else None


class StatCache:
    """The memory of all host directories, as files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, root: Path, filters: Filters) -> Place:
        """Return the memory of one directory seen through `filters`."""
        key = digest_json([os.fspath(root), filters.include, filters.exclude, filters.gitignore])
        return Place(self._folder, key.removeprefix("sha256:"))


class Place:
    """The memory of one directory: a short file that is enough when nothing changed, and a long one."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._head = folder / f"{key}.head"
        self._files = folder / f"{key}.files"

    def find_unchanged(self, mark: str) -> Digest | None:
        """Return the content digest of the last import, when the fingerprint is as it was."""
        known = _read(self._head)
        return Digest(known[1]) if known is not None and known[0] == mark else None

    def load(self) -> Remembered:
        """Return what is remembered of the last import."""
        known = _read(self._files)
        if known is None:
            return Remembered()
        content, files = known
        return Remembered(content=Digest(content), files={path: (at, sha256) for path, at, sha256 in files})

    def save(self, mark: str, imported: ImportedTree, *, began_ns: int) -> None:
        """Remember an import that looked at the disk from `began_ns` on.

        Raises:
            OSError: It cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        limit = began_ns - _MARGIN_NS
        files = [file for file in imported.files if _is_settled(file, limit)]
        self._head.unlink(missing_ok=True)
        _write(self._files, (str(imported.content), files))
        if imported.is_steady and len(files) == len(imported.files):
            _write(self._head, (mark, str(imported.content)))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        files = sorted(self._folder.glob("*.files"), key=_modified)
        for file in files[:-_MOST_PLACES]:
            file.unlink(missing_ok=True)
            file.with_suffix(".head").unlink(missing_ok=True)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_settled(file: ReadFile, limit_ns: int) -> bool:
    _size, mtime_ns, ctime_ns, *_ = file[1]
    return mtime_ns < limit_ns and ctime_ns < limit_ns


def _read(path: Path) -> Any:
    """Return what was written there; None when it is missing, damaged or of another version.

    `marshal` takes a tenth of the time of JSON, but only what it wrote itself may be shown to it.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, digest, body = data[: len(_VERSION)], data[len(_VERSION) :][:32], data[len(_VERSION) + 32 :]
    if head != _VERSION or hashlib.sha256(body).digest() != digest:
        return None
    return marshal.loads(body)  # noqa: S302 - the digest says that it is whole


def _write(path: Path, value: Any) -> None:
    body = marshal.dumps(value)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_bytes(_VERSION + hashlib.sha256(body).digest() + body)
    os.rename(temporary, path)
