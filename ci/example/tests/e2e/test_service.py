"""The running service, as its users meet it."""

from __future__ import annotations

import httpx


def test_a_note_is_shown_on_the_page_until_it_is_removed(address: str) -> None:
    """Added and removed by HTTP, looked for on the page."""
    note = httpx.post(f"{address}/notes", json={"text": "buy milk"}).json()
    shown = httpx.get(address, params={"q": "milk"}).text
    httpx.delete(f"{address}/notes/{note['id']}").raise_for_status()

    assert "<li>buy milk</li>" in shown
    assert "<li>buy milk</li>" not in httpx.get(address).text


def test_who_adds_too_many_notes_is_told_to_wait(address: str) -> None:
    """The sixth within a minute is one too many."""
    statuses = [httpx.post(f"{address}/notes", json={"text": str(n)}).status_code for n in range(6)]

    assert (statuses[0], statuses[-1]) == (201, 429)
