"""Our parser against BuildKit's own, on Dockerfiles of the shapes people write."""

from __future__ import annotations

from pathlib import Path

import dockerfile as oracle  # type: ignore[import-not-found]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.dockerfile.lines import split_lines
from pipeline.engine.dockerfile.words import (
    parse_json_form,
    split_flags,
    split_instruction,
    split_pairs,
    split_words,
)

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))
Row = tuple[str, int, tuple[str, ...], bool, tuple[str, ...], tuple[tuple[str, str], ...]]


def _text(path: Path) -> str:
    return path.read_bytes().decode()


def _theirs(text: str) -> list[Row]:
    return [
        (
            (each.cmd or "").upper(),
            each.start_line,
            tuple(each.flags),
            each.json,
            tuple(each.value),
            tuple((doc.name, doc.content) for doc in each.heredocs),
        )
        for each in oracle.parse_string(text)
    ]


def _ours(text: str) -> list[Row]:
    source = split_lines(text, file="Dockerfile")
    rows: list[Row] = []
    for line in source.lines:
        keyword, rest = split_instruction(line.text)
        heredocs = tuple((doc.name, doc.raw) for doc in line.heredocs)
        inner = keyword
        if keyword == "ONBUILD":
            inner, rest = split_instruction(rest)
        flags, rest = split_flags(rest)
        words, is_json = _words(inner, rest, source.escape)
        if inner != keyword:  # the oracle tells neither flags nor documents of what is inside an ONBUILD
            flags, heredocs = [], ()
        rows.append((keyword, line.number, tuple(flags), is_json, words, heredocs))
    return rows


def _words(keyword: str, rest: str, escape: str) -> tuple[tuple[str, ...], bool]:
    if keyword in {"RUN", "CMD", "ENTRYPOINT", "SHELL", "ADD", "COPY", "VOLUME"}:
        words = parse_json_form(rest)
        if words is not None:
            return words, True
        return (tuple(rest.split()), False) if keyword in {"ADD", "COPY", "VOLUME"} else ((rest,), False)
    if keyword in {"ENV", "LABEL"}:
        return tuple(part for pair in split_pairs(rest, escape) for part in pair), False
    if keyword == "ARG":
        return tuple(split_words(rest, escape)), False
    if keyword in {"FROM", "EXPOSE"}:
        return tuple(rest.split()), False
    if keyword == "HEALTHCHECK":
        kind, rest = split_instruction(rest)
        words = parse_json_form(rest) if rest else None
        return ((kind, *words), True) if words is not None else ((kind, rest) if rest else (kind,), False)
    return (rest,), False


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name.split(".")[0])
def test_lines_flags_words_and_documents_are_those_buildkit_reads(path: Path) -> None:
    """Keyword, first line, flags, JSON or not, words and heredoc bodies agree for each instruction."""
    text = _text(path)

    ours = _ours(text)

    assert ours == _theirs(text)


_PIECES = st.sampled_from(
    [
        *("RUN ", "COPY ", "ENV ", "CMD ", "ARG ", "a", "b=c", " ", "\t", "\n", "\n", "\\\n", "\\"),
        *('"', "'", "#", "# x\n", "<<E", "<<-F", '<<"E"', "E", "F", "\nE\n", '["a"]', "["),
        *("--x=y ", "--from=a ", "$X", "1<<2", ","),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=14).map("".join))
def test_what_buildkit_reads_of_odd_lines_is_what_is_read_here(body: str) -> None:
    """Whatever BuildKit's reader takes, ours takes the same way; known keywords only."""
    text = "FROM x\n" + body + "\n"
    try:
        theirs = _theirs(text)
    except oracle.GoParseError:
        return

    if all(
        row[0] in {"FROM", "RUN", "COPY", "ENV", "CMD", "ARG"} and row[4] not in ((), ("",)) for row in theirs
    ):
        assert _ours(text) == theirs


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    """At least twenty files, and every instruction that exists occurs in one of them."""
    keywords = {row[0] for path in CORPUS for row in _ours(_text(path))}

    assert len(CORPUS) >= 20
    assert keywords == {
        "FROM", "ARG", "ENV", "LABEL", "RUN", "COPY", "ADD", "CMD", "ENTRYPOINT", "SHELL", "WORKDIR",
        "USER", "EXPOSE", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ONBUILD", "MAINTAINER",
    }  # fmt: skip
