"""Every form of variable, quote and escape in a word."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.dockerfile.expand import (
    BadSubstitution,
    Quoting,
    expand_document,
    expand_word,
    expand_words,
)

ENV = {"V": "foobarbaz", "E": "", "P": "/usr/local/bin/tool", "S": "a b", "A": "aaa", "D": "1.2.3"}

FORMS = {
    "plain": ("$V", "foobarbaz"),
    "braces": ("x${V}y", "xfoobarbazy"),
    "unknown": ("[$U]", "[]"),
    "name ends at dot": ("$V.txt", "foobarbaz.txt"),
    "lone dollar": ("a$", "a$"),
    "dollar space": ("$ a", "$ a"),
    "digits": ("$12x", "x"),
    "special": ("$@x", "x"),
    "escaped dollar": (r"\$V", "$V"),
    "escaped brace": (r"\${V}", "${V}"),
    "default of unset": ("${U:-w}", "w"),
    "default of empty": ("${E:-w}", "w"),
    "default of set": ("${V:-w}", "foobarbaz"),
    "default of unset, no colon": ("${U-w}", "w"),
    "default of empty, no colon": ("${E-w}", ""),
    "alternative of set": ("${V:+w}", "w"),
    "alternative of empty": ("${E:+w}", ""),
    "alternative of empty, no colon": ("${E+w}", "w"),
    "alternative of unset, no colon": ("${U+w}", ""),
    "required and set": ("${V:?no}", "foobarbaz"),
    "required and empty, no colon": ("${E?no}", ""),
    "nested default": ("${U:-${W:-$V}}", "foobarbaz"),
    "quoted default": ('${U:-"a b"}', "a b"),
    "shortest prefix": ("${P#*/}", "usr/local/bin/tool"),
    "longest prefix": ("${P##*/}", "tool"),
    "shortest suffix": ("${P%/*}", "/usr/local/bin"),
    "longest suffix": ("${P%%/*}", ""),
    "suffix with dots": ("${D%.*}", "1.2"),
    "longest suffix with dots": ("${D%%.*}", "1"),
    "one letter prefix": ("${V#?}", "oobarbaz"),
    "prefix that is not there": ("${V#x}", "foobarbaz"),
    "replace first": ("${A/a/b}", "baa"),
    "replace all": ("${A//a/b}", "bbb"),
    "replace all of it": ("${A//*/b}", "b"),
    "replace by nothing": ("${V/ba/}", "foorbaz"),
    "replace wildcard": ("${V/b*/X}", "fooX"),
    "replace escaped slash": (r"${P//\//_}", "_usr_local_bin_tool"),
    "replace by variable": ("${A/a/$V}", "foobarbazaa"),
    "replace escaped star": (r"${U:-x}${A/\*/b}", "xaaa"),
    "double quotes": ('"$V x"', "foobarbaz x"),
    "single quotes": ("'$V x'", "$V x"),
    "quotes inside a word": ("a'b'\"c\"", "abc"),
    "escaped quote": (r"\"a\"", '"a"'),
    "escape in double quotes": (r'"\$V \" \\ \n"', '$V " \\ \\n'),
    "escape in single quotes": (r"'a\b'", "a\\b"),
    "escape of a letter": (r"a\bc", "abc"),
    "escape at the end": ("a\\", "a"),
    "unicode": ("ü$V→", "üfoobarbaz→"),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS.keys())
def test_a_word_is_expanded_as_docker_does(text: str, expected: str) -> None:
    """One word in, one word out, whatever white space the values hold."""
    assert expand_word(text, ENV) == expected


REFUSED = {
    "required and unset": ("${U:?}", "U: is not allowed to be unset"),
    "required and empty": ("${E:?}", "E: is not allowed to be empty"),
    "required with a text": ("${U?please set it}", "U: please set it"),
    "open brace": ("${V", "syntax error: missing '}'"),
    "only braces": ("${", "syntax error: missing '}'"),
    "no name": ("${}", "syntax error: bad substitution"),
    "colon first": ("${:-a}", "syntax error: bad substitution"),
    "brace twice": ("${{V}}", "syntax error: bad substitution"),
    "default left open": ("${U:-a", "syntax error: missing '}'"),
    "odd modifier": ("${V^}", "unsupported modifier (^) in substitution"),
    "colon hash": ("${V:#a}", "unsupported modifier (:#) in substitution"),
    "replace without slash": ("${V/a}", "syntax error: missing '/'"),
    "pattern escape": (r"${V#\a}", "invalid escape '\\a'"),
    "single quote open": ("'a", "unexpected end of statement while looking for matching single-quote"),
    "double quote open": ('"a', "unexpected end of statement while looking for matching double-quote"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_word_is_refused_with_what_is_wrong(text: str, message: str) -> None:
    """The sentence is BuildKit's where it has one."""
    with pytest.raises(BadSubstitution) as caught:
        expand_word(text, ENV)

    assert str(caught.value) == message


def test_values_are_split_into_words_unless_quoted() -> None:
    """As `EXPOSE $PORTS` needs it."""
    assert expand_words('$S "$S" x\\ y', ENV) == ["a", "b", "a b", "x y"]


def test_the_escape_letter_can_be_a_backtick() -> None:
    """Then a backslash is a letter like any other."""
    assert expand_word("c:\\`$V\\$V", ENV, Quoting(escape="`")) == "c:\\$V\\foobarbaz"


def test_in_a_document_quotes_are_letters() -> None:
    """Variables are replaced, an escaped dollar is not, quotes stay."""
    assert expand_document("a \"$V\" '$V' \\$V\n", ENV) == "a \"foobarbaz\" 'foobarbaz' $V\n"


def test_unknown_variables_and_quotes_can_be_kept() -> None:
    """As reading heredoc marks needs it."""
    quoting = Quoting(keep_unset=True, keep_quotes=True, keep_escapes=True)

    kept = expand_words("$U ${U} ${U:-x} \"a b\" 'c d' e\\ f", {}, quoting)

    assert kept == ["$U", "${U}", "${U:-x}", '"a b"', "'c d'", "e\\ f"]


@given(st.text(alphabet=st.characters(blacklist_characters="$\\\"'", blacklist_categories=["Cs"])))
def test_a_text_without_special_letters_is_itself(text: str) -> None:
    """Nothing else is touched."""
    assert expand_word(text, ENV) == text


@given(st.text())
def test_a_value_is_never_expanded_again(value: str) -> None:
    """What a variable holds is data."""
    assert expand_word("<${X}>", {"X": value}) == f"<{value}>"
    assert expand_word('<"$X">', {"X": value}) == f"<{value}>"


@given(st.text(alphabet="$\\\"'{}:-+?#%/aA* ", max_size=12))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    """There is no third outcome."""
    try:
        result = expand_word(text, ENV)
    except BadSubstitution:
        return

    assert isinstance(result, str)


@given(st.text(alphabet="ab/", max_size=8), st.text(alphabet="ab/*?", max_size=4))
def test_trimming_leaves_an_end_of_the_value(value: str, pattern: str) -> None:
    """What remains after `#` is an end of the value, after `%` a beginning; the longest match leaves less."""
    env = {"X": value}
    short, long = expand_word(f"${{X#{pattern}}}", env), expand_word(f"${{X##{pattern}}}", env)
    head = expand_word(f"${{X%{pattern}}}", env)

    assert value.endswith(short)
    assert short.endswith(long)
    assert value.startswith(head)


_LETTERS = st.text("ab", max_size=6)


@given(
    value=_LETTERS,
    pattern=st.text("ab*?", min_size=1, max_size=5),
    mark=st.sampled_from(["#", "##", "%", "%%"]),
)
def test_trimming_takes_the_shortest_or_longest_end_that_matches(value: str, pattern: str, mark: str) -> None:
    """Every cut of the value is tried, with the standard library's matching of file names."""
    cuts = range(len(value) + 1)
    ends = {cut: value[:cut] if mark[0] == "#" else value[len(value) - cut :] for cut in cuts}
    fitting = [cut for cut, end in ends.items() if fnmatchcase(end, pattern)]
    cut = (max(fitting) if len(mark) == 2 else min(fitting)) if fitting else 0

    found = expand_word(f"${{V{mark}{pattern}}}", {"V": value})

    assert found == (value[cut:] if mark[0] == "#" else value[: len(value) - cut])


@given(value=_LETTERS, pattern=st.text("ab*?", min_size=1, max_size=5))
def test_replacing_takes_the_first_longest_match(value: str, pattern: str) -> None:
    """As a regular expression with greedy stars does."""
    expression = pattern.replace("*", ".*").replace("?", ".")

    found = expand_word(f"${{V/{pattern}/-}}", {"V": value})

    assert found == re.sub(expression, "-", value, count=1)
