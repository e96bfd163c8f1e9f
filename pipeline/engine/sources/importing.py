"""Bringing files of the host into the store: each is read once, hashed and copied on the way.

What did not change since the last import is linked from that snapshot instead of being copied.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.engine.sources.copying import ImportFailed, ReadFile, Stamp
from pipeline.engine.sources.readers import read_files
from pipeline.engine.treehash import digest_records, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.sources.statcache import Remembered, Seen
    from pipeline.engine.store import Draft, Store

__all__ = ["ImportFailed", "ImportedTree", "TreeImport"]

_BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTree:
    """A tree in the store."""

    content: Digest
    files: Sequence[ReadFile]
    is_steady: bool  # every file was as the walk saw it


class TreeImport:
    """One import of what a walk of `root` found."""

    def __init__(self, store: Store, root: Path, remembered: Remembered) -> None:
        self._store = store
        self._root = os.fspath(root)
        self._remembered = remembered
        base = None if remembered.content is None else store.index.find_content(remembered.content)
        # Only a snapshot that stands alone can be linked from: a file may lie in any of several layers.
        lowers = () if base is None else store.snapshots.lowers(base)
        self._base = os.fspath(lowers[0]) if len(lowers) == 1 else None

    def run(self, found: Sequence[Seen]) -> ImportedTree:
        """Make sure that the tree is in the store.

        Raises:
            ImportFailed: A file cannot be read, or changes all the time.
            OSError: The store cannot be written.
        """
        if self._remembered.files and (known := self._find_in_store(found)) is not None:
            return known
        draft = self._store.snapshots.prepare(self._store.snapshots.empty)
        try:
            return self._fill(draft, found)
        except BaseException:
            self._store.snapshots.discard(draft)
            raise

    def _find_in_store(self, found: Sequence[Seen]) -> ImportedTree | None:
        """Hash what changed and look whether the store has the tree as it is now."""
        read: list[ReadFile] = []
        unknown: list[str] = []
        for seen in found:
            if seen.kind == "file":
                known = self._remembered.find_sha256(seen)
                if known is None:
                    unknown.append(seen.path)
                else:
                    read.append((seen.path, seen.stamp, known))
        imported = self._describe(found, read + read_files(self._root, None, unknown))
        return imported if self._store.index.find_content(imported.content) is not None else None

    def _fill(self, draft: Draft, found: Sequence[Seen]) -> ImportedTree:
        upper = os.fspath(draft.upper)
        directories = [seen for seen in found if seen.kind == "dir"]
        for seen in directories:
            os.mkdir(f"{upper}/{seen.path}", 0o700)
        hard_links = _HardLinks()
        files = hard_links.firsts(found)
        read = [done for seen in files if (done := self._link(upper, seen)) is not None]
        linked = {path for path, _, _ in read}
        read += read_files(self._root, upper, [seen.path for seen in files if seen.path not in linked])
        read += hard_links.link_rest(upper, read)
        links = {seen.path: self._copy_link(upper, seen) for seen in found if seen.kind == "symlink"}
        for seen in reversed(directories):
            target = f"{upper}/{seen.path}"
            os.chmod(target, stat.S_IMODE(_mode(seen.stamp)))
            os.utime(target, ns=_times(seen.stamp))
        imported = self._describe(found, read, links)
        if self._store.index.find_content(imported.content) is not None:
            self._store.snapshots.discard(draft)
            return imported
        size_bytes = sum(_disk_bytes(stamp) for _, stamp, _ in read) + len(directories) * _BLOCK_BYTES
        snapshot = self._store.snapshots.commit(
            draft, identity=imported.content, kind="host directories", size_bytes=size_bytes
        )
        self._store.index.save_content(imported.content, snapshot)
        return imported

    def _link(self, upper: str, seen: Seen) -> ReadFile | None:
        """Link an unchanged file from the last import's snapshot; None when that cannot be done."""
        known = self._remembered.find_sha256(seen)
        if known is None or self._base is None:
            return None
        kept = f"{self._base}/{seen.path}"
        size, mtime_ns, *_, mode = seen.stamp
        try:
            info = os.lstat(kept)
            # The snapshot may have come from elsewhere, with the same content and other times.
            if (info.st_mode, info.st_size, info.st_mtime_ns) != (mode, size, mtime_ns):
                return None
            os.link(kept, f"{upper}/{seen.path}", follow_symlinks=False)
        except OSError:  # gone, or too many links: copied instead
            return None
        return seen.path, seen.stamp, known

    def _copy_link(self, upper: str, seen: Seen) -> str | None:
        link = self._link_of(seen.path)
        if link is not None:
            target = f"{upper}/{seen.path}"
            os.symlink(link, target)
            os.utime(target, ns=_times(seen.stamp), follow_symlinks=False)
        return link

    def _describe(
        self,
        found: Sequence[Seen],
        read: Sequence[ReadFile],
        links: Mapping[str, str | None] | None = None,
    ) -> ImportedTree:
        """Compute the content digest of what was read."""
        by_path = {path: (stamp, sha256) for path, stamp, sha256 in read}
        records: list[tuple[bytes, bytes]] = []
        is_steady = True
        for path, kind, stamp, _links in found:
            raw = os.fsencode(path)
            if kind == "dir":
                records.append((raw, record("directory", _mode(stamp), raw)))
            elif kind == "symlink":
                link = self._link_of(path) if links is None else links[path]
                is_steady = is_steady and link is not None
                if link is not None:
                    records.append((raw, record("symlink", 0, raw, link=os.fsencode(link))))
            elif path in by_path:
                now, sha256 = by_path[path]
                is_steady = is_steady and now == stamp
                records.append((raw, record("file", _mode(now), raw, sha256=sha256)))
            else:
                is_steady = False
        return ImportedTree(content=digest_records(records), files=read, is_steady=is_steady)

    def _link_of(self, path: str) -> str | None:
        try:
            return os.readlink(f"{self._root}/{path}")
        except FileNotFoundError:
            return None


def _mode(stamp: Stamp) -> int:
    return stamp[5]


def _times(stamp: Stamp) -> tuple[int, int]:
    return stamp[1], stamp[1]


def _disk_bytes(stamp: Stamp) -> int:
    return -(-stamp[0] // _BLOCK_BYTES) * _BLOCK_BYTES


class _HardLinks:
    """Files with several names in the tree: the first is brought in, the others are linked to it."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], str] = {}
        self._rest: list[tuple[str, str]] = []

    def firsts(self, found: Iterable[Seen]) -> list[Seen]:
        kept: list[Seen] = []
        for seen in found:
            if seen.kind != "file":
                continue
            if seen.links > 1:
                _size, _mtime, _ctime, inode, device, _mode = seen.stamp
                first = self._first.setdefault((device, inode), seen.path)
                if first != seen.path:
                    self._rest.append((first, seen.path))
                    continue
            kept.append(seen)
        return kept

    def link_rest(self, upper: str, read: Sequence[ReadFile]) -> list[ReadFile]:
        """Make the other names, once the first are there."""
        if not self._rest:
            return []
        by_path = {path: (stamp, sha256) for path, stamp, sha256 in read}
        linked: list[ReadFile] = []
        for first, path in self._rest:
            if first in by_path:
                os.link(f"{upper}/{first}", f"{upper}/{path}", follow_symlinks=False)
                linked.append((path, *by_path[first]))
        return linked
