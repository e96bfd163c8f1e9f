"""Replaces secret values in a stream of bytes, wherever the pieces of the stream are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK: Final = b"***"
_PROBE_BYTES: Final = 32


def forms_of(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what is to be replaced, longest first: each value, and each without white space around it."""
    forms = {form for secret in secrets for form in (secret, secret.strip())}
    return tuple(sorted((form for form in forms if form), key=lambda form: (-len(form), form)))


class Scrubber:
    """Scrubs one stream; holds back only what could be the beginning of a secret."""

    def __init__(self, forms: tuple[bytes, ...]) -> None:
        self._forms = forms
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return what is safe to show."""
        if not self._forms:
            return data
        text = self._held + data
        return self._scrub(text, min(_begin_of(form, text) for form in self._forms))

    def finish(self) -> bytes:
        """Return the rest."""
        text = self._held
        return self._scrub(text, len(text))

    def _scrub(self, text: bytes, end: int) -> bytes:
        """Scrub matches that begin before `end`, and hold the rest back."""
        parts: list[bytes] = []
        at = 0
        # Plain search: a pattern of long alternatives takes quadratic time on a text that repeats itself.
        found = {form: text.find(form) for form in self._forms}
        while True:
            for form, place in found.items():
                if 0 <= place < at:
                    found[form] = text.find(form, at)
            places = [(place, -len(form), form) for form, place in found.items() if 0 <= place < end]
            if not places:
                break
            place, _, form = min(places)  # the first; of several there, the longest
            parts += (text[at:place], _MASK)
            at = place + len(form)
        parts.append(text[at:end])
        self._held = text[max(at, end) :]
        return b"".join(parts)


def _begin_of(form: bytes, text: bytes) -> int:
    """Return the first position from which the text to its end begins `form` but does not end it."""
    start = max(0, len(text) - len(form) + 1)
    probe = form[:_PROBE_BYTES]
    at = text.find(probe, start)
    while at != -1:
        if form.startswith(text[at:]):
            return at
        at = text.find(probe, at + 1)
    for at in range(max(start, len(text) - len(probe) + 1), len(text)):
        if form.startswith(text[at:]):
            return at
    return len(text)
