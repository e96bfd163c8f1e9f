"""The one base of every error the project raises on purpose, and the exit codes of the command line.

Each class holds its data and writes its own sentence; advice stands apart in `hint`.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_ROLLED_BACK: Final = 4
EXIT_ROLLBACK_FAILED: Final = 5
EXIT_WAITING: Final = 6
EXIT_RESUMABLE: Final = 7
EXIT_DEADLINE: Final = 124
EXIT_INTERRUPTED: Final = 130


class PipelineError(Exception):
    """An error whose text is one clear sentence for the user: what, where, why."""

    exit_code: ClassVar[int] = EXIT_FAILED
    hint: str | None = None


class UsageError(PipelineError):
    """The command, the configuration or the graph is wrong; nothing was run."""

    exit_code: ClassVar[int] = EXIT_USAGE


class RefusedByPolicy(PipelineError):
    """A policy forbids what was asked for; nothing was changed."""

    exit_code: ClassVar[int] = EXIT_REFUSED


class EngineError(PipelineError):
    """The embedded engine could not do what a stage asked of it."""
