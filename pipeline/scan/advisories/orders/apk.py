"""The order of Alpine's versions, as apk-tools 3 has it.

`digit{.digit}{letter}{_suffix{number}}{~hash}{-r#}`
"""

from __future__ import annotations

import re
from functools import cmp_to_key
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from pipeline.scan.advisories.orders.bad import BadVersion

Token: TypeAlias = tuple[int, str]

_FORM: Final = re.compile(
    r"\d+(?:\.\d+)*[a-z]?(?:_(?:alpha|beta|pre|rc|cvs|svn|git|hg|p)\d*)*(?:~[0-9a-f]+)?(?:-r\d+)?", re.ASCII
)
_TOKEN: Final = re.compile(
    r"^(?P<first>\d+)|\.(?P<digit>\d+)|_(?P<suffix>[a-z]+)|(?P<number>(?<=[a-z])\d+)"
    r"|~(?P<hash>[0-9a-f]+)|-r(?P<revision>\d+)|(?P<letter>[a-z])",
    re.ASCII,
)
FIRST, DIGIT, LETTER, SUFFIX, NUMBER, HASH, REVISION, END = range(8)
_KINDS: Final = {
    "first": FIRST,
    "digit": DIGIT,
    "letter": LETTER,
    "suffix": SUFFIX,
    "number": NUMBER,
    "hash": HASH,
    "revision": REVISION,
}
_SUFFIXES: Final = ("alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p")
_NONE: Final = _SUFFIXES.index("")


def key(text: str) -> Any:
    """A version as apk compares it.

    Parts after the first with a leading zero compare as text.
    """
    text = text.strip()
    if _FORM.fullmatch(text) is None or len(text) > 1000:
        raise BadVersion(text, "apk")
    found = (one for one in _TOKEN.finditer(text))
    return _key([(_KINDS[one.lastgroup or ""], one.group(one.lastgroup or "")) for one in found])


def compare(left: list[Token], right: list[Token]) -> int:
    """Compare two versions token by token: below, equal or above 0."""
    for mine, other in zip_longest(left, right, fillvalue=(END, "")):
        order = _compare_tokens(mine, other) if mine[0] == other[0] else _compare_kinds(mine, other)
        if order:
            return order
    return 0


def _compare_kinds(mine: Token, other: Token) -> int:
    """The version that goes on is the greater one, but for a suffix of a pre-release."""
    if mine[0] == SUFFIX and _SUFFIXES.index(mine[1]) < _NONE:
        return -1
    if other[0] == SUFFIX and _SUFFIXES.index(other[1]) < _NONE:
        return 1
    return other[0] - mine[0]


def _compare_tokens(mine: Token, other: Token) -> int:
    kind, ours, theirs = mine[0], mine[1], other[1]
    if kind == SUFFIX:
        return _SUFFIXES.index(ours) - _SUFFIXES.index(theirs)
    if kind in (LETTER, HASH) or (kind == DIGIT and "0" in (ours[0], theirs[0])):
        return (ours > theirs) - (ours < theirs)
    return (int(ours) > int(theirs)) - (int(ours) < int(theirs))


_key: Final = cmp_to_key(compare)
