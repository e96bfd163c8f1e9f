"""Bytes to texts: in pieces of bounded size, whatever the file is, and by its own encoding."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from pipeline.scan.secrets.engine import shared_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.scan.secrets.rule import Hit

PIECE_BYTES: Final = 1024 * 1024
OVERLAP: Final = 16 * 1024  # characters of a piece that the next one begins with: longer than any secret
MOST_HITS: Final = 2000  # in one file; who has more has read enough
MOST_BYTES: Final = 256 * 1024 * 1024  # of one file; what is beyond is told as missed
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Readable(Protocol):
    """What can be read in pieces."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file as text."""

    text: str
    line: int  # of its first character, from 1
    is_binary: bool


def encoding_of(head: bytes) -> str:
    """How a file is encoded, by its first bytes; "latin-1" for what is no text."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" not in head[:8000]:
        return "utf-8"
    if len(head) > 3 and not any(head[1:200:2]):
        return "utf-16-le"
    if len(head) > 3 and not any(head[0:200:2]):
        return "utf-16-be"
    return "latin-1"


def pieces(stream: Readable, *, most_bytes: int = MOST_BYTES) -> Iterator[Piece]:
    """Read a stream as text, piece by piece; pieces overlap, so that a secret is whole in one of them."""
    data = stream.read(PIECE_BYTES)
    name = encoding_of(data)
    decoder = codecs.getincrementaldecoder(name)("replace")
    text, line, done = decoder.decode(data), 1, len(data)
    while data:
        room = min(PIECE_BYTES, most_bytes - done)
        data = stream.read(room) if room > 0 else b""
        done += len(data)
        yield Piece(text, line, name == "latin-1")
        kept = max(0, len(text) - OVERLAP)
        line += text.count("\n", 0, kept)
        text = text[kept:] + decoder.decode(data)


def find_in(stream: Readable, path: str, *, only_forms: bool = False) -> list[Hit]:
    """Every secret in a stream, each once.

    Args:
        path: Says which language it is in.
        only_forms: Leave out what only a name gives away, as in software of others.
    """
    engine = shared_engine()
    found: dict[tuple[str, str, int], Hit] = {}
    for piece in pieces(stream):
        for hit in engine.find(piece.text, path, is_binary=piece.is_binary or only_forms):
            line = 0 if piece.is_binary else hit.line + piece.line - 1
            found.setdefault(
                (hit.rule, hit.value, line), replace(hit, line=line, column=hit.column if line else 0)
            )
        if len(found) >= MOST_HITS:
            break
    return list(found.values())[:MOST_HITS]
