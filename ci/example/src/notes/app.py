"""The web service: routes over `Notes`; the database's address comes from `DATABASE_URL`."""

from __future__ import annotations

import os
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from notes.store import Notes


class NewNote(BaseModel):
    """The body of a request that adds a note."""

    text: str = Field(min_length=1, max_length=10_000)


def make_app(notes: Notes) -> FastAPI:
    """Return the service over `notes`."""
    app = FastAPI(title="notes", version=version("notes"))

    @app.get("/health")
    def health(response: Response) -> dict[str, str]:
        try:
            notes.check()
        except SQLAlchemyError:
            response.status_code = 503
            return {"status": "database unreachable"}
        return {"status": "healthy", "version": version("notes")}

    @app.get("/notes")
    def list_notes() -> list[dict[str, Any]]:
        return [asdict(note) for note in notes.list()]

    @app.post("/notes", status_code=201)
    def add_note(new: NewNote) -> dict[str, Any]:
        return asdict(notes.add(new.text))

    @app.get("/notes/{note_id}")
    def get_note(note_id: int) -> dict[str, Any]:
        note = notes.find(note_id)
        if note is None:
            raise HTTPException(404, f"there is no note {note_id}")
        return asdict(note)

    @app.delete("/notes/{note_id}", status_code=204)
    def remove_note(note_id: int) -> None:
        if not notes.remove(note_id):
            raise HTTPException(404, f"there is no note {note_id}")

    return app


def main_app() -> FastAPI:
    """Return the service on the database of the environment; the factory uvicorn calls."""
    return make_app(Notes(os.environ.get("DATABASE_URL", "sqlite:///notes.db")))
