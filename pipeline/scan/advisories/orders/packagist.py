"""The order of Composer's versions: its normal form, compared as PHP's `version_compare` does."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final

from pipeline.scan.advisories.orders.bad import BadVersion

_MODIFIER: Final = r"[._-]?(?:(stable|beta|b|rc|alpha|a|patch|pl|p)((?:[.-]?\d+)*)?)?([.-]?dev)?"
_CLASSIC: Final = re.compile(rf"v?(\d{{1,5}})(\.\d+)?(\.\d+)?(\.\d+)?{_MODIFIER}", re.IGNORECASE | re.ASCII)
_DATE: Final = re.compile(
    rf"v?(\d{{4}}(?:[.:-]?\d{{2}}){{1,6}}(?:[.:-]?\d{{1,3}}){{0,2}}){_MODIFIER}", re.IGNORECASE | re.ASCII
)
_BESIDE: Final = re.compile(r"\s+as\s+.*|@(?:stable|RC|beta|alpha|dev)$|\+\S*$", re.IGNORECASE)
_WORDS: Final = {"b": "beta", "a": "alpha", "p": "patch", "pl": "patch", "rc": "RC"}
_RANKS: Final = {"dev": 0, "alpha": 1, "a": 1, "beta": 2, "b": 2, "RC": 3, "rc": 3, "#": 4, "pl": 5, "p": 5}


def normal(text: str) -> str:
    """Composer's normal form: four numbers, then the stability.

    Raises:
        BadVersion: It is none, or the name of a branch, which has no place in an order.
    """
    if len(text) > 1000:
        raise BadVersion(text, "Packagist")
    bare = _BESIDE.sub("", text.strip())
    if found := _CLASSIC.fullmatch(bare):
        version = "".join(part or ".0" for part in found.group(1, 2, 3, 4))
        stability, number, dev = found.group(5, 6, 7)
    elif found := _DATE.fullmatch(bare):
        version = re.sub(r"\D", ".", found.group(1))
        stability, number, dev = found.group(2, 3, 4)
    else:
        raise BadVersion(text, "Packagist")
    if stability and stability.lower() != "stable":
        word = _WORDS.get(stability.lower(), stability.lower())
        version += f"-{word}" + (number or "").lstrip(".-")
    return version + ("-dev" if dev else "")


def key(text: str) -> Any:
    """A version as Composer compares it."""
    return _key(_parts(normal(text)))


def _parts(text: str) -> list[str]:
    """Split as PHP does: at signs, and between digits and letters."""
    return re.findall(r"\d+|[A-Za-z]+", text)


def compare(left: list[str], right: list[str]) -> int:
    """Compare two versions part by part: below, equal or above 0."""
    for mine, other in zip_longest(left, right):
        if mine is None:
            return 1 if _rank(other) < _RANKS["#"] else -1
        if other is None:
            return -1 if _rank(mine) < _RANKS["#"] else 1
        if mine.isdigit() and other.isdigit():
            order = (int(mine) > int(other)) - (int(mine) < int(other))
        else:
            order = _rank(mine) - _rank(other)
        if order:
            return order
    return 0


def _rank(part: str) -> int:
    """Words PHP does not know are below all; it knows them by how they begin."""
    if part.isdigit():
        return _RANKS["#"]
    return next((rank for word, rank in _RANKS.items() if part.startswith(word)), -1)


_key: Final = cmp_to_key(compare)
