"""Variables in compose files: `${NAME:-default}` and its kin, and files of `NAME=value` lines."""

from __future__ import annotations

import re
from collections import ChainMap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_VALUES: Final = 100_000
DEEPEST: Final = 50
_VARIABLE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-+?])(?P<other>(?:[^{}]|\$\{[^{}]*\})*))?\})"
)
_ASSIGNMENT: Final = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][\w.-]*)[ \t]*(?:(?P<equals>[=:])[ \t]*"
    r"(?:\"(?P<double>(?:[^\"\\]|\\.)*)\"[^\n]*|'(?P<single>(?:[^'\\]|\\.)*)'[^\n]*|(?P<bare>[^\n]*)))?$",
    re.MULTILINE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)


class TooMuch(ValueError):
    """A file says so much, or so deep, that it was made to harm."""


@dataclass(slots=True)
class Variables:
    """What names stand for, and those that were asked for in vain."""

    values: Mapping[str, str]
    missing: set[str] = field(default_factory=set)

    def fill(self, text: str) -> str:
        """Return `text` with its variables filled in.

        Raises:
            TooMuch: A variable that must have a value has none.
        """
        return _VARIABLE.sub(self._value, text) if "$" in text else text

    def _value(self, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        name, how, other = match["bare"] or match["name"], match["how"] or "", match["other"] or ""
        value = self.values.get(name)
        is_set = bool(value) if how.startswith(":") else value is not None
        if how.endswith("+"):
            return self.fill(other) if is_set else ""
        if is_set:
            return value or ""
        if how.endswith("-"):
            return self.fill(other)
        if how.endswith("?"):
            raise TooMuch(f"{name} has no value: {other}" if other else f"{name} has no value")
        self.missing.add(name)
        return ""


def interpolated(value: Any, variables: Variables) -> Any:
    """Return a tree of tables, arrays and texts with every variable filled in.

    Raises:
        TooMuch: It has too many values, is nested too deep, or lacks a variable that it must have.
    """
    left = [MOST_VALUES]

    def walk(one: Any, depth: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or depth > DEEPEST:
            raise TooMuch("it has too many values, or contains itself")
        if isinstance(one, dict):
            return {key: walk(each, depth + 1) for key, each in one.items()}
        if isinstance(one, list):
            return [walk(each, depth + 1) for each in one]
        return variables.fill(one) if isinstance(one, str) else one

    return walk(value, 0)


def parse_env_file(text: str, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of `NAME=value` lines, as compose reads `.env` and the files of `env_file`.

    Values in double quotes have escapes and variables, those in single quotes are taken as they are; both may
    go over several lines. A name alone has the value it has in `known`, and without one is left out.

    Args:
        known: What variables stand for that the file does not set before; it goes before what the file sets.
    """
    found: dict[str, str] = {}
    values = Variables(ChainMap(dict(known or {}), found))
    for match in _ASSIGNMENT.finditer(text):
        name, double, single, bare = (match[group] for group in ("name", "double", "single", "bare"))
        if match["equals"] is None:
            if known is not None and name in known:
                found[name] = known[name]
        elif single is not None:
            found[name] = single.replace("\\'", "'")
        elif double is not None:
            found[name] = _filled(_ESCAPE.sub(_escaped, double), values)
        else:
            found[name] = _filled(re.sub(r"\s#.*$", "", bare).rstrip(), values)
    return found


def _filled(text: str, values: Variables) -> str:
    try:
        return values.fill(text)
    except TooMuch:
        return ""  # it must have a value and has none: who uses it is told that it counts as empty


def _escaped(match: re.Match[str]) -> str:
    letter = match[1]
    return {"n": "\n", "r": "\r", "t": "\t", "$": "$$", '"': '"', "\\": "\\"}.get(letter, match[0])
