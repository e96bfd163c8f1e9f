"""Shows what a command writes as texts of whole lines; of very much the beginning and the end.

Whoever listens may be slower than a command that writes without pause: what is shown is bounded, what is kept
of the output is not.
"""

from __future__ import annotations

import codecs
import time
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN_BYTES: Final = 8 << 20
"""How much of one stream is shown as it comes."""

LAST_BYTES: Final = 1 << 16
"""How much of the end is shown when there was more."""

_LINE_BYTES: Final = 1 << 16
_TELL_EVERY_S: Final = 10.0

Name = Literal["stdout", "stderr"]


class Lines:
    """Cuts a stream into texts of whole lines; a line longer than 64 KiB comes in parts.

    After `SHOWN_BYTES` only a count of what is left out is shown, every ten seconds, and at the end the last
    `LAST_BYTES`.
    """

    def __init__(self, name: Name, show: Callable[[Name, str], None]) -> None:
        self._name: Name = name
        self._show = show
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._left = SHOWN_BYTES
        self._omitted = 0
        self._last = bytearray()
        self._told = 0.0

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Take a piece and show the lines it completes."""
        if self._left <= 0:
            self._omit(data, final=final)
            return
        self._left -= len(data)
        is_whole = final or self._left <= 0
        text = self._pending + self._decoder.decode(data, final)
        end = len(text) if is_whole or len(text) > _LINE_BYTES else text.rfind("\n") + 1
        self._pending = text[end:]
        if end:
            self._show(self._name, text[:end])

    def _omit(self, data: bytes, *, final: bool) -> None:
        self._omitted += len(data)
        self._last += data[-LAST_BYTES:]
        del self._last[:-LAST_BYTES]
        now = time.monotonic()
        if final:
            last = self._last.decode("utf-8", "replace")
            cut = self._omitted - len(self._last)
            self._show(self._name, (f"\n[{cut} bytes are left out here]\n" if cut else "") + last)
        elif now - self._told > _TELL_EVERY_S:
            self._told = now
            self._show(self._name, f"\n[{self._omitted} bytes are left out so far]\n")
