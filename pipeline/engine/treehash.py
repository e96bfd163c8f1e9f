"""The content digest of a file tree: what is in it, not where it came from or when it was written.

Names, types, modes, owners, link targets, device numbers, extended attributes and contents count;
times, hard links, sockets and the root directory itself do not.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Literal

from pipeline.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Kind = Literal["file", "directory", "symlink", "fifo", "char", "block"]

OVERLAY_PREFIXES: Final = ("trusted.overlay.", "user.overlay.")
_KINDS: Final[dict[int, Kind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}
_WHOLE_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One name in a tree; `path` is relative to the root and has no leading or trailing slash."""

    path: str  # undecodable bytes are surrogates, as os.fsdecode makes them
    kind: Kind
    mode: int  # the low 12 bits; ignored for a symlink
    uid: int
    gid: int
    sha256: str = ""  # 64 hexadecimal digits of a file's content
    link: str = ""
    rdev: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()  # sorted by name


def content_digest(root: Path) -> Digest:
    """Hash everything below the directory `root`.

    Raises:
        OSError: Something in it cannot be read.
    """
    return digest_entries(entries(root))


def digest_entries(tree: Iterable[TreeEntry]) -> Digest:
    """Hash a tree whose entries are known already, in any order; directories have entries too."""
    return digest_records((os.fsencode(entry.path), _record_of(entry)) for entry in tree)


def digest_records(records: Iterable[tuple[bytes, bytes]]) -> Digest:
    """Hash a tree from a record of each entry, with its path, in any order."""
    total = hashlib.sha256(b"tree 1\n")
    for _path, text in sorted(records, key=itemgetter(0)):
        total.update(text)
    return Digest("sha256:" + total.hexdigest())


def record(
    kind: Kind,
    mode: int,
    path: bytes,
    *,
    owner: str = "0 0",
    rdev: int = 0,
    sha256: str = "",
    link: bytes = b"",
    xattrs: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """Write one entry so that no two different entries read the same: each text ends in a NUL.

    Args:
        mode: The low 12 bits count, but for a symlink.
        owner: Numbers of user and group.
    """
    bits = 0o777 if kind == "symlink" else mode & 0o7777
    head = f"{kind} {bits:o} {owner} {rdev} {sha256}".encode()
    more = b"".join(b"%b\0%b\0" % (os.fsencode(name), value.hex().encode()) for name, value in xattrs)
    return b"%b\0%b\0%b\0%b\n" % (head, path, link, more)


def entries(root: Path) -> Iterator[TreeEntry]:
    """Yield an entry for everything below `root`, contents hashed, in no promised order."""
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(os.path.join(root, below)) as listing:
            for item in listing:
                entry = entry_of(item.path, f"{below}/{item.name}" if below else item.name)
                if entry is None:
                    continue
                if entry.kind == "directory":
                    pending.append(entry.path)
                yield entry


def entry_of(full: str, path: str, info: os.stat_result | None = None) -> TreeEntry | None:
    """Describe the file at `full` as `path`; None for what no tree keeps (sockets, overlay whiteouts).

    Raises:
        OSError: It cannot be read.
    """
    found = info or os.lstat(full)
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None or (kind == "char" and found.st_rdev == 0):
        return None
    return TreeEntry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        sha256=_hash_file(full, found.st_size) if kind == "file" else "",
        link=os.readlink(full) if kind == "symlink" else "",
        rdev=found.st_rdev if kind in ("char", "block") else 0,
        xattrs=find_xattrs(full),
    )


def find_xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    """Return a file's extended attributes sorted by name, without those of overlay mounts."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # the file system has none
        return ()
    if not names:
        return ()
    return tuple(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in sorted(names)
        if not name.startswith(OVERLAY_PREFIXES)
    )


def _record_of(entry: TreeEntry) -> bytes:
    return record(
        entry.kind,
        entry.mode,
        os.fsencode(entry.path),
        owner=f"{entry.uid} {entry.gid}",
        rdev=entry.rdev,
        sha256=entry.sha256.removeprefix("sha256:"),
        link=os.fsencode(entry.link),
        xattrs=entry.xattrs,
    )


def _hash_file(path: str, size: int) -> str:
    # Small files are most files: unbuffered, one read, and no Python-level stream around them.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if size < _WHOLE_READ_BYTES:
            data = os.read(descriptor, _WHOLE_READ_BYTES + 1)
            if len(data) <= _WHOLE_READ_BYTES:
                return hashlib.sha256(data).hexdigest()
            os.lseek(descriptor, 0, os.SEEK_SET)
        with open(descriptor, "rb", closefd=False) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    finally:
        os.close(descriptor)
