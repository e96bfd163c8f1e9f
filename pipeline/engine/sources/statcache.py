"""What is remembered of a host directory between sessions: which file had which content when.

A file whose size, times, inode, device and mode are as before has the content it had. What was modified
less than two seconds before it was looked at is not remembered: it may change again within one tick
of the clock. Whatever is lost or damaged means reading again, never an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.digest import Digest, digest_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline.engine.ops import Filters
    from pipeline.engine.sources.importing import ImportedTree
    from pipeline.engine.walk import WalkEntry

Stamp = tuple[int, int, int, int, int, int]
"""Size, mtime and ctime in nanoseconds, inode, device, mode."""

_MARGIN_NS: Final = 2_000_000_000
_MOST_PLACES: Final = 256


def stamp(info: os.stat_result) -> Stamp:
    """Return what tells two states of a file apart."""
    return (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev, info.st_mode)


def fingerprint(found: Iterable[WalkEntry]) -> str:
    """Hash the names and stamps of a walk, in its order."""
    lines = [
        f"{path}\0{i.st_mode} {i.st_size} {i.st_mtime_ns} {i.st_ctime_ns} {i.st_ino} {i.st_dev}\0"
        for path, _, i in found
    ]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The last import from a place: its content, and the files that may be trusted."""

    content: Digest | None = None
    files: Mapping[str, tuple[Stamp, str]] = field(default_factory=dict)  # path: stamp, SHA-256

    def find_sha256(self, path: str, info: os.stat_result) -> str | None:
        """Return a file's SHA-256, if it is as it was."""
        known = self.files.get(path)
        return known[1] if known is not None and known[0] == stamp(info) else None


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
        if isinstance(known, list) and len(known) == 2 and known[0] == mark:
            return Digest(str(known[1]))
        return None

    def load(self) -> Remembered:
        """Return what is remembered of the last import."""
        known = _read(self._files)
        try:
            files = {path: (_stamp_of(numbers), str(sha256)) for path, numbers, sha256 in known["files"]}
            return Remembered(content=Digest(str(known["content"])), files=files)
        except (KeyError, TypeError, ValueError):
            return Remembered()

    def save(self, mark: str, imported: ImportedTree, *, began_ns: int) -> None:
        """Remember an import that looked at the disk from `began_ns` on.

        Raises:
            OSError: It cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        limit = began_ns - _MARGIN_NS
        files = [
            [path, stamp(info), sha256]
            for path, info, sha256 in imported.files
            if info.st_mtime_ns < limit and info.st_ctime_ns < limit
        ]
        self._head.unlink(missing_ok=True)
        _write(self._files, {"content": imported.content, "files": files})
        if imported.is_steady and len(files) == len(imported.files):
            _write(self._head, [mark, imported.content])
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


def _stamp_of(numbers: Sequence[Any]) -> Stamp:
    size, mtime, ctime, inode, device, mode = numbers
    return (int(size), int(mtime), int(ctime), int(inode), int(device), int(mode))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _write(path: Path, value: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_text(json.dumps(value, separators=(",", ":")))
    os.rename(temporary, path)
