"""How much of what is planted is found, and how little else, on projects drawn by lot."""

from __future__ import annotations

import pytest

from pipeline.scan.secrets.engine import shared_engine
from tests.unit.scan.secrets.corpus import make_corpus
from tests.unit.scan.secrets.kinds import NAMED, TOKENS, Corpus
from tests.unit.scan.secrets.look_alikes import LOOK_ALIKES
from tests.unit.scan.secrets.whole.corpus import make_whole
from tests.unit.scan.secrets.whole.tokens import TOKENS as WHOLE_TOKENS


def judge(corpus: Corpus) -> tuple[list[str], list[str]]:
    """What was missed and what was told wrongly; a hit counts on the line or the line above."""
    missed, wrong = [], []
    for path, text in corpus.files.items():
        hits = shared_engine().find(text, path)
        lines = {hit.line for hit in hits}
        secrets = {mark.line: mark for mark in corpus.secrets if mark.path == path}
        missed += [
            f"{mark.kind} {path}:{line}" for line, mark in secrets.items() if not {line, line - 1} & lines
        ]
        near = {*secrets, *(line - 1 for line in secrets)}
        wrong += [f"{hit.rule} {path}:{hit.line}" for hit in hits if hit.line not in near]
    return missed, wrong


def test_the_corpus_is_large_and_the_same_every_time() -> None:
    """Over 75 kinds of secrets, over 30 of look-alikes, in many kinds of files."""
    corpus = make_corpus(7)

    kinds = {mark.kind for mark in corpus.secrets}
    assert len(kinds) > 110
    assert len({mark.kind for mark in corpus.decoys}) > 40
    assert len(TOKENS) + len(NAMED) > 75
    assert len(LOOK_ALIKES) >= 25
    assert make_corpus(7).files == corpus.files


@pytest.mark.parametrize("seed", range(5001, 5009))
def test_recall_and_precision_are_high_on_projects_nobody_looked_at(seed: int) -> None:
    """At most three in a hundred secrets are missed, and at most three in a hundred reports are wrong."""
    corpus = make_corpus(seed)

    missed, wrong = judge(corpus)

    assert len(missed) <= 0.03 * len(corpus.secrets), missed
    assert len(wrong) <= 0.03 * len(corpus.secrets), wrong


def test_the_corpus_of_whole_files_holds_more_harmless_lines_than_secrets() -> None:
    """Over 80 forms of vendors and 150 files of credentials; the same every time."""
    corpus = make_whole(7)

    assert len(WHOLE_TOKENS) > 80
    assert len(corpus.secrets) > 240
    assert len(corpus.decoys) > len(corpus.secrets)
    assert make_whole(7).files == corpus.files


@pytest.mark.parametrize("seed", range(6001, 6005))
def test_recall_and_precision_are_high_on_whole_files_too(seed: int) -> None:
    """Places and values of other shapes: the same three in a hundred."""
    corpus = make_whole(seed)

    missed, wrong = judge(corpus)

    assert len(missed) <= 0.03 * len(corpus.secrets), missed
    assert len(wrong) <= 0.03 * len(corpus.secrets), wrong


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        pytest.param("db.yaml", "api_key: ", "  # of the staging account", id="two-letters-are-no-language"),
        pytest.param("a.xml", "<url>jdbc:postgresql://db/x?user=a&amp;password=", "</url>", id="entity"),
        pytest.param("a.sql", "ALTER USER app IDENTIFIED BY '", "';", id="identified-by"),
        pytest.param("a.sql", "CREATE USER a IDENTIFIED WITH mysql_native_password BY '", "';", id="with"),
        pytest.param("a.py", 'headers = {"Authorization": "Token ', '"}', id="token-in-a-header"),
        pytest.param("a.hcl", 'unseal_key = "', '"', id="unseal-key"),
        pytest.param("a.yaml", "password:\n    ", "\nport: 1", id="on-the-next-line"),
        pytest.param("a.yaml", "password: ${DB_PASSWORD:-", "}", id="default-of-a-placeholder"),
        pytest.param("a.py", 'server.login("robot@acme.dev", "', '")', id="second-argument"),
        pytest.param("A.java", 'DriverManager.getConnection(url, "app", "', '")', id="third-argument"),
        pytest.param("a.ts", "const s = process.env.JWT_SECRET || '", "';", id="fallback"),
        pytest.param("a.md", "The password is `", "`, ask before you change it.", id="sentence"),
    ],
)
def test_secrets_in_places_that_are_easily_passed_over(path: str, before: str, after: str) -> None:
    """The same value is found in each; in a translation it would be a word."""
    value = "".join(("4TFbY3", "pflkwyQ9", "xZt7Lm"))

    found = [hit.value for hit in shared_engine().find(f"{before}{value}{after}\n", path)]

    assert found == [value]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("a.yaml", "password: ${DB_PASSWORD:-changeme}", id="placeholder"),
        pytest.param("a.yaml", "password: ${DB_PASSWORD:?set it}", id="message-of-a-placeholder"),
        pytest.param("a.yaml", "password:\n    minLength: 12", id="a-table-on-the-next-line"),
        pytest.param("a.py", 'server.login("robot@acme.dev", password)', id="argument-by-name"),
        pytest.param("a.ts", "const s = process.env.JWT_SECRET || 'development';", id="word"),
        pytest.param("a.md", "The password is `changeme`.", id="sentence"),
        pytest.param("de.yaml", 'password: "Kennwort eingeben"', id="translation"),
    ],
)
def test_places_that_hold_no_secret(path: str, line: str) -> None:
    """The places of secrets without one in them."""
    assert shared_engine().find(line + "\n", path) == []
