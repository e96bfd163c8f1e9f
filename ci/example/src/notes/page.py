"""The page of the notes, and the headers that keep browsers from doing more than showing it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from notes.store import Note

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page(notes: Sequence[Note], words: str) -> str:
    """Return the page that shows `notes`, and `words` in its search field."""
    items = "\n".join(f"<li>{escape(note.text)}</li>" for note in notes)
    return f"""<!doctype html>
<html lang="en">
<title>Notes</title>
<h1>Notes</h1>
<form><input name="q" aria-label="words" value="{escape(words)}"><button>Search</button></form>
<ul>
{items}
</ul>
</html>
"""
