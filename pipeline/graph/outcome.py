"""How a stage or a run ended: OpenTelemetry's six results, and flags beside them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The six results of the OpenTelemetry CI/CD conventions."""

    SUCCESS = "success"
    FAILURE = "failure"  # what was checked is bad: a test failed, a build broke
    ERROR = "error"  # the check itself could not be made
    TIMEOUT = "timeout"
    SKIP = "skip"
    CANCELLATION = "cancellation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a stage did not succeed, as people need it: sentence, command, last lines, what to type."""

    message: str
    error_class: str = ""
    command: tuple[str, ...] = ()
    exit_code: int | None = None
    tail: tuple[str, ...] = ()  # the command's own last lines of output
    reproduce: str = ""
    hint: str = ""
