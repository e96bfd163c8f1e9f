"""Errors as clients know them: a message, where in the query, and what an `ExecError` is made of."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from pipeline.engine.runtime.errors import ExecFailed
from pipeline.errors import EngineError
from pipeline.session.fields import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)


class FieldFailed(Exception):
    """Carries the place in a query to where the answer is made."""

    def __init__(self, path: Sequence[str | int], cause: Exception) -> None:
        super().__init__(str(cause))
        self.path = list(path)
        self.cause = cause


def error_document(problem: Exception) -> dict[str, Any]:
    """Return the element of an `errors` list; an exception that nobody expected is logged."""
    path: list[str | int] = []
    if isinstance(problem, FieldFailed):
        path, problem = problem.path, problem.cause
    if not isinstance(problem, EngineError):
        _log.error("cannot answer a query: an internal error", exc_info=problem)
        document: dict[str, Any] = {"message": f"internal error: {type(problem).__name__}: {problem}"}
    else:
        document = {"message": message_of(problem)}
    if path:
        document["path"] = path
    if extensions := extensions_of(problem):
        document["extensions"] = extensions
    return document


def message_of(problem: EngineError) -> str:
    """Return the sentence, with its advice."""
    return f"{problem} (hint: {problem.hint})" if problem.hint else str(problem)


def extensions_of(problem: Exception) -> dict[str, Any]:
    """Return what tells kinds of errors apart on the wire."""
    if isinstance(problem, ExecFailed):
        return {
            "_type": "EXEC_ERROR",
            "cmd": list(problem.argv),
            "exitCode": problem.exit_code,
            "stdout": problem.stdout_tail,
            "stderr": problem.stderr_tail,
        }
    if isinstance(problem, Unsupported):
        return {"_type": "UNSUPPORTED", "field": problem.field}
    return {}


def json_bytes(document: object) -> bytes:
    """Return JSON text, however long a chain of single fields is; lone surrogates go as escapes."""
    chain = []
    while isinstance(document, dict) and len(document) == 1:
        ((key, document),) = document.items()
        chain.append(f"{{{json.dumps(key)}:")
    try:
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        text = json.dumps(document, separators=(",", ":")).encode()
    return "".join(chain).encode() + text + b"}" * len(chain)
