"""Scrubbing: secrets never come through, in whatever form they are printed and however a stream is cut."""

from __future__ import annotations

import base64
import itertools
import random
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.runtime.scrub import Forms, Scrubber, forms_of
from pipeline.text import secret_forms

_SHORT = st.binary(min_size=1, max_size=40).map(lambda data: bytes(b"abc "[byte % 4] for byte in data))
_TEXT = st.binary(max_size=120).map(lambda data: bytes(b"abc "[byte % 4] for byte in data))
TOKEN = b"p@ss word/+?\xc3\xa4-9~0123456789abcdef"
KEY = "\n".join(
    ["-----BEGIN KEY-----", "MIIEvQIBADANBgkqhkiG9w0", "short", "AAAAB3NzaC1yc2EAAA==", ""]
).encode()


def scrub(forms: Forms, pieces: list[bytes]) -> bytes:
    scrubber = Scrubber(forms)
    return b"".join([*(scrubber.feed(piece) for piece in pieces), scrubber.finish()])


def replaced(forms: list[bytes], text: bytes) -> bytes:
    """Replace the plain way: at each place the longest form."""
    shown, at = b"", 0
    while at < len(text):
        size = max((len(form) for form in forms if text.startswith(form, at)), default=0)
        shown += b"***" if size else text[at : at + 1]
        at += size or 1
    return shown


@given(
    secrets=st.lists(_SHORT, max_size=4),
    text=_TEXT,
    again=st.lists(st.integers(0, 3), max_size=3),
    cuts=st.lists(st.integers(0, 240), max_size=8),
)
def test_a_cut_changes_nothing(secrets: list[bytes], text: bytes, again: list[int], cuts: list[int]) -> None:
    """Any pieces give what replacing in the whole gives, forms within and behind each other included."""
    for number in again:
        text += secrets[number] if number < len(secrets) else text[:7]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]

    assert scrub(Forms(secrets), pieces) == replaced(secrets, text)


def test_the_longest_form_counts_and_empty_ones_do_not() -> None:
    """A value and its trimmed form are both forms."""
    forms = forms_of([b"", b"  ", b"ab", b" abcd\n"])

    assert scrub(forms, [b"x ab", b"cd\nabcd", b"ab", b"a"]) == b"x*********a"


def test_only_what_could_become_a_secret_is_held_back() -> None:
    """A line is shown at once unless its end begins a secret."""
    scrubber = Scrubber(Forms([b"token"]))

    shown = [
        scrubber.feed(b"hello\n"),
        scrubber.feed(b"to"),
        scrubber.feed(b"day to"),
        scrubber.feed(b"ken!"),
    ]

    assert shown == [b"hello\n", b"", b"today ", b"***!"]


@pytest.mark.parametrize("lined", [False, True], ids=["binary", "lines"])
def test_a_secret_of_half_a_megabyte_is_found(lined: bool) -> None:
    """In pieces much smaller than it, as it is and in base64."""
    secret = random.Random(7).randbytes(500_000)  # noqa: S311 - any bytes will do
    if lined:
        secret = b"\n".join(base64.b64encode(secret[at : at + 48]) for at in range(0, 375_000, 48))
    stream = b"before " + secret + b" and " + base64.b64encode(b"x" + secret + b"yz") + b" after"

    shown = scrub(forms_of([secret]), [stream[at : at + 65536] for at in range(0, len(stream), 65536)])

    assert shown.startswith(b"before *** and ")
    assert shown.endswith(b" after")
    assert len(shown) < 40


def as_base64(value: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return base64.b64encode(before + value + after)


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(TOKEN, id="plain"),
        pytest.param(as_base64(TOKEN), id="base64"),
        pytest.param(as_base64(TOKEN, b"u"), id="base64-second-alignment"),
        pytest.param(as_base64(TOKEN, b"u:", b"\n"), id="base64-third-alignment"),
        pytest.param(as_base64(TOKEN, b"user:", b"more"), id="base64-in-between"),
        pytest.param(base64.urlsafe_b64encode(TOKEN), id="base64-for-urls"),
        pytest.param(base64.urlsafe_b64encode(b"u" + TOKEN).rstrip(b"="), id="base64-for-urls-unpadded"),
        pytest.param(base64.encodebytes(TOKEN * 4), id="base64-wrapped"),
        pytest.param(urllib.parse.quote(TOKEN).encode(), id="percent"),
        pytest.param(urllib.parse.quote(TOKEN, safe="").encode(), id="percent-all"),
        pytest.param(urllib.parse.quote(TOKEN, safe="!'()*").encode(), id="percent-as-browsers"),
        pytest.param(urllib.parse.quote_plus(TOKEN).encode(), id="percent-as-forms"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_encoded_forms_are_found_wherever_the_stream_is_cut(shown: bytes, size: int) -> None:
    """Of a value between others only the characters at its edges, which are theirs as well, are left."""
    secret = TOKEN * 4 if b"\n" in shown else TOKEN
    stream = b"[" + shown + b"]"

    result = scrub(forms_of([secret]), [stream[at : at + size] for at in range(0, len(stream), size)])

    assert b"***" in result
    assert not any(form in result for form in secret_forms(secret))
    assert len(result.replace(b"***", b"")) <= 2 + 14


def test_lower_case_percent_encoding_is_found() -> None:
    """Some tools write the digits that way."""
    text = "".join(f"%{byte:02x}" if chr(byte) in "@ /+?\xc3\xa4" else chr(byte) for byte in TOKEN)

    assert scrub(forms_of([TOKEN]), [text.encode("latin-1")]) == b"***"


def test_the_lines_of_a_value_are_found_alone() -> None:
    """Long ones; a short one would be found everywhere. The line ends of a terminal change nothing."""
    forms = forms_of([KEY])

    assert scrub(forms, [b"key: MIIEvQIBADANBgkqhkiG9w0, short"]) == b"key: ***, short"
    assert scrub(forms, [b"<" + KEY.replace(b"\n", b"\r\n") + b">"]) == b"<***>"


def test_short_values_are_hidden_as_they_are_only() -> None:
    """The code of a short one would hide other texts."""
    assert secret_forms(b"abc\n") == {b"abc\n", b"abc", b"abc\r\n"}
