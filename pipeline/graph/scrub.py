"""Keep the values of secrets out of everything that is told or kept."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, TypeVar

from pipeline.text import secret_forms

SHORTEST: Final = 3
SHORTEST_LINE: Final = 6
MASK: Final = "***"
T = TypeVar("T")


class Scrubber:
    """Knows the secrets a run has handed out; replaces them by `***`.

    A value shorter than three characters cannot be hidden without hiding everything, and is left.
    """

    def __init__(self) -> None:
        self._values: list[str] = []

    def learn(self, value: str) -> None:
        """Hide this value from now on, each long line of it, and its encoded forms (`text.secret_forms`)."""
        lines = [line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_LINE]
        coded = [form.decode("utf-8", "replace") for form in secret_forms(value.encode())]
        for part in dict.fromkeys((*coded, *lines)):
            if len(part) >= SHORTEST and part not in self._values:
                self._values.append(part)
        # Longest first, or a short secret inside a long one would leave the rest of it in sight.
        self._values.sort(key=len, reverse=True)

    def text(self, text: str) -> str:
        """`text` without secrets."""
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return text

    def data(self, data: bytes) -> bytes:
        """`data` without the UTF-8 forms of secrets."""
        for value in self._values:
            data = data.replace(value.encode(), MASK.encode())
        return data

    def holds(self, text: str) -> bool:
        """Whether `text` shows a secret."""
        return any(value in text for value in self._values)

    def value(self, value: T) -> T:
        """A dataclass, tuple or text without secrets; other values as they are."""
        if not self._values:
            return value
        found: Any = value
        if isinstance(value, str):
            found = self.text(value) if type(value) is str else value
        elif isinstance(value, tuple):
            found = tuple(self.value(item) for item in value)
        elif is_dataclass(value) and not isinstance(value, type):
            changed = {}
            for item in fields(value):
                old = getattr(value, item.name)
                new = self.value(old)
                if new is not old and new != old:
                    changed[item.name] = new
            found = replace(value, **changed) if changed else value
        result: T = found
        return result
