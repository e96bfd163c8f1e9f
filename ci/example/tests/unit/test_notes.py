"""The service over a database in memory."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from notes.app import make_app
from notes.store import Notes


@pytest.fixture
def client() -> TestClient:
    """A client of the service."""
    return TestClient(make_app(Notes("sqlite://")))


def test_a_note_that_was_added_is_listed(client: TestClient) -> None:
    """Its id is the database's."""
    made = client.post("/notes", json={"text": "buy milk"})

    assert made.status_code == 201
    assert client.get("/notes").json() == [{"id": 1, "text": "buy milk"}]
    assert client.get("/notes/1").json() == {"id": 1, "text": "buy milk"}


def test_a_removed_note_is_gone(client: TestClient) -> None:
    """It cannot be read nor removed again."""
    client.post("/notes", json={"text": "x"})

    assert client.delete("/notes/1").status_code == 204
    assert client.get("/notes/1").status_code == 404
    assert client.delete("/notes/1").status_code == 404


def test_the_newest_note_is_listed_first(client: TestClient) -> None:
    """In the order people look for them."""
    for text in ("first", "second"):
        client.post("/notes", json={"text": text})

    assert [note["text"] for note in client.get("/notes").json()] == ["second", "first"]


def test_an_empty_note_is_refused(client: TestClient) -> None:
    """By its length."""
    assert client.post("/notes", json={"text": ""}).status_code == 422


def test_the_service_says_that_it_is_healthy(client: TestClient) -> None:
    """With its version."""
    answer = client.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")
