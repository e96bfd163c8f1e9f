"""Globs as regular expressions that never take for ever, whatever the glob and the path."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ONE_SEGMENT: Final = "[^/]*"
"""The regular expression of a wildcard that stays inside a segment of a path."""
_DEEP: Final = {
    ".*": ".*?",
    ".+": ".+?",
    "(?:.*/)?": "(?:.*?/)??",
    "(?:[^/]+/)*": "(?:[^/]+/)*?",
}
"""Expressions of wildcards that span segments, and what tries the shortest match of each first."""

_ANYWHERE: Final = (".*", ".+")


def join_wildcards(tokens: Sequence[str]) -> str:
    """Join what a glob consists of to one regular expression, to be matched in full, in bounded time.

    Written one after another, ten wildcards try all ways to share a path among them, which takes for ever.
    But what a wildcard leaves over for the next one only matters for the last of its kind: the others take
    the first fit and never try again. A class of characters matches no slash, whatever it says: else a fit
    could take from the segments that others need.

    Args:
        tokens: `ONE_SEGMENT`, one of the wildcards that span segments, or what is not of variable length.
    """
    tokens = [f"(?!/){token}" if _is_slash_too(token) else token for token in tokens]
    deep = [place for place, token in enumerate(tokens) if token in _DEEP]
    text = ""
    is_at_segment = True
    for start, end in itertools.pairwise([-1, *deep, len(tokens)]):
        section = tokens[start + 1 : end]
        is_last = end == len(tokens)
        if section:
            is_at_segment = section[-1] == "/"
        elif start >= 0 and tokens[start] in _ANYWHERE:
            is_at_segment = False
        # A wildcard of whole segments can take over only where a segment begins.
        may_settle = not is_last and (tokens[end] in _ANYWHERE or is_at_segment)
        inner = _join_section(section, may_settle=may_settle)
        before = _DEEP[tokens[start]] if start >= 0 else ""
        text += f"(?>{before}{inner})" if may_settle else f"{before}{inner}"
    return text


def _is_slash_too(token: str) -> bool:
    return token.startswith("[") and re.fullmatch(token, "/") is not None


def _join_section(tokens: Sequence[str], *, may_settle: bool) -> str:
    """Join tokens between two wildcards that span segments."""
    parts = _split(tokens)
    text = "".join(parts[0])
    for place, part in enumerate(parts[1:], start=1):
        if place < len(parts) - 1 or may_settle:
            text += f"(?>[^/]*?{''.join(part)})"
        else:
            text += ONE_SEGMENT + "".join(part)
    return text


def _split(tokens: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == ONE_SEGMENT:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
