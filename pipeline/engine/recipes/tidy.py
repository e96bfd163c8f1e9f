"""Making a built tree the same each time: what no image needs is dropped, times are bounded.

Reads one tar and writes another, piece by piece; it also reads what packages the tree is made of.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import ReadableBuffer

AVAILABLE: Final = ".available-packages"
"""File at the tree's root where a hook leaves apt's signed index, for `tidy` to read and drop."""

_STATUS: Final = "var/lib/dpkg/status"
_DROPPED: Final = re.compile(
    r"dev/.+|proc/.+|sys/.+|run/.+|tmp/.+|var/log/.+|var/cache/(?:apt|debconf|ldconfig|man)/.+"
    r"|var/lib/apt/(?:lists|mirrors|periodic)/.+|var/lib/dpkg/.*-old|var/lib/dpkg/lock.*"
    r"|etc/(?:passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|root/\.\S+_history"
    r"|etc/(?:machine-id|hostname|resolv\.conf)|var/lib/dbus/machine-id|\.available-packages"
)
_KEPT: Final = frozenset(
    {"var/cache/apt/archives", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed package; `sha256` is the signed digest of its archive, "" when the index lacks it."""

    name: str
    version: str
    architecture: str
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidied:
    """What a tidied tree is."""

    diff_id: Digest
    size_bytes: int
    packages: tuple[Package, ...]  # by name


def cached_name(package: Package) -> str:
    """Return the name apt keeps a package's archive under."""
    return f"{package.name}_{package.version.replace(':', '%3a')}_{package.architecture}.deb"


def tidy(source: Path, write: Callable[[bytes], object], *, epoch_s: int) -> Tidied:
    """Copy the tar `source` through `write`, tidied; later times become `epoch_s`.

    Raises:
        OSError: `source` cannot be read.
        tarfile.TarError: It is not a tar archive.
    """
    status = available = ""
    sink = _Sink(write)
    with (
        tarfile.open(source, "r:") as before,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as after,
    ):
        for member in before:
            name = member.name.removeprefix("./")
            if name == _STATUS:
                status = _text(before, member)
            if name == AVAILABLE:
                available = _text(before, member)
            if name in ("", ".") or (_DROPPED.fullmatch(name) and name not in _KEPT):
                continue
            data = before.extractfile(member) if member.isreg() else None
            after.addfile(_plain(member, name, epoch_s), data)
    return Tidied(
        diff_id=Digest("sha256:" + sink.sha256.hexdigest()),
        size_bytes=sink.size_bytes,
        packages=_with_digests(parse_packages(status), available),
    )


def parse_packages(status: str) -> tuple[Package, ...]:
    """Read the installed packages from the text of dpkg's status file."""
    found = [
        Package(name=fields["Package"], version=fields["Version"], architecture=fields["Architecture"])
        for stanza in status.split("\n\n")
        if (fields := _fields(stanza)).get("Status") == "install ok installed"
    ]
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


class _Sink(io.RawIOBase):
    """A file that hashes and counts what is written to it."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self._write = write
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, buffer: ReadableBuffer, /) -> int:
        data = bytes(buffer)
        self.sha256.update(data)
        self.size_bytes += len(data)
        self._write(data)
        return len(data)


def _plain(member: tarfile.TarInfo, name: str, epoch_s: int) -> tarfile.TarInfo:
    """Rid the member of what differs from build to build."""
    if member.islnk():
        member.linkname = member.linkname.removeprefix("./")
    member.name = name
    member.mtime = min(int(member.mtime), epoch_s)
    member.uname = member.gname = ""
    if name in _KEPT:  # apt's own user has them or not, by how far apt came: it takes them anew when it runs
        member.uid = member.gid = 0
    kept = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")}
    member.pax_headers = kept
    return member


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = archive.extractfile(member)
    return stream.read().decode("utf-8", "replace") if stream is not None else ""


def _with_digests(packages: tuple[Package, ...], available: str) -> tuple[Package, ...]:
    digests: dict[tuple[str, str, str], str] = {}
    for stanza in available.split("\n\n"):
        fields = _fields(stanza)
        if "SHA256" in fields:
            key = (fields["Package"], fields["Version"], fields["Architecture"])
            digests[key] = fields["SHA256"]
    return tuple(
        replace(package, sha256=digests.get((package.name, package.version, package.architecture), ""))
        for package in packages
    )


def _fields(stanza: str) -> dict[str, str]:
    return dict(re.findall(r"^(Package|Version|Architecture|Status|SHA256): (.*)$", stanza, re.MULTILINE))
