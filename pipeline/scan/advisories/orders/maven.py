"""The order of Maven's versions: nested lists of numbers and qualifiers, as `ComparableVersion` has it."""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final, TypeAlias, Union

from pipeline.scan.advisories.orders.bad import BadVersion

Item: TypeAlias = Union[int, str, "list[Item]"]

_QUALIFIERS: Final = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
_RELEASE: Final = _QUALIFIERS.index("")
_ALIASES: Final = {"ga": "", "final": "", "release": "", "cr": "rc"}
_BEFORE_DIGIT: Final = {"a": "alpha", "b": "beta", "m": "milestone"}
_PART: Final = re.compile(r"(\d+)|([^\d.-]+)|([.-])", re.ASCII)


def key(text: str) -> Any:
    """A version as Maven compares it."""
    if not text.strip() or len(text) > 1000 or re.search(r"[\s$\[\](),]", text.strip()):
        raise BadVersion(text, "Maven")
    return _key(parse(text.strip()))


def parse(text: str) -> list[Item]:
    """Read a version as numbers, qualifiers and lists; a list begins at `-` and where digits meet letters."""
    items: list[Item] = []
    stack = [items]

    def deeper() -> None:
        fresh: list[Item] = []
        stack[-1].append(fresh)
        stack.append(fresh)

    before = "."
    parts = [one.group() for one in _PART.finditer(text.lower())]
    for at, part in enumerate(parts):
        if part in ".-":
            if before in ".-":
                stack[-1].append(0)
            if part == "-":
                deeper()
        elif part.isdigit():
            if before not in ".-":
                deeper()
            stack[-1].append(int(part))
        else:
            follows = parts[at + 1] if at + 1 < len(parts) else "end"
            # `.rc` is as `-rc`, but for one that `.` or `-` follows.
            if before.isdigit() or (follows not in ".-" and stack[-1]):
                deeper()
            stack[-1].append(_qualifier(part, before_digit=follows.isdigit()))
        before = part
    for one in reversed(stack):
        _normalize(one)
    return items


def _qualifier(text: str, *, before_digit: bool) -> str:
    if before_digit and text in _BEFORE_DIGIT:
        return _BEFORE_DIGIT[text]
    return _ALIASES.get(text, text)


def _normalize(items: list[Item]) -> None:
    """Drop what says nothing, from the end to the first number or word that says something."""
    for at in range(len(items) - 1, -1, -1):
        if items[at] in (0, "", []):
            del items[at]
        elif not isinstance(items[at], list):
            break


def compare(left: Item | None, right: Item | None) -> int:
    """Compare two items, either of which may be missing: below, equal or above 0."""
    if left is None or right is None:
        if left is None:
            return 0 if right is None else -_compare_to_nothing(right)
        return _compare_to_nothing(left)
    if isinstance(left, list) and isinstance(right, list):
        return next((order for pair in zip_longest(left, right) if (order := compare(*pair))), 0)
    if isinstance(left, str) and isinstance(right, str):
        mine, other = _rank(left), _rank(right)
        return (mine > other) - (mine < other)
    if isinstance(left, int) and isinstance(right, int):
        return (left > right) - (left < right)
    return _kind(left) - _kind(right)


def _kind(item: Item) -> int:
    """A qualifier is below a list, a list below a number."""
    return 2 if isinstance(item, int) else 0 if isinstance(item, str) else 1


def _compare_to_nothing(item: Item) -> int:
    if isinstance(item, list):
        return next((order for one in item if (order := _compare_to_nothing(one))), 0)
    if isinstance(item, str):
        mine, release = _rank(item), (_RELEASE, "")
        return (mine > release) - (mine < release)
    return 1 if item else 0


def _rank(word: str) -> tuple[int, str]:
    """Known qualifiers in their order, then all others by the alphabet."""
    return (_QUALIFIERS.index(word), "") if word in _QUALIFIERS else (len(_QUALIFIERS), word)


_key: Final = cmp_to_key(compare)
