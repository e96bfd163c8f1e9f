"""The entries of a tar file as a stream, within limits that a hostile one cannot pass.

Nothing is unpacked and no entry is kept. The standard library's reader takes headers of any size into memory
and remembers every entry; this one knows ustar, pax and GNU headers and no more than a container layer needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader

BLOCK: Final = 512
CHUNK: Final = 1024 * 1024
MOST_HEADER_BYTES: Final = 1024 * 1024
EntryKind: TypeAlias = Literal["file", "folder", "link", "symlink", "other"]
KINDS: Final[Mapping[bytes, EntryKind]] = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    b"1": "link",
    b"2": "symlink",
    b"5": "folder",
}


class TarBroken(PipelineError):
    """A tar file cannot be read further."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot read the tar file: {why}")
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; paths are relative, without `.` and empty parts."""

    path: str  # "" is the root; with a part `..` it is as the file has it, and `is_outside`
    kind: EntryKind
    mode: int  # permissions with setuid, setgid and sticky
    uid: int
    size: int  # bytes of content
    target: str = ""  # of a link: a path from the root; of a symbolic one as it is written
    is_outside: bool = False  # its path, or that of its target, leads out of the root


class Body:
    """The content of the entry that was given last; what is not read is passed over."""

    def __init__(self, stream: BufferedReader, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer at the end.

        Raises:
            TarBroken: The file ends before the entry does.
        """
        wanted = min(size, self.left)
        data = self._stream.read(wanted)
        if len(data) < wanted:
            raise TarBroken("it ends in the middle of an entry")
        self.left -= wanted
        return data

    def skip(self) -> None:
        """Pass over the rest."""
        while self.left:
            self.read(min(self.left, CHUNK))


def read_entries(stream: BufferedReader) -> Iterator[tuple[Entry, Body]]:
    """Every entry with its content, in order.

    Raises:
        TarBroken: A header is damaged or too large, or the file ends too early.
    """
    shared: dict[str, str] = {}
    own: dict[str, str] = {}
    while True:
        header = stream.read(BLOCK)
        if not header or header.count(0) == BLOCK:
            return
        if len(header) < BLOCK:
            raise TarBroken("it ends in the middle of a header")
        kind, size = _checked(header)
        if kind in b"xgLK":
            text = _long(stream, size)
            if kind == b"L":
                own["path"] = _text(text)
            elif kind == b"K":
                own["linkpath"] = _text(text)
            else:
                (own if kind == b"x" else shared).update(_pax(text))
            continue
        entry = _entry(header, kind, size, {**shared, **own} if shared else own)
        if kind == b"S":
            _pass_sparse_map(stream, header)
        body = Body(stream, entry.size)
        yield entry, body
        body.skip()
        _skip(stream, -entry.size % BLOCK)
        own = {}


def _checked(header: bytes) -> tuple[bytes, int]:
    """Type and size of a header whose checksum is right."""
    told = _number(header[148:156])
    if sum(header) - sum(header[148:156]) + 8 * 32 != told:
        raise TarBroken("the checksum of a header is wrong")
    size = _number(header[124:136])
    if size < 0:
        raise TarBroken("an entry has a size below nothing")
    return header[156:157], size


def _number(field: bytes) -> int:
    """A number in octal, or in GNU's form for large ones."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if field[0] & 0x40 else value & ~(1 << (bits - 1))
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text, 8) if text else 0
    except ValueError:
        raise TarBroken("a header holds a number that is none") from None


def _long(stream: BufferedReader, size: int) -> bytes:
    if size > MOST_HEADER_BYTES:
        raise TarBroken(f"a header of {size} bytes is larger than is read")
    data = stream.read(size)
    if len(data) < size:
        raise TarBroken("it ends in the middle of a header")
    _skip(stream, -size % BLOCK)
    return data


def _skip(stream: BufferedReader, size: int) -> None:
    if len(stream.read(size)) < size:
        raise TarBroken("it ends in the middle of an entry")


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header: `LENGTH NAME=VALUE`."""
    found = {}
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 20].partition(b" ")
        if not space or not length.isdigit() or int(length) <= len(length) + 1:
            raise TarBroken("an extended header is damaged")
        name, _, value = data[at + len(length) + 1 : at + int(length)].rstrip(b"\n").partition(b"=")
        found[name.decode("utf-8", "replace")] = _text(value)
        at += int(length)
    return found


def _entry(header: bytes, kind: bytes, size: int, told: Mapping[str, str]) -> Entry:
    name = told.get("GNU.sparse.name") or told.get("path") or _name(header)
    target = told.get("linkpath") or _text(header[157:257])
    what: EntryKind = KINDS.get(kind, "other")
    if what == "file" and name.endswith("/"):
        what = "folder"
    if any(key.startswith("GNU.sparse.") for key in told):
        what = "other"  # its content is a map and pieces
    if "size" in told and told["size"].isdigit():
        size = int(told["size"])
    path, is_outside = normal_path(name)
    if what == "link":
        target, leads_out = normal_path(target)
        is_outside = is_outside or leads_out
    has_body = what == "file" or kind not in b"123456"
    return Entry(
        path=path,
        kind=what,
        mode=_number(header[100:108]) & 0o7777,
        uid=_number(header[108:116]),
        size=size if has_body else 0,
        target=target if what in ("link", "symlink") else "",
        is_outside=is_outside,
    )


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    """A name as it can be told: what is no UTF-8, or would steer a terminal, is a mark in it."""
    text = field.split(b"\0", 1)[0].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)


def normal_path(name: str) -> tuple[str, bool]:
    """A path relative to the root without `.` and empty parts, and whether it leads out of it."""
    if not name.startswith(("/", "./")) and "//" not in name and "/." not in name and name[-1:] != "/":
        return name, name == ".." or name.startswith("../")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts), ".." in parts


def _pass_sparse_map(stream: BufferedReader, header: bytes) -> None:
    """Pass over the blocks in which GNU's old form goes on with its map."""
    more = header[482]
    while more:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise TarBroken("it ends in the middle of a header")
        more = block[504]
