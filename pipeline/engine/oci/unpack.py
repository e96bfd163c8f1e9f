"""Unpacking a layer into an overlay upper directory.

Names in a layer are relative to the image's root, also those that begin with a slash. Where a parent
is a symbolic link of the image, it is followed inside the image, as a container would; a name that climbs
above the root is refused. Only directories made here are ever entered on the disk, so no entry
can reach a file of the host.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from pipeline.engine.oci.compress import open_layer
from pipeline.engine.oci.entries import (
    copy_attributes,
    copy_up,
    device_of,
    is_forbidden,
    parts_of,
    set_xattr,
)
from pipeline.engine.oci.errors import LayerRejected
from pipeline.engine.oci.merged import (
    WHITEOUT_DEVICE,
    directories_below,
    find_below,
    find_entry,
    is_opaque,
    is_whiteout,
    make_opaque,
)
from pipeline.engine.oci.pack import OPAQUE_MARKER, WHITEOUT
from pipeline.engine.tarstream import DEPTH_LIMIT, TarRefused, TarStream, size_limit

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.digest import Digest

_LINK_LIMIT: Final = 40  # as the kernel's
_AUFS_PREFIX: Final = b".wh..wh."
_XATTR_RECORD: Final = "SCHILY.xattr."


def apply_layer(blob: Path, upper: Path, lowers: Sequence[Path], *, limit_bytes: int | None = None) -> Digest:
    """Unpack a layer blob into `upper`, over `lowers` (top first); return its uncompressed digest.

    The caller compares the digest with the one expected, and throws `upper` away when they differ
    or when this raises. Owners, modes, times, extended attributes, devices and hard links (also
    to files in `lowers`, which are copied up) are kept; removals become overlay whiteouts. In a user
    namespace, where the kernel lets nobody make them, devices are left out.

    A layer of more than `limit_bytes` is refused; None is what `tarstream.size_limit` allows.

    Raises:
        LayerRejected: The blob is damaged, or an entry climbs out or cannot be made.
        OSError: `upper` cannot be written (no space, no permission).
    """
    if limit_bytes is None:
        limit_bytes = size_limit(os.path.getsize(blob))
    with open_layer(blob) as stream:
        reader = TarStream(stream, limit_bytes=limit_bytes)
        unpacker = _Unpacker(reader=reader, upper=os.fsencode(upper))
        unpacker.begin(tuple(os.fsencode(lower) for lower in lowers))
        try:
            unpacker.run()
            return reader.drain()
        except TarRefused as error:
            raise LayerRejected(error.what, entry=error.entry) from error


@dataclass(slots=True, kw_only=True)
class _Directory:
    """A directory of the image that exists in `upper`; `lowers` show through below it."""

    path: bytes
    lowers: tuple[bytes, ...]


@dataclass(slots=True, kw_only=True)
class _Unpacker:
    reader: TarStream
    upper: bytes
    trail: list[_Directory] = field(default_factory=list)  # the root alone
    entered: dict[bytes, _Directory] = field(default_factory=dict)  # by the parent's name in the layer
    crossed: set[bytes] = field(default_factory=set)  # symbolic links on the way there
    left_out: set[bytes] = field(default_factory=set)  # devices that the kernel forbids us
    times: dict[bytes, int] = field(default_factory=dict)  # of directories, in ns; set when all is there

    def begin(self, lowers: tuple[bytes, ...]) -> None:
        self.trail = [_Directory(path=self.upper, lowers=lowers)]
        if lowers:
            copy_attributes(lowers[0], self.upper)
            self.times[self.upper] = os.lstat(lowers[0]).st_mtime_ns
        else:
            os.chmod(self.upper, 0o755)  # noqa: S103 (what a root directory is)

    def run(self) -> None:
        for info in self.reader.entries():
            try:
                self._entry(info)
            except LayerRejected as error:
                raise LayerRejected(error.what, entry=error.entry or info.name) from error
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}:
                    raise
                raise LayerRejected(os.strerror(error.errno or 0).lower(), entry=info.name) from error
            except (ValueError, OverflowError) as error:  # a time, an owner or a name that no system has
                raise LayerRejected(f"it cannot be made ({error})", entry=info.name) from error
        for path, time_ns in self.times.items():
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)

    # ---- one entry ----

    def _entry(self, info: tarfile.TarInfo) -> None:
        parts = parts_of(os.fsencode(info.name))
        if not parts:
            if not info.isdir():
                raise LayerRejected("the root must be a directory")
            self._attributes(info, self.upper)
            return
        name = parts.pop()
        if name.startswith(WHITEOUT):
            self._removal(name, parts)
            return
        directory = self._enter(parts)
        path = directory.path + b"/" + name
        if path in self.crossed:
            self._forget()
        if info.isdir():
            self._make_directory(directory, name)
        else:
            self._clear(path)
            if is_forbidden(info):
                self.left_out.add(path)
                self._hide(directory, name)  # what it would have replaced
                return
            self._make_file(info, path)
        if not info.islnk():
            self._attributes(info, path)

    def _make_file(self, info: tarfile.TarInfo, path: bytes) -> None:
        if info.isreg():
            self._make_regular(info, path)
        elif info.issym():
            os.symlink(os.fsencode(info.linkname), path)
        elif info.islnk():
            self._make_link(os.fsencode(info.linkname), path)
        elif info.isfifo():
            os.mkfifo(path, 0o600)
        elif info.ischr() or info.isblk():
            kind = stat.S_IFCHR if info.ischr() else stat.S_IFBLK
            os.mknod(path, kind | 0o600, device_of(info))
        else:
            raise LayerRejected(f"entries of type {info.type!r} are unknown")

    def _make_regular(self, info: tarfile.TarInfo, path: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb", buffering=0) as out:
            self.reader.copy(info, cast("BinaryIO", out))

    def _make_directory(self, directory: _Directory, name: bytes) -> None:
        path = directory.path + b"/" + name
        there = find_entry(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            return
        if there is not None:
            os.unlink(path)
        os.mkdir(path, 0o755)
        if there is not None and directories_below(directory.lowers, name):
            make_opaque(path)  # something stood here and hid what is below; it must stay hidden

    def _make_link(self, name: bytes, path: bytes) -> None:
        target = self._link_target(name)
        if target in self.left_out:
            self.left_out.add(path)
        else:
            os.link(target, path, follow_symlinks=False)

    def _link_target(self, name: bytes) -> bytes:
        parts = parts_of(name)
        if not parts:
            raise LayerRejected("it links to the root")
        last = parts.pop()
        directory = self._enter(parts)
        path = directory.path + b"/" + last
        there = find_entry(path)
        if path in self.left_out:
            return path
        if there is None:
            below = find_below(directory.lowers, last)
            if below is None:
                raise LayerRejected(f"it links to `{os.fsdecode(name)}`, which does not exist")
            copy_up(*below, path)
        elif is_whiteout(there):
            raise LayerRejected(f"it links to `{os.fsdecode(name)}`, which was removed")
        return path

    def _removal(self, name: bytes, parts: list[bytes]) -> None:
        if name == OPAQUE_MARKER:
            self._hide_everything(self._enter(parts))
            return
        if name.startswith(_AUFS_PREFIX):
            return  # what aufs kept for itself
        removed = name[len(WHITEOUT) :]
        if removed in (b"", b".", b".."):
            raise LayerRejected("it removes no name")
        self._hide(self._enter(parts), removed)

    def _hide(self, directory: _Directory, name: bytes) -> None:
        """Remove a name from the layers below; what this layer has made there stays."""
        path = directory.path + b"/" + name
        if find_below(directory.lowers, name) is None:
            return
        if path in self.crossed:
            self._forget()
        there = find_entry(path)
        if there is None:
            os.mknod(path, stat.S_IFCHR | 0o600, WHITEOUT_DEVICE)
        elif stat.S_ISDIR(there.st_mode):
            make_opaque(path)
            self._forget()

    def _hide_everything(self, directory: _Directory) -> None:
        if directory.path != self.upper:
            make_opaque(directory.path)
        else:  # overlayfs does not look at the mark on its root
            for lower in directory.lowers:
                for name in os.listdir(lower):
                    self._hide(directory, name)
        self._forget()

    # ---- parents ----

    def _enter(self, parts: list[bytes]) -> _Directory:
        key = b"/".join(parts)
        found = self.entered.get(key)
        if found is None:
            found = self.entered[key] = self._walk(parts)
        return found

    def _walk(self, parts: list[bytes]) -> _Directory:
        trail = list(self.trail)
        queue = list(reversed(parts))
        links = 0
        while queue:
            name = queue.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] if len(trail) > 1 else trail
                continue
            target = self._find_link(trail[-1], name)
            if target is None:
                if len(trail) > DEPTH_LIMIT:
                    raise LayerRejected(f"it is more than {DEPTH_LIMIT} directories deep")
                trail.append(self._step(trail[-1], name))
                continue
            links += 1
            if links > _LINK_LIMIT:
                raise LayerRejected("its parents are symbolic links that lead in a circle")
            if target.startswith(b"/"):
                trail = trail[:1]
            queue.extend(reversed(target.split(b"/")))
        return trail[-1]

    def _find_link(self, directory: _Directory, name: bytes) -> bytes | None:
        path = directory.path + b"/" + name
        there = find_entry(path)
        where = path
        if there is None:
            below = find_below(directory.lowers, name)
            if below is None:
                return None
            there, where = below
        if not stat.S_ISLNK(there.st_mode):
            return None
        self.crossed.add(path)
        return os.readlink(where)

    def _step(self, directory: _Directory, name: bytes) -> _Directory:
        """Go into a directory that is no link; make it in `upper` when it is not there yet."""
        path = directory.path + b"/" + name
        there = find_entry(path)
        below = directories_below(directory.lowers, name)
        if there is not None and not stat.S_ISDIR(there.st_mode):
            if not is_whiteout(there):
                raise LayerRejected(f"its parent `{os.fsdecode(name)}` is no directory")
            os.unlink(path)
            os.mkdir(path, 0o755)
            if below:
                make_opaque(path)
            self.times[path] = 0
            return _Directory(path=path, lowers=())
        if there is None:
            self._make_parent(directory, name, path, below)
            return _Directory(path=path, lowers=below)
        return _Directory(path=path, lowers=() if is_opaque(path) else below)

    def _make_parent(self, directory: _Directory, name: bytes, path: bytes, below: tuple[bytes, ...]) -> None:
        if below:
            os.mkdir(path, 0o700)
            copy_attributes(below[0], path)
            self.times[path] = os.lstat(below[0]).st_mtime_ns
            return
        if find_below(directory.lowers, name) is not None:
            raise LayerRejected(f"its parent `{os.fsdecode(name)}` is no directory")
        os.mkdir(path, 0o755)
        self.times[path] = 0

    # ---- attributes and bookkeeping ----

    def _attributes(self, info: tarfile.TarInfo, path: bytes) -> None:
        os.chown(path, info.uid, info.gid, follow_symlinks=False)
        if not info.issym():
            os.chmod(path, info.mode & 0o7777)  # after the owner, whose change drops set-id bits
        for key, value in info.pax_headers.items():
            if key.startswith(_XATTR_RECORD):
                set_xattr(path, key.removeprefix(_XATTR_RECORD), value)
        time_ns = int(info.mtime) * 1_000_000_000 + int(info.mtime % 1 * 1_000_000_000)
        if info.isdir():
            self.times[path] = time_ns
        else:
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)

    def _clear(self, path: bytes) -> None:
        self.left_out.discard(path)
        there = find_entry(path)
        if there is None:
            return
        if not stat.S_ISDIR(there.st_mode):
            os.unlink(path)
            return
        for folder, _, _ in os.walk(path):  # what is removed, not all there is: a layer may do it for each
            self.times.pop(folder, None)
        shutil.rmtree(path)
        self._forget()

    def _forget(self) -> None:
        self.entered.clear()
        self.crossed.clear()
