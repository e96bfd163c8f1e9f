"""Replaces secret values in a stream of bytes, wherever the pieces of the stream are cut."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK: Final = b"***"


def forms_of(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what is to be replaced, longest first: each value, and each without white space around it."""
    forms = {form for secret in secrets for form in (secret, secret.strip())}
    return tuple(sorted((form for form in forms if form), key=lambda form: (-len(form), form)))


class Scrubber:
    """Scrubs one stream; holds back only what could be the beginning of a secret."""

    def __init__(self, forms: tuple[bytes, ...]) -> None:
        self._forms = forms
        self._pattern = re.compile(b"|".join(re.escape(form) for form in forms)) if forms else None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return what is safe to show."""
        if self._pattern is None:
            return data
        text = self._held + data
        return self._scrub(text, self._undecided_from(text))

    def finish(self) -> bytes:
        """Return the rest."""
        if self._pattern is None:
            return b""
        text = self._held
        return self._scrub(text, len(text))

    def _scrub(self, text: bytes, end: int) -> bytes:
        """Scrub matches that begin before `end`, and hold the rest back."""
        assert self._pattern is not None  # noqa: S101 - the callers checked
        parts: list[bytes] = []
        at = 0
        for match in self._pattern.finditer(text):
            if match.start() >= end:
                break
            parts += (text[at : match.start()], _MASK)
            at = match.end()
        parts.append(text[at:end])
        self._held = text[max(at, end) :]
        return b"".join(parts)

    def _undecided_from(self, text: bytes) -> int:
        """Return the first position from which the text to its end begins a form but does not end it."""
        first = len(text)
        for form in self._forms:
            at = text.find(form[:1], max(0, len(text) - len(form) + 1))
            while 0 <= at < first:
                if form.startswith(text[at:]):
                    first = at
                    break
                at = text.find(form[:1], at + 1)
        return first
