"""Globs as regular expressions: the same answers as the plain ones, in bounded time."""

from __future__ import annotations

import random
import re
import time

import pytest

from pipeline.engine.gitignore import parse_gitignore
from pipeline.engine.patterns import PatternMatcher
from pipeline.globs import compile_globs
from pipeline.wildcards import ONE_SEGMENT, join_wildcards

DIALECTS = ((ONE_SEGMENT, ".*", "(?:.*/)?"), (ONE_SEGMENT, ".*", "(?:[^/]+/)*"))
FIXED = ("a", "b", "/", "[^/]", "[ab]", "[^a/]", "ab")


@pytest.mark.parametrize("wild", DIALECTS, ids=["moby-and-git", "inputs"])
@pytest.mark.parametrize("seed", range(8))
def test_the_answers_are_those_of_the_plain_expression(seed: int, wild: tuple[str, ...]) -> None:
    """4,000 random globs, each asked about 40 random paths."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    for _ in range(250):
        tokens = chance.choices((*FIXED, *wild, *wild), k=chance.randrange(1, 9))
        plain = re.compile("".join(tokens), re.DOTALL)
        joined = re.compile(join_wildcards(tokens), re.DOTALL)

        for _ in range(40):
            parts = ["".join(chance.choices("ab", k=chance.randrange(1, 4))) for _ in range(5)]
            path = "/".join(parts[: chance.randrange(1, 6)])
            assert bool(joined.fullmatch(path)) == bool(plain.fullmatch(path)), (tokens, path)


@pytest.mark.parametrize("token", ["[a/]", "[ -~]", "[.-0]"])
def test_a_class_matches_no_slash(token: str) -> None:
    """Neither one that names it nor one whose range holds it."""
    found = [bool(re.fullmatch(join_wildcards(["x", token, "y"]), f"x{char}y")) for char in "/.~0a"]

    plain = [bool(re.fullmatch(token, char)) for char in "/.~0a"]
    assert found == [False, *plain[1:]]


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*a" * 30 + "b", "a" * 200),
        ("**/" + "*a" * 30 + "b", "a/" * 100 + "a" * 100),
        ("**/a/" * 30 + "b", "a/" * 200 + "c"),
        ("**/*a/" * 20 + "b", "aa/" * 200 + "c"),
        ("a**" * 20 + "b", "a" * 300),
        ("[!b]*" * 30 + "x", "a" * 300),
        ("*[ -~]" * 30 + "x", "a" * 300),
        ("**/[ -~]/" * 30 + "x", "a/" * 200 + "b"),
    ],
)
def test_no_glob_takes_for_ever(glob: str, path: str) -> None:
    """A repository's own ignore file must not be able to stop a run."""
    began = time.monotonic()

    found = (
        compile_globs((glob,))(path),
        PatternMatcher([glob.replace("[!", "[^")]).matches(path),
        parse_gitignore(glob).verdict(path, is_dir=False),
    )

    assert found == (False, False, None)
    assert time.monotonic() - began < 20
