"""Times as advisories write them, and how old data are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

DAY_S = 86400.0


def parse_time(text: str) -> datetime | None:
    """Read an ISO 8601 time, in UTC where it does not say; None where it is none."""
    bare = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        told = datetime.fromisoformat(bare)
    except ValueError:
        return None
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def write_time(time: datetime) -> str:
    """A time as we write it: UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_s(text: str, now: datetime) -> float | None:
    """How old a time is, in seconds; None where the text is no time."""
    told = parse_time(text)
    return (now - told).total_seconds() if told is not None else None


def is_later(left: str, right: str) -> bool:
    """Whether one time is after another; not where either is unknown."""
    ours, theirs = parse_time(left), parse_time(right)
    return ours is not None and theirs is not None and ours > theirs


def newest(times: list[str], now: datetime) -> str:
    """The newest of times that are not in the future by more than a day, which only an error can be."""
    known = [time for text in times if (time := parse_time(text)) is not None]
    past = [time for time in known if time <= now + timedelta(days=1)]
    return write_time(max(past)) if past else ""


def in_days(seconds: float) -> str:
    """A duration in days, as people say it."""
    days = round(seconds / DAY_S)
    return "1 day" if days == 1 else f"{days} days"
