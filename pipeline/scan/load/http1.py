"""Read HTTP/1.1 responses as they come in: status, end of the body, whether the connection can be used again.

Bodies are counted, never kept. Runs inside containers: standard library only.
"""

from __future__ import annotations

from typing import Final

HEAD_MAX_BYTES: Final = 64 * 1024
LINE_MAX_BYTES: Final = 16 * 1024
_KNOWN_HEADS: Final = 1024
_UNTIL_CLOSE: Final = -1
_CHUNKED: Final = -2


class BadResponse(ValueError):
    """What came in is no HTTP/1.1 response."""


class ResponseReader:
    """Reads one response after another from the bytes of one connection."""

    __slots__ = ("_buffer", "_chunk_left", "_heads", "_is_head", "_left", "keeps_alive", "status")

    def __init__(self, heads: dict[bytes, tuple[int, int, bool]]) -> None:
        # Heads seen before, shared by connections: most servers send the same one for a second.
        self._heads = heads
        self._buffer = b""
        self.begin(is_head=False)

    def begin(self, *, is_head: bool) -> None:
        """Expect the next response; one to HEAD has no body."""
        self._is_head = is_head
        self._left: int | None = None  # bytes of the body to come; None: the head is not read yet
        self._chunk_left = -1  # with chunks: -1 a size line comes, -2 the trailer, else bytes to skip
        self.status = 0
        self.keeps_alive = True

    def feed(self, data: bytes) -> bool:
        """Take bytes in; True when the response is complete.

        Raises:
            BadResponse: It is no HTTP/1.1.
        """
        if self._left is None:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            end = data.find(b"\r\n\r\n")
            while end >= 0:
                self._read_head(data[: end + 4])
                data = data[end + 4 :]
                if self.status >= 200:
                    break
                self._left = None  # 1xx: the real one follows
                end = data.find(b"\r\n\r\n")
            if self._left is None:
                if len(data) > HEAD_MAX_BYTES:
                    raise BadResponse("the head of the response is too long")
                self._buffer = data
                return False
        return self._read_body(data)

    def end(self) -> bool:
        """Take in the end of the connection; True when that completes the response."""
        return self._left == _UNTIL_CLOSE

    @property
    def has_begun(self) -> bool:
        """Whether any byte of the response came in."""
        return self._left is not None or bool(self._buffer)

    def _read_head(self, head: bytes) -> None:
        known = self._heads.get(head)
        if known is None:
            known = parse_head(head)
            if len(self._heads) >= _KNOWN_HEADS:
                self._heads.clear()
            self._heads[head] = known
        self.status, self._left, self.keeps_alive = known
        if self._is_head or self.status in (204, 304):
            self._left = 0
        if self._left == _UNTIL_CLOSE:
            self.keeps_alive = False

    def _read_body(self, data: bytes) -> bool:
        left = self._left
        assert left is not None  # noqa: S101 - the head was read
        if left >= 0:
            left -= len(data)
            if left < 0:
                self.keeps_alive = False  # more than the response came in: nothing to build on
            self._left = max(left, 0)
            return left <= 0
        return left == _CHUNKED and self._read_chunks(data)

    def _read_chunks(self, data: bytes) -> bool:
        data = self._buffer + data
        self._buffer = b""
        while data:
            if self._chunk_left > 0:
                taken = min(self._chunk_left, len(data))
                self._chunk_left -= taken
                data = data[taken:]
                if not self._chunk_left:
                    self._chunk_left = -1
                continue
            line, found, rest = data.partition(b"\r\n")
            if not found:
                if len(data) > LINE_MAX_BYTES:
                    raise BadResponse("a line between chunks is too long")
                self._buffer = data
                return False
            data = rest
            if self._chunk_left == -2:
                if not line:
                    self.keeps_alive = self.keeps_alive and not data
                    return True
                continue  # a trailer
            size = _chunk_size(line)
            self._chunk_left = size + 2 if size else -2  # with the line end after the chunk
        return False


def parse_head(head: bytes) -> tuple[int, int, bool]:
    """Read a response's head: status, bytes of the body (negative: chunked or until the end), keep-alive.

    Raises:
        BadResponse: It is no HTTP/1.1.
    """
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal() or len(rest[:3]) != 3:
        raise BadResponse(f"the status line is {lines[0][:60]!r}")
    keeps_alive = version == "HTTP/1.1"
    length: int | None = None
    is_chunked = False
    for line in lines[1:]:
        name, found, value = line.partition(":")
        if not found:
            continue
        name, value = name.lower(), value.strip().lower()
        if name == "content-length":
            if not value.isdecimal() or (length is not None and length != int(value)):
                raise BadResponse(f"the length of the body is {value[:40]!r}")
            length = int(value)
        elif name == "transfer-encoding":
            is_chunked = value.endswith("chunked")
        elif name == "connection":
            words = {word.strip() for word in value.split(",")}
            keeps_alive = "close" not in words and (keeps_alive or "keep-alive" in words)
    left = _CHUNKED if is_chunked else _UNTIL_CLOSE if length is None else length
    return int(rest[:3]), left, keeps_alive


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    try:
        if not digits or not digits.isalnum():
            raise ValueError(digits)
        return int(digits, 16)
    except ValueError as error:
        raise BadResponse(f"the size of a chunk is {line[:40]!r}") from error
