"""Layers and images made for tests, and ways to look at trees."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.oci.image import add_layer
from pipeline.engine.oci.model import ImageToWrite, LayerBlob

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.engine.store import Snapshot, Store


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return a tar entry: a regular file unless `type` says otherwise."""
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """Return the entry of a directory."""
    return entry(name, b"", **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return the entry of a symbolic link."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """Return the entry of a hard link."""
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return the tar of entries."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def put_layer(store: Store, *entries: tuple[tarfile.TarInfo, bytes]) -> LayerBlob:
    """Keep a gzip layer of entries in the store and describe it."""
    plain = tar(*entries)
    packed = gzip.compress(plain, mtime=0)
    return LayerBlob(
        diff_id=digest_bytes(plain),
        digest=store.blobs.put_bytes(packed),
        size_bytes=len(packed),
        media_type="application/vnd.oci.image.layer.v1.tar+gzip",
    )


def put_snapshot(
    store: Store, *entries: tuple[tarfile.TarInfo, bytes], parent: Snapshot | None = None
) -> Snapshot:
    """Make a snapshot by a layer of entries."""
    layer = put_layer(store, *entries)
    below = parent or store.snapshots.empty
    return add_layer(store, below, store.blobs.path(layer.digest), layer.diff_id, layer.diff_id)


def image(*layers: LayerBlob, platform: str = "linux/amd64", cmd: str = "sh") -> ImageToWrite:
    """Return a small image."""
    config = ImageConfig(env=(("PATH", "/bin"),), cmd=(cmd,), labels=(("made-by", "tests"),))
    return ImageToWrite(config=config, platform=platform, layers=layers)


def listing(root: Path) -> dict[str, str]:
    """Describe everything below `root`: names to type, mode, owner, and content or target."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = _describe(path)
    return dict(sorted(found.items()))


def sha256(path: Path) -> Digest:
    """Return the digest of a file."""
    return Digest("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())


def _describe(path: bytes) -> str:
    info = os.lstat(path)
    text = f"{stat.filemode(info.st_mode)} {info.st_uid}:{info.st_gid}"
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as stream:
            return f"{text} {stream.read().decode('utf-8', 'backslashreplace')}"
    if stat.S_ISLNK(info.st_mode):
        return f"{text} {os.fsdecode(os.readlink(path))}"
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        return f"{text} {os.major(info.st_rdev)},{os.minor(info.st_rdev)}"
    return text
