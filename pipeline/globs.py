"""Globs over a project's paths, as settings, stages and waivers write them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.wildcards import ONE_SEGMENT, join_wildcards

if TYPE_CHECKING:
    from collections.abc import Iterable


class Globs:
    """Globs made ready to ask about paths."""

    def __init__(self, globs: tuple[str, ...]) -> None:
        self._wanted = _alternatives(glob for glob in globs if not glob.startswith("!"))
        self._unwanted = _alternatives(glob[1:] for glob in globs if glob.startswith("!"))

    def __call__(self, path: str) -> bool:
        """Whether a glob picks `path` and none with `!` excludes it, whatever their order."""
        if self._wanted is None or self._wanted.fullmatch(path) is None:
            return False
        return self._unwanted is None or self._unwanted.fullmatch(path) is None


@lru_cache(maxsize=256)
def compile_globs(globs: tuple[str, ...]) -> Globs:
    """Make globs ready: `*` and `?` stay inside a part, `**` spans parts, `[...]` is a set, `!` excludes.

    A glob without wildcards, or one that ends in `/`, also picks all that is below it.
    """
    return Globs(globs)


def _alternatives(globs: Iterable[str]) -> re.Pattern[str] | None:
    expressions = [_expression(glob) for glob in globs]
    # A name may hold line ends: `.` has to match them too.
    return re.compile("|".join(f"(?:{one})" for one in expressions), re.DOTALL) if expressions else None


def _expression(glob: str) -> str:
    glob = glob.removeprefix("./")
    below = glob.endswith("/") or not re.search(r"[*?\[]", glob)
    parts = glob.strip("/").split("/")
    tokens: list[str] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            tokens.append(".*" if last else "(?:[^/]+/)*")
        else:
            tokens += [*_part_expressions(part), *([] if last else ["/"])]
    return join_wildcards(tokens) + ("(?:/.*)?" if below else "")


def _part_expressions(part: str) -> Iterable[str]:
    pieces = re.findall(r"\*+|\?|\[!?[^\]]+\]|[^*?\[]+|\[", part)
    for piece in pieces:
        if piece.startswith("*"):
            yield ONE_SEGMENT
        elif piece == "?":
            yield "[^/]"
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            inner = piece[1:-1].replace("\\", "\\\\")
            yield f"[^{inner[1:]}/]" if inner.startswith("!") else f"[{inner}]"
        else:
            yield re.escape(piece)
