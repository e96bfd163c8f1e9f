"""What a note must not be able to do."""

from __future__ import annotations

import httpx


def test_a_note_is_text_and_never_markup(address: str) -> None:
    """A script in a note is shown, and not run."""
    httpx.post(f"{address}/notes", json={"text": "<script>alert(1)</script>"}).raise_for_status()

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in httpx.get(address).text


def test_browsers_are_told_to_run_no_scripts(address: str) -> None:
    """Should a note become markup after all."""
    policy = httpx.get(address).headers["content-security-policy"]

    assert "default-src 'none'" in policy
