"""The order of Debian versions: epoch, upstream, revision; `~` before everything, even the end."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from pipeline.scan.advisories.orders.bad import BadVersion

Key: TypeAlias = tuple[Any, ...]

_VERSION: Final = re.compile(r"(?:(\d+):)?([0-9A-Za-z.+~:-]+?)(?:-([0-9A-Za-z.+~]+))?", re.ASCII)
_PARTS: Final = re.compile(r"(\D*)(\d*)")
_END: Final = 0


def key(text: str) -> Key:
    """Epoch, upstream version and revision, each as dpkg compares it.

    Letters sort before other signs, and a missing revision is the same as `0`.
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None or len(text) > 1000:
        raise BadVersion(text, "dpkg")
    epoch, upstream, revision = found.groups()
    return (int(epoch or 0), _part(_ranks(upstream)), _part(_ranks(revision or "")))


def _ranks(text: str) -> list[int]:
    """Words and numbers in turn, as numbers: each word ends with the end's rank, which only `~` is below."""
    ranks: list[int] = []
    for word, number in _PARTS.findall(text):
        ranks += [*map(_rank, word), _END, int(number or 0)]
    return ranks


def compare(left: list[int], right: list[int]) -> int:
    """Compare two parts rank by rank: below, equal or above 0; what is missing is as the end and as zero."""
    for mine, other in zip_longest(left, right, fillvalue=_END):
        if mine != other:
            return -1 if mine < other else 1
    return 0


_part: Final = cmp_to_key(compare)


def _rank(sign: str) -> int:
    if sign == "~":
        return -1
    return ord(sign) if sign.isalpha() else ord(sign) + 256
