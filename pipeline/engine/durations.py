"""Durations as Go writes them: `1m30s`, `500ms`, `0s`."""

from __future__ import annotations

import re
from typing import Final

from pipeline.errors import EngineError

_UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]*)")
_DIGITS: Final = 19  # more do not fit, or are beyond the nanosecond
_SCALE: Final = 10**19
_MOST_NS: Final = 2**63 - 1  # about 292 years; below zero one more


class BadDuration(EngineError):
    """A text is no duration."""

    def __init__(self, text: str, problem: str = "invalid duration") -> None:
        super().__init__(f'time: {problem} "{text}"')


def parse_duration(text: str) -> float:
    """Return seconds, to the nanosecond; "" and "0" are 0, a sign may stand in front.

    Raises:
        BadDuration: `text` is not a sequence of numbers with units, or too long a time.
    """
    parts = text[1:] if text.startswith(("+", "-")) else text
    if text == "" or parts == "0":
        return 0.0
    total_ns = at = 0
    while at < len(parts) or not parts:
        match = _PART.match(parts, at)
        if match is None or not (match[1] or match[2]):
            raise BadDuration(text)
        total_ns += _nanoseconds(text, match[1].lstrip("0"), match[2] or "", match[3])
        at = match.end()
    negative = text.startswith("-")
    if total_ns > _MOST_NS + negative:
        raise BadDuration(text)
    return (-total_ns if negative else total_ns) / 1_000_000_000


def _nanoseconds(text: str, whole: str, fraction: str, unit: str) -> int:
    """Return one number with its unit."""
    if not unit:
        raise BadDuration(text, "missing unit in duration")
    if unit not in _UNITS_NS:
        raise BadDuration(text, f'unknown unit "{unit}" in duration')
    if len(whole) > _DIGITS:
        raise BadDuration(text)
    size_ns = _UNITS_NS[unit]
    digits = fraction[:_DIGITS].ljust(_DIGITS, "0")
    return int(whole or "0") * size_ns + int(digits) * size_ns // _SCALE


def format_duration(seconds: float) -> str:
    """Return the text Go prints for a duration, to the nanosecond."""
    left = round(seconds * 1_000_000_000)
    if left == 0:
        return "0s"
    for unit, size in (("ns", 1_000), ("\u00b5s", 1_000_000), ("ms", 1_000_000_000)):
        if left < size:
            return _decimal(left, size // 1_000) + unit
    minutes, left = divmod(left, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    rest = _decimal(left, 1_000_000_000)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _decimal(count: int, unit: int) -> str:
    whole, part = divmod(count, unit)
    digits = str(part).rjust(len(str(unit)) - 1, "0").rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)
