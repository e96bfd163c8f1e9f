"""Paths, variables in texts, and durations: the pure rules that Go programs set."""

from __future__ import annotations

import pytest

from pipeline.engine.durations import BadDuration, format_duration, parse_duration
from pipeline.engine.paths import NameTooLong, base_name, expand_variables, is_within, join, relative


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [
        ("", "a", "/a"),
        ("/w", "a/b", "/w/a/b"),
        ("/w", "/a", "/a"),
        ("/w", "", "/w"),
        ("/w", ".", "/w"),
        ("/w", "../../..", "/"),
        ("/w", "a/./b//c/", "/w/a/b/c"),
        ("w", "a", "/w/a"),
        ("/", "//a", "/a"),
    ],
)
def test_paths_are_joined_and_cleaned_and_stay_below_the_root(base: str, path: str, joined: str) -> None:
    assert join(base, path) == joined


def test_a_name_may_have_255_bytes_and_no_more() -> None:
    """Bytes count, not characters."""
    assert join("/", "é" * 127) == "/" + "é" * 127
    with pytest.raises(NameTooLong, match="exceeds the maximum supported 255 characters"):
        join("/", "é" * 128)


@pytest.mark.parametrize(
    ("path", "parent", "within", "rest"),
    [
        ("/a/b", "/a", True, "b"),
        ("/a", "/a", True, ""),
        ("/ab", "/a", False, None),
        ("/a", "/", True, "a"),
        ("/", "/a", False, None),
    ],
)
def test_what_lies_below_what(path: str, parent: str, within: bool, rest: str | None) -> None:
    assert is_within(path, parent) is within
    if rest is not None:
        assert relative(path, parent) == rest


def test_the_root_has_no_name() -> None:
    assert (base_name("/a/b"), base_name("/")) == ("b", "")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A", "<A>"),
        ("${A}b", "<A>b"),
        ("$Ab-$A_1", "<Ab>-<A_1>"),
        ("${A:-b}", "<A:-b>"),
        ("$1x $* $$", "<1>x <*> <$>"),
        ("${*}", "<*>"),
        ("a$", "a$"),
        ("$-a", "<->a"),
        ("$ a", "$ a"),
        ("${A", "A"),
        ("${}x", "x"),
        ("$é", "$é"),
    ],
)
def test_variables_are_expanded_as_go_does(text: str, expanded: str) -> None:
    """One-character names as in a shell, no defaults; what cannot be read is eaten."""
    assert expand_variables(text, lambda name: f"<{name}>") == expanded


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0.0),
        ("0", 0.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        (".5s", 0.5),
        ("3us", 3e-6),
        ("3\u00b5s", 3e-6),
        ("3\u03bcs", 3e-6),
        ("+5s", 5.0),
        ("-5.s", -5.0),
        ("+0", 0.0),
        ("-0", 0.0),
        ("100.00100s", 100.001),
        ("1h2m3.5s", 3723.5),
        ("3m.5s3ms", 180.503),
        ("52763797000ns", 52.763797),
        ("0.3333333333333333333h", 1200.0),
        ("0.100000000000000000000h", 360.0),
        ("0.830103483285477580700h", 2988.372539827),
        ("9223372036854775807ns", 9223372036.854775807),
        ("-9223372036854775808ns", -9223372036.854775808),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5", "missing unit in duration"),
        ("1m30", "missing unit in duration"),
        ("1.", "missing unit in duration"),
        ("1x", 'unknown unit "x" in duration'),
        ("1d", 'unknown unit "d" in duration'),
        ("1s ", 'unknown unit "s " in duration'),
        ("1 s", 'unknown unit " s" in duration'),
        ("5S", 'unknown unit "S" in duration'),
        *((text, "invalid duration") for text in ("s", "-", "+", ".", "-.", ".s", "+.s", "--1s", "\u0663s")),
        *((text, "invalid duration") for text in ("9223372036854775808ns", "-9223372036854775809ns")),
        *((text, "invalid duration") for text in ("3000000h", "9223372036854ms775us808ns", "9" * 5000 + "s")),
    ],
)
def test_what_is_no_duration_is_refused_in_gos_words(text: str, problem: str) -> None:
    with pytest.raises(BadDuration) as caught:
        parse_duration(text)

    assert str(caught.value) == f'time: {problem} "{text}"'


@pytest.mark.parametrize(
    "text",
    ["0s", "1s", "1.5s", "59.999s", "1m0s", "1m30s", "2h0m0s", "1h1m1.25s", "250ms", "1.5ms", "3\u00b5s"],
)
def test_a_duration_is_printed_as_it_is_read(text: str) -> None:
    """These are the texts Go itself prints."""
    assert format_duration(parse_duration(text)) == text
