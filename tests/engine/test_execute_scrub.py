"""Scrubbing: secrets never come through, however a stream is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.runtime.scrub import Scrubber, forms_of

_SHORT = st.binary(min_size=1, max_size=5).map(lambda data: bytes(b"abc "[byte % 4] for byte in data))
_TEXT = st.binary(max_size=60).map(lambda data: bytes(b"abc "[byte % 4] for byte in data))


def scrub(forms: tuple[bytes, ...], pieces: list[bytes]) -> bytes:
    scrubber = Scrubber(forms)
    return b"".join([*(scrubber.feed(piece) for piece in pieces), scrubber.finish()])


@given(secrets=st.lists(_SHORT, max_size=4), text=_TEXT, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_a_cut_changes_nothing(secrets: list[bytes], text: bytes, cuts: list[int]) -> None:
    """Any pieces give what the whole gives."""
    forms = forms_of(secrets)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]

    assert scrub(forms, pieces) == scrub(forms, [text])


def test_the_longest_form_counts_and_empty_ones_do_not() -> None:
    """A value and its trimmed form are both forms."""
    forms = forms_of([b"", b"  ", b"ab", b" abcd\n"])

    assert forms == (b" abcd\n", b"abcd", b"  ", b"ab")
    assert scrub(forms, [b"x ab", b"cd\nabcd", b"ab", b"a"]) == b"x*********a"


def test_only_what_could_become_a_secret_is_held_back() -> None:
    """A line is shown at once unless its end begins a secret."""
    scrubber = Scrubber(forms_of([b"token"]))

    shown = [
        scrubber.feed(b"hello\n"),
        scrubber.feed(b"to"),
        scrubber.feed(b"day to"),
        scrubber.feed(b"ken!"),
    ]

    assert shown == [b"hello\n", b"", b"today ", b"***!"]


def test_a_secret_of_half_a_megabyte_is_found() -> None:
    """In pieces much smaller than it."""
    secret = bytes(range(1, 251)) * 2000
    stream = b"before " + secret + b" after"

    shown = scrub(forms_of([secret]), [stream[at : at + 65536] for at in range(0, len(stream), 65536)])

    assert shown == b"before *** after"
