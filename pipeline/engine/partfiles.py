"""Notes of the unfinished files in folders of the user, so that none outlives a killed engine for long.

A note is locked as long as its writer lives; whoever finds one that is not locked removes what it tells of.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pipeline.engine.locks import try_lock
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class PartNotNoted(EngineError):
    """The store has no room for the note of an export."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(f"cannot note an export in `{folder}`: {(error.strerror or str(error)).lower()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFiles:
    """The notes of one store, each a file in `folder`."""

    folder: Path

    @contextlib.contextmanager
    def named(self, *folders: Path, below: bool) -> Iterator[str]:
        """Lend a file name, used by nobody else, for what is not whole yet.

        It may be used in `folders`, with `below` also in all that is below them.

        Raises:
            PartNotNoted: The note cannot be written.
        """
        key = secrets.token_hex(8)
        note = self.folder / key
        text = json.dumps({"folders": [os.fspath(folder) for folder in folders], "below": below})
        with contextlib.closing(self._noted(note, text)):
            try:
                yield _part_name(key)
            finally:
                note.unlink(missing_ok=True)

    def _noted(self, note: Path, text: str) -> TextIO:
        """Write a note, and return it open: it stays locked until it is closed."""
        try:
            self.folder.mkdir(exist_ok=True)
            stream = open(note, "x")  # noqa: SIM115 - the caller closes it
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
                stream.write(text)
                stream.flush()
            except BaseException:
                note.unlink(missing_ok=True)
                stream.close()
                raise
        except OSError as error:
            raise PartNotNoted(self.folder, error) from error
        return stream

    def sweep(self) -> None:
        """Remove what writers left that were killed.

        Raises:
            OSError: Something of it cannot be removed.
        """
        try:
            notes = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return
        for note in notes:
            with contextlib.suppress(FileNotFoundError), open(note) as stream:
                # One that is still empty belongs to a writer that is about to lock it.
                if try_lock(stream.fileno()) and (text := stream.read()):
                    told = json.loads(text)
                    _remove(_part_name(note.name), told["folders"], below=told["below"])
                    note.unlink(missing_ok=True)


def _part_name(key: str) -> str:
    return f".{key}.part"


def _remove(name: str, folders: Sequence[str], *, below: bool) -> None:
    for folder in folders:
        inside = (found for found, _, _ in os.walk(folder)) if below else iter([folder])
        for path in inside:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(f"{path}/{name}")
