"""The notes in PostgreSQL, and the limit counted in Redis: what stand-ins in memory would not notice."""

from __future__ import annotations

import os

import pytest

from notes.limits import limit_at
from notes.store import Notes


@pytest.fixture
def notes() -> Notes:
    """The notes in PostgreSQL."""
    return Notes(os.environ["DATABASE_URL"])


def test_a_note_survives_the_connection(notes: Notes) -> None:
    """Another process finds it."""
    made = notes.add("buy milk")

    assert Notes(os.environ["DATABASE_URL"]).find(made.id) == made


def test_search_does_not_mind_case_nor_patterns(notes: Notes) -> None:
    """`%` stands for itself."""
    made = notes.add("100% Wool")

    assert notes.search("0% wOOl") == [made]
    assert notes.search("1%w") == []


def test_a_client_may_add_so_many_notes_and_others_are_not_disturbed() -> None:
    """The count is kept in Redis."""
    limit = limit_at(os.environ["REDIS_URL"], most=2)

    allowed = [limit.allows("10.0.0.1") for _ in range(3)]

    assert allowed == [True, True, False]
    assert limit.allows("10.0.0.2")
