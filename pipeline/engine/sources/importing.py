"""Bringing files of the host into the store: each is read once, hashed and copied on the way.

What did not change since the last import is linked from that snapshot instead of being copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pipeline.engine.sources.statcache import Remembered, stamp
from pipeline.engine.treehash import TreeEntry, digest_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.store import Draft, Store
    from pipeline.engine.walk import WalkEntry

_THREADS: Final = 2
_BATCH: Final = 64
_CHUNK_BYTES: Final = 1 << 20
_CLONE_FROM_BYTES: Final = 1 << 22
_READS: Final = 5  # how often a file that changes while it is read is tried
_FICLONE: Final = 0x40049409

ReadFile = tuple[str, os.stat_result, str]
"""A file that was read: path, status at that time, SHA-256."""


class ImportFailed(Exception):
    """A file cannot be brought in; `path` is the host's."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


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
        self._can_clone = True

    def run(self, found: Sequence[WalkEntry]) -> ImportedTree:
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

    def _find_in_store(self, found: Sequence[WalkEntry]) -> ImportedTree | None:
        """Hash what changed and look whether the store has the tree as it is now."""
        read = self._read_all(found, self._hash)
        imported = self._describe(found, read)
        return imported if self._store.index.find_content(imported.content) is not None else None

    def _fill(self, draft: Draft, found: Sequence[WalkEntry]) -> ImportedTree:
        upper = os.fspath(draft.upper)
        directories = [entry for entry in found if entry.kind == "dir"]
        for entry in directories:
            os.mkdir(os.path.join(upper, entry.path), 0o700)

        def bring(entry: WalkEntry) -> ReadFile | None:
            return self._link(upper, entry) or self._copy(upper, entry)

        hard_links = _HardLinks()
        read = self._read_all(hard_links.firsts(found), bring)
        read += hard_links.link_rest(upper, read)
        links = {entry.path: self._copy_link(upper, entry) for entry in found if entry.kind == "symlink"}
        for entry in reversed(directories):
            target = os.path.join(upper, entry.path)
            os.chmod(target, stat.S_IMODE(entry.stat.st_mode))
            os.utime(target, ns=(entry.stat.st_atime_ns, entry.stat.st_mtime_ns))
        imported = self._describe(found, read, links)
        if self._store.index.find_content(imported.content) is not None:
            self._store.snapshots.discard(draft)
            return imported
        snapshot = self._store.snapshots.commit(draft, identity=imported.content)
        self._store.index.save_content(imported.content, snapshot)
        return imported

    def _read_all(
        self, found: Iterable[WalkEntry], read: Callable[[WalkEntry], ReadFile | None]
    ) -> list[ReadFile]:
        """Call `read` for every file, on two threads; files that are gone are left out."""
        files = [entry for entry in found if entry.kind == "file"]
        batches = [files[at : at + _BATCH] for at in range(0, len(files), _BATCH)]

        def read_batch(batch: list[WalkEntry]) -> list[ReadFile]:
            return [done for entry in batch if (done := read(entry)) is not None]

        if len(batches) < 2:
            return [done for batch in batches for done in read_batch(batch)]
        with ThreadPoolExecutor(_THREADS) as pool:
            return [done for batch in pool.map(read_batch, batches) for done in batch]

    def _hash(self, entry: WalkEntry) -> ReadFile | None:
        known = self._remembered.find_sha256(entry.path, entry.stat)
        if known is not None:
            return entry.path, entry.stat, known
        return self._read_steadily(entry, None)

    def _link(self, upper: str, entry: WalkEntry) -> ReadFile | None:
        """Link an unchanged file from the last import's snapshot; None when that cannot be done."""
        known = self._remembered.find_sha256(entry.path, entry.stat)
        if known is None or self._base is None:
            return None
        kept = os.path.join(self._base, entry.path)
        try:
            info = os.lstat(kept)
            # The snapshot may have come from elsewhere, with the same content and other times.
            same = (info.st_mode, info.st_size, info.st_mtime_ns)
            if same != (entry.stat.st_mode, entry.stat.st_size, entry.stat.st_mtime_ns):
                return None
            os.link(kept, os.path.join(upper, entry.path), follow_symlinks=False)
        except OSError:  # gone, or too many links: copied instead
            return None
        return entry.path, entry.stat, known

    def _copy(self, upper: str, entry: WalkEntry) -> ReadFile | None:
        target = os.path.join(upper, entry.path)
        done = self._read_steadily(entry, target)
        if done is None and os.path.lexists(target):
            os.unlink(target)
        return done

    def _read_steadily(self, entry: WalkEntry, target: str | None) -> ReadFile | None:
        """Read a file until it stayed the same meanwhile; None when it is gone."""
        path = os.path.join(self._root, entry.path)
        for _ in range(_READS):
            try:
                source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ImportFailed(path, (error.strerror or str(error)).lower()) from error
            try:
                before = os.fstat(source)
                if not stat.S_ISREG(before.st_mode):
                    raise ImportFailed(path, "it was replaced while being read")
                sha256 = self._read(source, before, target)
                if stamp(os.fstat(source)) == stamp(before):
                    return entry.path, before, sha256
            finally:
                os.close(source)
        raise ImportFailed(path, "it changes while being read")

    def _read(self, source: int, info: os.stat_result, target: str | None) -> str:
        """Hash a file, and write what was read to `target`."""
        if target is None:
            return _pass_on(source, info.st_size, None)
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if info.st_size >= _CLONE_FROM_BYTES and self._clone(source, sink):
                # The clone is hashed, not the source, which may go on changing.
                with open(target, "rb") as stream:
                    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            else:
                sha256 = _pass_on(source, info.st_size, sink)
            os.fchmod(sink, stat.S_IMODE(info.st_mode))
            os.utime(sink, ns=(info.st_atime_ns, info.st_mtime_ns))
        finally:
            os.close(sink)
        return sha256

    def _clone(self, source: int, sink: int) -> bool:
        """Share the blocks of a large file, where the file system can."""
        if self._can_clone:
            try:
                fcntl.ioctl(sink, _FICLONE, source)
            except OSError:
                self._can_clone = False
        return self._can_clone

    def _copy_link(self, upper: str, entry: WalkEntry) -> str | None:
        try:
            link = os.readlink(os.path.join(self._root, entry.path))
        except FileNotFoundError:
            return None
        target = os.path.join(upper, entry.path)
        os.symlink(link, target)
        os.utime(target, ns=(entry.stat.st_atime_ns, entry.stat.st_mtime_ns), follow_symlinks=False)
        return link

    def _describe(
        self,
        found: Sequence[WalkEntry],
        read: Sequence[ReadFile],
        links: dict[str, str | None] | None = None,
    ) -> ImportedTree:
        """Compute the content digest of what was read."""
        by_path = {path: (info, sha256) for path, info, sha256 in read}
        entries: list[TreeEntry] = []
        is_steady = True
        for path, kind, info in found:
            if kind == "dir":
                entries.append(_entry(path, info, kind="directory"))
            elif kind == "symlink":
                link = self._link_of(path) if links is None else links[path]
                if link is not None:
                    entries.append(_entry(path, info, kind="symlink", link=link))
                is_steady = is_steady and link is not None
            elif path in by_path:
                now, sha256 = by_path[path]
                is_steady = is_steady and stamp(now) == stamp(info)
                entries.append(_entry(path, now, kind="file", sha256=sha256))
            else:
                is_steady = False
        return ImportedTree(content=digest_entries(entries), files=read, is_steady=is_steady)

    def _link_of(self, path: str) -> str | None:
        try:
            return os.readlink(os.path.join(self._root, path))
        except FileNotFoundError:
            return None


class _HardLinks:
    """Files with several names in the tree: the first is brought in, the others are linked to it."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], str] = {}
        self._rest: list[tuple[str, str]] = []

    def firsts(self, found: Iterable[WalkEntry]) -> list[WalkEntry]:
        kept: list[WalkEntry] = []
        for entry in found:
            if entry.kind == "file" and entry.stat.st_nlink > 1:
                first = self._first.setdefault((entry.stat.st_dev, entry.stat.st_ino), entry.path)
                if first != entry.path:
                    self._rest.append((first, entry.path))
                    continue
            kept.append(entry)
        return kept

    def link_rest(self, upper: str, read: Sequence[ReadFile]) -> list[ReadFile]:
        if not self._rest:
            return []
        by_path = {path: (info, sha256) for path, info, sha256 in read}
        linked: list[ReadFile] = []
        for first, path in self._rest:
            if first in by_path:
                os.link(os.path.join(upper, first), os.path.join(upper, path), follow_symlinks=False)
                linked.append((path, *by_path[first]))
        return linked


def _entry(
    path: str,
    info: os.stat_result,
    *,
    kind: Literal["file", "directory", "symlink"],
    sha256: str = "",
    link: str = "",
) -> TreeEntry:
    return TreeEntry(
        path=path, kind=kind, mode=stat.S_IMODE(info.st_mode), uid=0, gid=0, sha256=sha256, link=link
    )


def _pass_on(source: int, size: int, sink: int | None) -> str:
    """Read a file to its end, hash it, and write it to `sink`."""
    data = os.read(source, min(size + 1, _CHUNK_BYTES))
    if len(data) <= size < _CHUNK_BYTES:
        # Most files are small: one read has it all, when the next one says so.
        if sink is not None and data:
            _write(sink, data)
        rest = os.read(source, _CHUNK_BYTES) if len(data) < size else b""
        if not rest:
            return hashlib.sha256(data).hexdigest()
        running = hashlib.sha256(data)
        data = rest
    else:
        running = hashlib.sha256()
    while data:
        running.update(data)
        if sink is not None:
            _write(sink, data)
        data = os.read(source, _CHUNK_BYTES)
    return running.hexdigest()


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
