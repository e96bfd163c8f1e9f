"""The order of NuGet's versions: SemVer 2.0 with up to four numbers, and words without case."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pipeline.scan.advisories.orders.bad import BadVersion

Key: TypeAlias = tuple[Any, ...]

_VERSION: Final = re.compile(
    r"v?(\d{1,100})(?:\.(\d{1,100}))?(?:\.(\d{1,100}))?(?:\.(\d{1,100}))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)


def key(text: str) -> Key:
    """A version as NuGet compares it; missing numbers are 0."""
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise BadVersion(text, "NuGet")
    numbers = tuple(int(part or 0) for part in found.group(1, 2, 3, 4))
    label = found.group(5)
    if label is None:
        return (*numbers, 1)
    parts = label.lower().split(".")
    return (*numbers, 0, tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts))
