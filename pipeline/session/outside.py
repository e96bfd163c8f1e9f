"""Runs a command with a session whose engine is a process of its own.

The engine of an ordinary user becomes root of a user namespace, which the command is not to see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_LIMIT_S = 30


class NoSession(EngineError):
    """The engine of the session did not start; it has said why on stderr."""

    def __init__(self) -> None:
        super().__init__("cannot run the command: the engine did not start")


def run_outside(options: Sequence[str], argv: Sequence[str], *, workdir: str, events: int | None) -> int:
    """Run `argv` with the variables of a session that is opened with `options`; return its exit code.

    Raises:
        NoSession: The engine does not start.
        OSError: The command cannot be started.
    """
    engine = subprocess.Popen(
        [sys.executable, "-m", "pipeline.session", "session", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=() if events is None else (events,),
        start_new_session=True,  # the terminal's interrupt is for the command
    )
    with engine:
        assert engine.stdout is not None  # noqa: S101 - made with a pipe
        assert engine.stdin is not None  # noqa: S101
        line = engine.stdout.readline()
        if not line:
            raise NoSession
        told = json.loads(line)
        session = {
            "DAGGER_SESSION_PORT": str(told["port"]),
            "DAGGER_SESSION_TOKEN": told["session_token"],
        }
        try:
            code = _run(argv, workdir, session)
        finally:
            engine.stdin.close()
            engine.wait(_END_LIMIT_S)
    return code


def _run(argv: Sequence[str], workdir: str, session: dict[str, str]) -> int:
    child = subprocess.Popen(argv, cwd=workdir, env={**os.environ, **session})
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    ended = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, ended)
    return code if code >= 0 else 128 - code
