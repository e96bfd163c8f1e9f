"""The order of Ruby's versions: numbers and words in turn; a word makes a pre-release."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final

from pipeline.scan.advisories.orders.bad import BadVersion

_FORM: Final = re.compile(r"\s*[0-9]+(?:\.[0-9a-zA-Z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\s*", re.ASCII)
_SEGMENT: Final = re.compile(r"[0-9]+|[a-z]+", re.IGNORECASE | re.ASCII)


def key(text: str) -> Any:
    """A version as RubyGems compares it; `-` stands for `.pre.`."""
    if _FORM.fullmatch(text) is None or len(text) > 1000:
        raise BadVersion(text, "RubyGems")
    found = _SEGMENT.findall(text.replace("-", ".pre."))
    segments: list[int | str] = [int(one) if one.isdigit() else one for one in found]
    first = next((at for at, one in enumerate(segments) if isinstance(one, str)), len(segments))
    return _key(_without_zeros(segments[:first]) + _without_zeros(segments[first:]))


def _without_zeros(segments: list[int | str]) -> list[int | str]:
    """Drop the zeros at the end: 1.0 is 1."""
    while segments and segments[-1] == 0:
        segments = segments[:-1]
    return segments


def compare(left: list[int | str], right: list[int | str]) -> int:
    """Compare two versions: below, equal or above 0."""
    for mine, other in zip_longest(left, right, fillvalue=0):
        if mine == other:
            continue
        if isinstance(mine, str) and isinstance(other, str):
            return -1 if mine < other else 1
        if isinstance(mine, int) and isinstance(other, int):
            return -1 if mine < other else 1
        return -1 if isinstance(mine, str) else 1
    return 0


_key: Final = cmp_to_key(compare)
