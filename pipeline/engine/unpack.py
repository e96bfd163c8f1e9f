"""Unpacking tar archives into a tree, in any usual compression, never outside its root."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final

from pipeline.engine.mounts import is_user_namespace
from pipeline.engine.rootpath import EditFailed, is_directory, make_directories, remove, resolve
from pipeline.engine.tarstream import DEPTH_LIMIT, TarRefused, TarStream, size_limit
from pipeline.engine.treehash import OVERLAY_PREFIXES

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

    from pipeline.engine.tarstream import Source

_XATTR_KEY: Final = "SCHILY.xattr."


def is_archive(path: str) -> bool:
    """Say whether a file is a tar archive, compressed or not."""
    try:
        with _reading(path) as archive:
            next(archive.entries(), None)
    except TarRefused:
        return False
    return True


def unpack(archive_path: str, root: str, path: str, *, owner: tuple[int, int] | None = None) -> None:
    """Unpack into directory `path` of the tree at `root`; entries replace what is in their way.

    Owners are the archive's unless `owner` is given. In a user namespace, where the kernel lets nobody
    make them, devices are left out.

    Raises:
        EditFailed: It is no tar archive, is damaged, or an entry would leave `path`.
        OSError: An entry cannot be written.
    """
    target = resolve(root, path)
    make_directories(target, owner=owner)
    unpacker = _Unpacker(root, target[len(root) :], owner)
    try:
        with _reading(archive_path) as archive:
            for member in archive.entries():
                unpacker.member(archive, member)
    except (TarRefused, ValueError, OverflowError) as error:
        name = os.path.basename(archive_path)
        raise EditFailed("unpack", name, f"not a good tar archive: {error}") from error
    unpacker.finish()


class _Unpacker:
    def __init__(self, root: str, top: str, owner: tuple[int, int] | None) -> None:
        self._root = root
        self._top = top
        self._owner = owner
        self._directories: list[tuple[str, float]] = []
        self._places: dict[str, str] = {}
        self._left_out: set[str] = set()  # devices that the kernel forbids us

    def member(self, archive: TarStream, member: tarfile.TarInfo) -> None:
        name = _inner(member.name)
        if not name:
            return
        target = self._place(name)
        if member.isdir():
            if not is_directory(target):
                remove(target)
                os.mkdir(target, 0o700)
            self._directories.append((target, member.mtime))
        elif member.islnk():
            self._link(self._place(_inner(member.linkname)), target)
            return
        elif (member.ischr() or member.isblk()) and is_user_namespace():
            remove(target)
            self._left_out.add(target)
            return
        else:
            remove(target)
            self._new(archive, member, target)
        self._attributes(member, target)

    def _link(self, first: str, target: str) -> None:
        if first == target:
            return
        remove(target)
        if first in self._left_out and not os.path.lexists(first):
            self._left_out.add(target)
        else:
            os.link(first, target, follow_symlinks=False)

    def finish(self) -> None:
        for target, mtime in reversed(self._directories):
            # A later entry may have put a link in its place, or above it, which could lead anywhere.
            if resolve(self._root, target[len(self._root) :]) != target or not is_directory(target):
                continue
            os.utime(target, (mtime, mtime), follow_symlinks=False)

    def _place(self, name: str) -> str:
        """Return where an entry goes: links above it lead no further than the root, its own is replaced."""
        above, _, last = name.rpartition("/")
        real = self._places.get(above)
        if real is None or not is_directory(real):
            real = resolve(self._root, f"{self._top}/{above}")
            if real.count("/") - self._root.count("/") > DEPTH_LIMIT:
                raise EditFailed("unpack", name, f"it is more than {DEPTH_LIMIT} directories deep")
            make_directories(real)
            self._places[above] = real
        return resolve(self._root, f"{real[len(self._root) :]}/{last}", follow_last=False)

    def _new(self, archive: TarStream, member: tarfile.TarInfo, target: str) -> None:
        self._places.clear()  # a link may take the place of a directory that was resolved before
        if member.issym():
            os.symlink(member.linkname, target)
        elif member.isfifo():
            os.mkfifo(target, 0o600)
        elif member.ischr() or member.isblk():
            kind = 0o020000 if member.ischr() else 0o060000
            os.mknod(target, kind | 0o600, os.makedev(member.devmajor, member.devminor))
        elif member.isreg():
            with open(target, "xb") as stream:
                archive.copy(member, stream)
        else:
            raise EditFailed("unpack", member.name, "an entry of an unknown kind")

    def _attributes(self, member: tarfile.TarInfo, target: str) -> None:
        os.lchown(target, *(self._owner or (member.uid, member.gid)))
        if not member.issym():
            os.chmod(target, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR_KEY)
            if name != key and not name.startswith(OVERLAY_PREFIXES):
                os.setxattr(target, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        os.utime(target, (member.mtime, member.mtime), follow_symlinks=False)


def _inner(name: str) -> str:
    """Return an entry's name relative to the archive's root.

    Raises:
        EditFailed: It leads out of there.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise EditFailed("unpack", name, "the entry leads out of the directory")
    return "/".join(parts)


class _Plain:
    """The archive without its compression; every way a stream can be damaged is one error."""

    def __init__(self, stream: Source, errors: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._errors = errors

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._errors as error:
            raise OSError(str(error)) from error


@contextmanager
def _reading(path: str) -> Iterator[TarStream]:
    with open(path, "rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        plain = _Plain(*_decompressed(raw, magic))
        archive = TarStream(plain, limit_bytes=size_limit(os.path.getsize(path)))
        if not archive.fill():
            raise TarRefused("it is empty")
        yield archive


def _decompressed(raw: BinaryIO, magic: bytes) -> tuple[Source, tuple[type[Exception], ...]]:
    """Return the plain stream and the errors its decoder raises; decoders are loaded when needed."""
    if magic.startswith(b"\x1f\x8b"):
        import gzip
        import zlib

        return gzip.GzipFile(fileobj=raw), (gzip.BadGzipFile, EOFError, zlib.error)
    if magic.startswith(b"BZh"):
        import bz2

        return bz2.BZ2File(raw), (EOFError, OSError)
    if magic == b"\xfd7zXZ\x00":
        import lzma

        return lzma.LZMAFile(raw), (EOFError, lzma.LZMAError)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return reader, (zstandard.ZstdError,)
    return raw, ()
