"""Writing an overlay upper directory as a layer: what changed, in one order, with one meaning of time.

The walk streams: memory grows with the number of hard-linked files and the depth, not with sizes.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.engine.oci import tarformat
from pipeline.engine.oci.compress import BLOCK_BYTES, LayerSink
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.merged import (
    directories_below,
    find_below,
    is_opaque,
    is_whiteout,
    read_xattrs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.engine.oci.compress import Sink
    from pipeline.engine.oci.model import Compression, LayerBlob

REPRODUCIBLE_EPOCH_S: Final = 315_532_800
"""1980-01-01T00:00:00Z: the oldest time that zip archives, and so wheels, can hold."""

WHITEOUT: Final = b".wh."
OPAQUE_MARKER: Final = b".wh..wh..opq"
_KINDS: Final = {
    stat.S_IFREG: tarformat.REGULAR,
    stat.S_IFLNK: tarformat.SYMLINK,
    stat.S_IFCHR: tarformat.CHARACTER_DEVICE,
    stat.S_IFBLK: tarformat.BLOCK_DEVICE,
    stat.S_IFIFO: tarformat.FIFO,
}


def write_layer(
    upper: Path,
    lowers: Sequence[Path],
    out: Sink,
    compression: Compression = "Gzip",
    *,
    epoch_s: int = REPRODUCIBLE_EPOCH_S,
    keep_mtimes: bool = False,
) -> LayerBlob:
    """Write what `upper` changes over `lowers` (top first) to `out`; return the blob's description.

    Equal trees give equal bytes: modification times later than `epoch_s` (seconds) count as that
    moment, unless `keep_mtimes`. A copied-up file that has the size, the time, the attributes and
    the content it had below is no change; nor is a directory with nothing changed in it. Sockets
    are left out.

    Raises:
        LayerRejected: A file's name is one that layers use for removals.
        OSError: Something cannot be read or written.
    """
    sink = LayerSink(out, compression)
    packer = _Packer(sink=sink, latest_s=None if keep_mtimes else epoch_s)
    packer.pack_root(os.fsencode(upper), tuple(os.fsencode(lower) for lower in lowers))
    sink.write(tarformat.END)
    return sink.finish()


@dataclass(slots=True, kw_only=True)
class _Packer:
    sink: LayerSink
    latest_s: int | None
    pending: list[tuple[bytes, bytes, os.stat_result]] = field(default_factory=list)
    links: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def pack_root(self, upper: bytes, lowers: tuple[bytes, ...]) -> None:
        info = os.lstat(upper)
        if _root_differs(info, lowers):
            self._directory(upper, b"./", info)
        self._children(upper, b"", lowers)

    def _children(self, directory: bytes, prefix: bytes, lowers: tuple[bytes, ...]) -> None:
        for name, path, info in _listing(directory):
            if name.startswith(WHITEOUT):
                shown = os.fsdecode(prefix + name)
                raise LayerRejected("its name means a removal in a layer", entry=shown)
            if is_whiteout(info):
                if find_below(lowers, name) is not None:
                    self._marker(prefix + WHITEOUT + name)
            elif stat.S_ISDIR(info.st_mode):
                self._subdirectory(path, prefix + name + b"/", info, directories_below(lowers, name), lowers)
            elif not stat.S_ISSOCK(info.st_mode):
                below = find_below(lowers, name)
                if below is None or not _is_same_file(path, info, *below):
                    self._leaf(path, prefix + name, info)

    def _subdirectory(
        self,
        path: bytes,
        name: bytes,
        info: os.stat_result,
        below: tuple[bytes, ...],
        parent_lowers: tuple[bytes, ...],
    ) -> None:
        # A directory is written when it is new, differs, or something in it is written.
        self.pending.append((path, name, info))
        if not below or _attributes(below[0], os.lstat(below[0])) != _attributes(path, info):
            self._flush()
        if below and is_opaque(path):
            self._marker(name + OPAQUE_MARKER)
            below = ()
        self._children(path, name, below)
        self.pending.pop()

    def _flush(self) -> None:
        if not self.pending or not self.pending[-1][1]:
            return
        for path, name, info in self.pending:
            if name:
                self._directory(path, name, info)
        # Emptied names keep the places that the callers will pop.
        self.pending[:] = [(path, b"", info) for path, _, info in self.pending]

    def _directory(self, path: bytes, name: bytes, info: os.stat_result) -> None:
        self.sink.write(tarformat.encode_header(self._entry(path, name, info, tarformat.DIRECTORY)))

    def _marker(self, name: bytes) -> None:
        self._flush()
        time_s = self.latest_s or 0
        entry = tarformat.Entry(name=name, kind=tarformat.REGULAR, mode=0, mtime_s=time_s)
        self.sink.write(tarformat.encode_header(entry))

    def _leaf(self, path: bytes, name: bytes, info: os.stat_result) -> None:
        self._flush()
        if info.st_nlink > 1:
            first = self.links.setdefault((info.st_dev, info.st_ino), name)
            if first != name:
                entry = self._entry(path, name, info, tarformat.HARDLINK, link=first)
                self.sink.write(tarformat.encode_header(entry))
                return
        kind = _KINDS[stat.S_IFMT(info.st_mode)]
        link = os.readlink(path) if kind == tarformat.SYMLINK else b""
        self.sink.write(tarformat.encode_header(self._entry(path, name, info, kind, link=link)))
        if kind == tarformat.REGULAR:
            self._content(path, name, info.st_size)

    def _content(self, path: bytes, name: bytes, size: int) -> None:
        left = size
        with open(path, "rb", buffering=0) as stream:
            while left and (data := stream.read(min(left, BLOCK_BYTES))):
                self.sink.write(data)
                left -= len(data)
        if left:
            raise LayerRejected("it became shorter while it was read", entry=os.fsdecode(name))
        self.sink.write(tarformat.padding(size))

    def _entry(
        self, path: bytes, name: bytes, info: os.stat_result, kind: bytes, link: bytes = b""
    ) -> tarformat.Entry:
        time_s = info.st_mtime_ns // 1_000_000_000
        is_device = kind in {tarformat.CHARACTER_DEVICE, tarformat.BLOCK_DEVICE}
        return tarformat.Entry(
            name=name,
            kind=kind,
            mode=stat.S_IMODE(info.st_mode),
            uid=info.st_uid,
            gid=info.st_gid,
            size_bytes=info.st_size if kind == tarformat.REGULAR else 0,
            mtime_s=time_s if self.latest_s is None else min(time_s, self.latest_s),
            link=link,
            device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if is_device else (0, 0),
            xattrs=() if kind == tarformat.HARDLINK else read_xattrs(path),
        )


def _listing(directory: bytes) -> list[tuple[bytes, bytes, os.stat_result]]:
    """Return the entries of a directory, in the order of the names that they get in the layer."""
    with os.scandir(directory) as entries:
        found = [(each.name, each.path, each.stat(follow_symlinks=False)) for each in entries]
    return sorted(found, key=lambda item: WHITEOUT + item[0] if is_whiteout(item[2]) else item[0])


def _root_differs(info: os.stat_result, lowers: Sequence[bytes]) -> bool:
    below = os.lstat(lowers[0]) if lowers else None
    expected = (0o755, 0, 0) if below is None else (stat.S_IMODE(below.st_mode), below.st_uid, below.st_gid)
    return (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) != expected


def _attributes(path: bytes, info: os.stat_result) -> tuple[object, ...]:
    return (info.st_mode, info.st_uid, info.st_gid, read_xattrs(path))


def _is_same_file(path: bytes, info: os.stat_result, below: os.stat_result, below_path: bytes) -> bool:
    same = (info.st_size, info.st_mtime_ns, info.st_rdev) == (below.st_size, below.st_mtime_ns, below.st_rdev)
    # Hard links are kept whole: dropping one name of a group could leave the others without a file.
    if not same or info.st_nlink > 1 or _attributes(path, info) != _attributes(below_path, below):
        return False
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path) == os.readlink(below_path)
    return not stat.S_ISREG(info.st_mode) or _has_same_content(path, below_path)


def _has_same_content(path: bytes, other: bytes) -> bool:
    with open(path, "rb", buffering=0) as left, open(other, "rb", buffering=0) as right:
        while data := left.read(BLOCK_BYTES):
            if data != right.read(BLOCK_BYTES):
                return False
    return True
