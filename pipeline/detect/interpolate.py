"""Variables in compose files: `${NAME:-default}` and its kin, and files of `NAME=value` lines."""

from __future__ import annotations

import re
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
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*?)\s*$")


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


def parse_env_file(text: str) -> dict[str, str]:
    """Return the variables of `NAME=value` lines; quotes around a value are taken off."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        else:
            value = re.sub(r"\s+#.*$", "", value)
        found[match[1]] = value
    return found
