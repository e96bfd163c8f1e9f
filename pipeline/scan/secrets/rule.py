"""What a rule of the engine is, and what it finds. The rules themselves are tables in the modules beside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from pipeline.scan.finding import Confidence

Strength: TypeAlias = Literal["live", "provider", "structure", "generic"]
"""How sure a rule is: a vendor's prefix in use, a vendor's form, a place made for a password, or a name that
sounds like one beside a value that looks random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One secret in one text. Never printed: `value` is the secret itself."""

    rule: str
    title: str
    strength: Strength
    value: str = field(repr=False)
    start: int  # character offset of the value in the text
    end: int
    line: int = 0
    column: int = 0
    confidence: Confidence = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Credentials with a form of their own.

    `anchors` are literal parts, in lower case, that every match holds; the expression is tried around them
    only, so that its cost does not depend on the length of a line. Group 1, if there is one, is the secret.
    """

    id: str
    title: str
    regex: re.Pattern[str]
    anchors: tuple[str, ...]
    back: int = 0  # characters a match may begin before its anchor
    strength: Strength = "provider"
    is_bounded: bool = True  # a letter or digit just before a match makes it a part of something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Credentials whose form says nothing, but the name they are assigned to does."""

    id: str
    title: str
    name: re.Pattern[str]  # searched in the name, in lower case with `_` between words
    value: re.Pattern[str]  # the whole value


def pattern(
    row: str,
    regex: str,
    *anchors: str,
    back: int = 0,
    strength: Strength = "provider",
    is_bounded: bool = True,
) -> Pattern:
    """Return a rule from a row of a table: `id: title`, expression, anchors."""
    name, _, title = row.partition(": ")
    lower = tuple(anchor.lower() for anchor in anchors)
    made = re.compile(regex)
    return Pattern(
        id=name, title=title, regex=made, anchors=lower, back=back, strength=strength, is_bounded=is_bounded
    )


def named(row: str, name: str, value: str) -> Named:
    """Return a rule from a row of a table: `id: title`, name, value."""
    rule, _, title = row.partition(": ")
    return Named(id=rule, title=title, name=re.compile(name), value=re.compile(value))
