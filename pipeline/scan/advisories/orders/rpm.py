"""The order of RPM versions: epoch, version, release; `~` before the end, `^` right after it."""

from __future__ import annotations

import re
from functools import cmp_to_key
from typing import Any, Final

from pipeline.scan.advisories.orders.bad import BadVersion

_EVR: Final = re.compile(r"(?:(\d+):)?([^:\s-]+)(?:-([^:\s-]+))?", re.ASCII)
_SEGMENT: Final = re.compile(r"[~^]|\d+|[A-Za-z]+", re.ASCII)


def key(text: str) -> Any:
    """Epoch (0 where it is missing), version, and release; one without a release sorts before those with."""
    found = _EVR.fullmatch(text.strip())
    if found is None or len(text) > 1000:
        raise BadVersion(text, "rpm")
    epoch, version, release = found.groups()
    return (int(epoch or 0), _part(version), release is not None, _part(release or ""))


def compare(left: str, right: str) -> int:
    """Compare two versions or two releases as `rpmvercmp` does: below, equal or above 0."""
    if left == right:
        return 0
    ours, theirs = _SEGMENT.findall(left), _SEGMENT.findall(right)
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other and (order := _compare_segments(mine, other)):
            return order
    if len(ours) == len(theirs):
        return 0
    if len(ours) > len(theirs):
        return -1 if ours[len(theirs)] == "~" else 1
    return 1 if theirs[len(ours)] == "~" else -1


def _compare_segments(mine: str, other: str) -> int:
    """Compare two segments that differ as text."""
    for sign, order in (("~", -1), ("^", -1)):
        if mine == sign or other == sign:
            return order if mine == sign else -order
    if mine.isdigit() != other.isdigit():
        return 1 if mine.isdigit() else -1
    if mine.isdigit():
        return (int(mine) > int(other)) - (int(mine) < int(other))
    return (mine > other) - (mine < other)


_part: Final = cmp_to_key(compare)
