"""Durations as Go writes them: `1m30s`, `500ms`, `0s`."""

from __future__ import annotations

import re

from pipeline.errors import EngineError

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")


class BadDuration(EngineError):
    """A text is no duration."""

    def __init__(self, text: str) -> None:
        super().__init__(f'time: invalid duration "{text}"')


def parse_duration(text: str) -> float:
    """Return seconds; "" and "0" are 0.

    Raises:
        BadDuration: `text` is not a sequence of numbers with units.
    """
    if text in ("", "0"):
        return 0.0
    if not re.fullmatch(rf"({_PART.pattern})+", text):
        raise BadDuration(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


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
