"""Replaces secret values in a stream of bytes, wherever the pieces of the stream are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.text import secret_forms

if TYPE_CHECKING:
    from collections.abc import Iterable

_MASK: Final = b"***"
_PROBE_BYTES: Final = 16


class Forms:
    """Texts to be replaced, ready to be searched for in one pass, however many there are.

    A search finds only *probes*, the beginnings of forms; what lies there is compared in full.
    """

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._by_probe: dict[bytes, list[bytes]] = {}
        for form in sorted({form for form in forms if form}, key=lambda form: (-len(form), form)):
            self._by_probe.setdefault(form[:_PROBE_BYTES], []).append(form)
        self._probes = list(self._by_probe)
        if not self._probes:
            return
        # Only an exec with secrets pays for the import.
        from ahocorasick_rs import BytesAhoCorasick

        self._search = BytesAhoCorasick(self._probes)
        # Every text that begins a form, is not the whole of it, and is too short for a probe.
        self._beginnings = {
            form[:size] for form in self._probes for size in range(1, min(len(form), _PROBE_BYTES))
        }

    def __bool__(self) -> bool:
        return bool(self._probes)

    def candidates(self, text: bytes) -> list[tuple[int, list[bytes]]]:
        """Return where forms may begin, in order, each with the forms that may, longest first."""
        found: dict[int, list[bytes]] = {}
        for number, start, _end in self._search.find_matches_as_indexes(text, overlapping=True):
            forms = self._by_probe[self._probes[number]]
            found[start] = sorted([*found[start], *forms], key=len, reverse=True) if start in found else forms
        for start in range(max(0, len(text) - _PROBE_BYTES + 1), len(text)):
            if self.is_beginning(text[start:]):
                found.setdefault(start, [])
        return sorted(found.items())

    def is_beginning(self, text: bytes) -> bool:
        """Say whether a text shorter than a probe could become a form."""
        return text in self._beginnings


def forms_of(secrets: Iterable[bytes]) -> Forms:
    """Return all that is to be replaced for the sake of `secrets`."""
    return Forms(form for secret in secrets for form in secret_forms(secret))


class Scrubber:
    """Scrubs one stream; holds back only what could be the beginning of a secret."""

    def __init__(self, forms: Forms) -> None:
        self._forms = forms
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return what is safe to show."""
        return self._scrub(self._held + data, final=False) if self._forms else data

    def finish(self) -> bytes:
        """Return the rest."""
        return self._scrub(self._held, final=True) if self._held else b""

    def _scrub(self, text: bytes, *, final: bool) -> bytes:
        """Replace the first form, of several there the longest, and so on behind it."""
        parts: list[bytes] = []
        at, end = 0, len(text)
        for start, forms in self._forms.candidates(text):
            if start < at:
                continue
            if not final and self._may_go_on(text, start, forms):
                end = start
                break
            size = next((len(form) for form in forms if _lies_at(text, start, form)), 0)
            if size:
                parts += (text[at:start], _MASK)
                at = start + size
        parts.append(text[at:end])
        self._held = text[end:]
        return b"".join(parts)

    def _may_go_on(self, text: bytes, start: int, forms: list[bytes]) -> bool:
        """Say whether the text from `start` to its end begins a form that is longer."""
        left = len(text) - start
        if left < _PROBE_BYTES:
            return self._forms.is_beginning(text[start:])
        # The last byte first: comparing all of it takes long where a text repeats itself.
        return any(
            len(form) > left and form[left - 1] == text[-1] and form.startswith(text[start:])
            for form in forms
        )


def _lies_at(text: bytes, start: int, form: bytes) -> bool:
    last = start + len(form) - 1
    return last < len(text) and text[last] == form[-1] and text.startswith(form, start)
