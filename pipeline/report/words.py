"""How times, sizes and commands are written for people, the same in every view."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Sequence


def duration(seconds: float | None) -> str:
    """Write a duration: "0.3s", "12s", "3m05s", "1h02m"; "" for None."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(size_bytes: int) -> str:
    """Write a size: "512 B", "1.4 MB"."""
    number = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def moment(at: float) -> str:
    """Write a time of day in this machine's zone: "2026-03-01 14:05:09"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def command_line(argv: Sequence[str]) -> str:
    """Write a command as one would type it; of a script of several lines in it only the first words."""
    return shlex.join([word if "\n" not in word.strip() else _first_words(word) for word in argv])


def _first_words(script: str) -> str:
    first = script.strip().splitlines()[0].strip()
    return f"{first[:60]} …"


def counted(counts: dict[str, int]) -> str:
    """Write counts: "1 failed, 3 passed", "2 errors"."""
    nouns = ("error", "timeout")
    return ", ".join(
        some(number, word) if word in nouns else f"{number} {word}" for word, number in counts.items()
    )
