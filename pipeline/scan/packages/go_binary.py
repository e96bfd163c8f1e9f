"""Modules a Go program was built of, as the linker wrote them into it."""

from __future__ import annotations

import re
from typing import Final, Protocol

from pipeline.scan.packages.package import Package

MAGIC: Final = b"\xff Go buildinf:"
HEAD: Final = 32  # bytes before the two strings
INLINE: Final = 2  # flag of Go 1.18 and later: the strings follow the head
MOST_INFO_BYTES: Final = 1024 * 1024
CHUNK: Final = 1024 * 1024
MARK: Final = 16  # bytes around the modules, which keep them from being found by chance


class Readable(Protocol):
    """What bytes are read from, in order."""

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer at the end."""


def find_build_info(stream: Readable, first: bytes = b"") -> bytes | None:
    """The build information of a program, or None where it has none; reads the stream to where it ends."""
    tail = first
    while True:
        chunk = stream.read(CHUNK)
        buffer = tail + chunk
        at = buffer.find(MAGIC)
        if at >= 0:
            while len(buffer) < at + MOST_INFO_BYTES and (more := stream.read(CHUNK)):
                buffer += more
            return buffer[at : at + MOST_INFO_BYTES]
        if not chunk:
            return None
        tail = buffer[-len(MAGIC) :]


def read_go(path: str, info: bytes) -> list[Package] | None:
    """The modules of build information, with the standard library; None where it is of a form not known."""
    if len(info) < HEAD or not info[len(MAGIC) + 1] & INLINE:
        return None
    version, rest = _string(info, HEAD)
    modules, _ = _string(info, rest)
    told = re.match(r"(?:devel )?go(\d[\w.]*)", version.decode("utf-8", "replace"))
    if told is None:
        return None
    found = [_module(path, "stdlib", told[1])]
    for line in modules[MARK:-MARK].decode("utf-8", "replace").splitlines():
        kind, *fields = line.split("\t")
        if kind == "=>" and len(found) > 1:  # what replaces the module before it
            found.pop()
        if kind in ("dep", "=>") and len(fields) > 1:
            found.append(_module(path, fields[0], fields[1]))
    return found


def _string(info: bytes, at: int) -> tuple[bytes, int]:
    """A string with its length before it, and where it ends."""
    length = shift = 0
    while at < len(info):
        byte = info[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80 or shift > 28:
            break
    return info[at : at + length], at + length


def _module(path: str, name: str, version: str) -> Package:
    private = "built from a folder" if version in ("", "(devel)") else ""
    return Package(name=name, version=version, ecosystem="Go", path=path, private=private, is_installed=True)
