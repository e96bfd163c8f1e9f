"""Files of environment variables: one `NAME=value` a line, with comments, quotes and `${NAME}`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from pipeline.engine.paths import expand_variables
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE: Final = re.compile(r"\s*(?:export\s+)?(?P<name>[^=#\s]+)\s*=\s*(?P<value>.*?)\s*\Z")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


class VariableNotFound(EngineError):
    """An environment file has no variable of the name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot find environment variable `{name}`: the file does not set it")


class BadEnvFile(EngineError):
    """A line of an environment file sets nothing."""

    def __init__(self, number: int) -> None:
        super().__init__(f"cannot read line {number} of the environment file: expected NAME=value")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFile:
    """Variables in order, their values as written; the last of a name counts."""

    variables: tuple[tuple[str, str], ...] = ()

    def with_variable(self, name: str, value: str) -> EnvFile:
        """Return this with a variable added."""
        return replace(self, variables=(*self.variables, (name, value)))

    def without_variable(self, name: str) -> EnvFile:
        """Return this without the variables of a name."""
        return replace(self, variables=tuple(v for v in self.variables if v[0] != name))

    def namespace(self, prefix: str) -> EnvFile:
        """Return the variables named `prefix`, an underscore and more, by the rest; case is free."""
        start = f"{prefix}_".lower() if not prefix.endswith("_") else prefix.lower()
        inside = ((n, v) for n, v in self.variables if n.lower().startswith(start))
        return replace(self, variables=tuple((name[len(start) :], value) for name, value in inside))

    def raw(self) -> tuple[tuple[str, str], ...]:
        """Return the variables as written, the last of each name."""
        return tuple(dict(self.variables).items())

    def expanded(self) -> tuple[tuple[str, str], ...]:
        """Return the variables with quotes removed and `${NAME}` replaced by what stands before."""
        known: dict[str, str] = {}
        for name, written in self.variables:
            known[name] = _unquoted(written, known)
        return tuple(known.items())

    def value_of(self, name: str, *, raw: bool = False) -> str:
        """Return a variable.

        Raises:
            VariableNotFound: There is none of the name.
        """
        found = dict(self.raw() if raw else self.expanded())
        if name not in found:
            raise VariableNotFound(name)
        return found[name]

    def text(self) -> str:
        """Return the file's text."""
        return "".join(f"{name}={value}\n" for name, value in self.variables)


def parse_env_file(text: str) -> EnvFile:
    """Read a file.

    Raises:
        BadEnvFile: A line is neither empty, a comment, nor `NAME=value`.
    """
    return EnvFile(variables=tuple(_variables(text.splitlines())))


def _variables(lines: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise BadEnvFile(number)
        found.append((match["name"], match["value"]))
    return found


def _unquoted(written: str, known: dict[str, str]) -> str:
    quote = written[:1]
    if quote in ("'", '"') and len(written) > 1 and written.endswith(quote):
        inner = written[1:-1]
        if quote == "'":
            return inner
        inner = re.sub(r"\\([nrt\"\\])", lambda m: _ESCAPES.get(m[1], m[1]), inner)
        return expand_variables(inner, lambda name: known.get(name, ""))
    bare = re.sub(r"\s+#.*\Z", "", written)
    return expand_variables(bare, lambda name: known.get(name, ""))
