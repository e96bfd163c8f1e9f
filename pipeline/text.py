"""Text that came from tools, made fit for people's terminals; and the forms in which it may show a secret."""

from __future__ import annotations

import binascii
import re
from typing import Final

# Colours, cursor movements, titles: a stage's output must not steer the reader's terminal.
_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_HALVES: Final = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """`text` without what would steer a terminal; tabs and line ends stay.

    Halves of surrogate pairs (names of files that are no UTF-8) become the sign for what cannot be read.
    """
    return _HALVES.sub("\ufffd", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def some(count: int, noun: str, many: str = "") -> str:
    """A number of things: "1 file", "3 files"; `many` where the plural is no `s` more."""
    return f"{count} {noun}" if count == 1 else f"{count} {many or noun + 's'}"


SHORTEST_LINE_BYTES: Final = 8
"""Shorter lines of a secret are not looked for alone: they would be found everywhere."""

_SHORTEST_CODE: Final = 6
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_WRAPPED_AT: Final = (64, 76)  # by openssl and PEM files; by base64 and MIME
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What tools leave as it is: nothing else, paths, `encodeURIComponent`, the user's part of an address.
_KEPT_IN_URLS: Final = (b"", b"/", b"!'()*", b"!$&'()*+,;=")


def secret_forms(value: bytes) -> frozenset[bytes]:
    """Return the texts that give a secret away: never the empty one.

    The value; its long lines, as terminals print them; the value without white space around it, and what
    base64 (at every alignment, plain, for URLs, and wrapped) and percent-encoding make of that.
    """
    # The code of the whole value holds that of the trimmed one.
    trimmed = value.strip()
    forms = {value, trimmed}
    coded = _base64_forms(trimmed) | _percent_forms(trimmed)
    if b"\n" in value:
        lines = {line.strip() for line in value.splitlines()}
        forms |= {line for line in lines if len(line) >= SHORTEST_LINE_BYTES}
        forms.add(value.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    forms |= {form for form in coded if len(form) >= _SHORTEST_CODE}
    return frozenset(form for form in forms if form)


def _base64_forms(value: bytes) -> set[bytes]:
    """Return what of `value` is the same wherever it lies in an encoded text."""
    forms: set[bytes] = set()
    for before, mixed in ((0, 0), (1, 2), (2, 3)):
        code = binascii.b2a_base64(bytes(before) + value, newline=False)
        inner = code[mixed : (before + len(value)) * 8 // 6]
        forms |= {inner, inner.translate(_URL_SAFE)}
        if before == 0:
            lines = {inner[at : at + width] for width in _WRAPPED_AT for at in range(0, len(inner), width)}
            forms |= {line for line in lines if len(line) >= SHORTEST_LINE_BYTES}
    return forms


def _percent_forms(value: bytes) -> set[bytes]:
    if not value.translate(None, bytes(_UNRESERVED)):
        return {value}
    forms: set[bytes] = set()
    for kept in _KEPT_IN_URLS:
        plain = _UNRESERVED.union(kept)
        for digits in (b"%%%02X", b"%%%02x"):
            table = [bytes((byte,)) if byte in plain else digits % byte for byte in range(256)]
            code = b"".join(map(table.__getitem__, value))
            forms |= {code, code.replace(b"%20", b"+")}
    return forms
