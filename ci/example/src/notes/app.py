"""The web service: routes over `Notes`; where it keeps them comes from the environment."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from notes.limits import Limit, limit_at
from notes.page import HEADERS, page
from notes.store import Notes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NoteId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Words = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")]
MISSING: dict[int | str, dict[str, Any]] = {404: {"description": "there is no such note"}}


class NewNote(BaseModel):
    """The body of a request that adds a note."""

    text: str = Field(min_length=1, max_length=10_000, pattern=r"^[^\x00]*$")


def make_app(notes: Notes, limit: Limit | None = None) -> FastAPI:
    """Return the service over `notes`; without `limit` a client may add as many as it likes."""
    app = FastAPI(title="notes", version=version("notes"), docs_url=None, redoc_url=None)

    @app.middleware("http")
    async def add_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/health", responses={503: {"description": "the database does not answer"}})
    def health(response: Response) -> dict[str, str]:
        try:
            notes.check()
        except SQLAlchemyError:
            response.status_code = 503
            return {"status": "database unreachable"}
        return {"status": "healthy", "version": version("notes")}

    @app.get("/", response_class=HTMLResponse)
    def show_page(q: Words = "") -> str:
        return page(notes.search(q), q)

    @app.get("/notes")
    def list_notes() -> list[dict[str, Any]]:
        return [asdict(note) for note in notes.list()]

    @app.post("/notes", status_code=201, responses={429: {"description": "too many notes in this minute"}})
    def add_note(new: NewNote, request: Request) -> dict[str, Any]:
        client = request.client.host if request.client else ""
        if limit is not None and not limit.allows(client):
            raise HTTPException(429, "too many notes in this minute")
        return asdict(notes.add(new.text))

    @app.get("/notes/{note_id}", responses=MISSING)
    def get_note(note_id: NoteId) -> dict[str, Any]:
        note = notes.find(note_id)
        if note is None:
            raise HTTPException(404, f"there is no note {note_id}")
        return asdict(note)

    @app.delete("/notes/{note_id}", status_code=204, responses=MISSING)
    def remove_note(note_id: NoteId) -> None:
        if not notes.remove(note_id):
            raise HTTPException(404, f"there is no note {note_id}")

    return app


def main_app() -> FastAPI:
    """Return the service as the environment says; the factory uvicorn calls.

    `DATABASE_URL` names the database, `REDIS_URL` where added notes are counted, `NOTES_A_MINUTE` how many
    each client may add.
    """
    notes = Notes(os.environ.get("DATABASE_URL", "sqlite:///notes.db"))
    address = os.environ.get("REDIS_URL")
    limit = limit_at(address, int(os.environ.get("NOTES_A_MINUTE", "60"))) if address else None
    return make_app(notes, limit)
