"""Modes of files as `chmod` takes them: octal, or symbolic as in `u=rwX,go=rX`. Pure."""

from __future__ import annotations

import re
from typing import Final

_OCTAL: Final = re.compile(r"[0-7]{1,4}\Z")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)\Z")
_OPERATION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS: Final = {"u": 6, "g": 3, "o": 0}
_BITS: Final = {"r": 0o4, "w": 0o2, "x": 0o1}


def is_mode(text: str) -> bool:
    """Is `text` an octal or symbolic mode?"""
    return bool(_OCTAL.match(text)) or all(_CLAUSE.match(part) for part in text.split(","))


def parse_octal(text: str) -> int | None:
    """Return the permission bits of an octal text; None when it is symbolic."""
    return int(text, 8) if _OCTAL.match(text) else None


def apply_symbolic(mode: int, text: str, *, is_directory: bool) -> int:
    """Return the permission bits (0o7777) that a symbolic `text` makes of `mode`.

    No umask takes part; `X` means execute for directories and for files somebody may execute.

    Raises:
        ValueError: `text` is not symbolic.
    """
    bits = mode & 0o7777
    for clause in text.split(","):
        match = _CLAUSE.match(clause)
        if match is None:
            raise ValueError(f"`{text}` is no mode: write it as 0755 or as u=rwx,go=rx")
        who = "ugo" if not match[1] or "a" in match[1] else match[1]
        for operator, letters in _OPERATION.findall(match[2]):
            bits = _change(bits, who, operator, letters, is_directory=is_directory)
    return bits


def _change(bits: int, who: str, operator: str, letters: str, *, is_directory: bool) -> int:
    chosen = 0
    for each in who:
        chosen |= _permissions(bits, letters, is_directory=is_directory) << _SHIFTS[each]
    if "s" in letters:
        chosen |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in letters:
        chosen |= 0o1000
    if operator == "+":
        return bits | chosen
    if operator == "-":
        return bits & ~chosen
    cleared = 0
    for each in who:
        cleared |= 0o7 << _SHIFTS[each]
    cleared |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    return (bits & ~cleared) | chosen


def _permissions(bits: int, letters: str, *, is_directory: bool) -> int:
    """Return the three bits that letters (or a class to copy from) stand for."""
    if letters in _SHIFTS:
        return (bits >> _SHIFTS[letters]) & 0o7
    found = 0
    for letter in letters:
        found |= _BITS.get(letter, 0)
        if letter == "X" and (is_directory or bits & 0o111):
            found |= 0o1
    return found
