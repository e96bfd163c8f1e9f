"""Durations as Go writes them: `1m30s`, `500ms`, `0s`."""

from __future__ import annotations

import re

from pipeline.errors import EngineError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


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
    """Return the text Go prints for a duration of whole milliseconds."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest_ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".")
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
