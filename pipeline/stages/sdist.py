"""Source distributions with nothing in them but their content: the same files give the same bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def normalise_sdists(folder: Path, epoch_s: int) -> None:
    """Write every `.tar.gz` of a folder anew, as `normalise_sdist` does."""
    for path in folder.glob("*.tar.gz"):
        normalise_sdist(path, epoch_s)


def normalise_sdist(path: Path, epoch_s: int) -> None:
    """Write a `.tar.gz` anew: members sorted, one time, no owner, no time in its header.

    What builds it puts the time of the build and the user's name in there.

    Raises:
        OSError: It cannot be written.
        tarfile.TarError: It is no archive.
    """
    with tarfile.open(path, "r:gz") as before:
        members = [(one, before.extractfile(one) if one.isreg() else None) for one in before.getmembers()]
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w", format=tarfile.PAX_FORMAT) as after:
            for one, stream in sorted(members, key=lambda member: member[0].name):
                one.mtime, one.uid, one.gid, one.uname, one.gname = epoch_s, 0, 0, "", ""
                one.mode = 0o755 if one.isdir() or one.mode & 0o100 else 0o644
                one.pax_headers = {}
                after.addfile(one, stream)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=epoch_s) as packed:
        packed.write(body.getvalue())


def differing_members(one: Path, other: Path) -> list[str]:
    """The names of what differs inside two archives, sorted; empty where only their order or times do."""
    mine, yours = _members(one), _members(other)
    return sorted(name for name in mine.keys() | yours.keys() if mine.get(name) != yours.get(name))


def _members(path: Path) -> dict[str, bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as packed:
            found = [(one.name, packed.extractfile(one)) for one in packed.getmembers() if one.isreg()]
            return {name: stream.read() for name, stream in found if stream is not None}
    return {path.name: path.read_bytes()}
