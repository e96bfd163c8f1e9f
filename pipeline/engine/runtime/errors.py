"""What can go wrong while a container is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence


class RunnerFailed(EngineError):
    """A container could not be set up; its command never ran."""


class RedirectFailed(RunnerFailed):
    """A file that a stream is redirected to or from could not be opened."""


class NoRunner(EngineError):
    """Nothing on this machine can run a container."""

    def __init__(self, tried: Sequence[tuple[str, str]]) -> None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in tried)
        super().__init__(f"cannot find a container runner: {reasons}")
        self.tried = tuple(tried)
        self.hint = "run as root with a C compiler or `runc` installed, or use `--engine dagger`"


class ExecFailed(EngineError):
    """A command ended with an exit code that was not expected; -1 when it never started.

    `stdout_tail` and `stderr_tail` are scrubbed, trimmed and at most their last 100 KiB.
    """

    exit_code: int  # type: ignore[misc] # the command's: it stands for the class's in every report

    def __init__(
        self, argv: Sequence[str], exit_code: int, *, stdout: str = "", stderr: str = "", message: str = ""
    ) -> None:
        super().__init__(message or f"exit code: {exit_code}")
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stdout_tail = stdout
        self.stderr_tail = stderr


class OutputLost(EngineError):
    """What a command wrote could not be kept; the command was stopped."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot keep the output of the command: {(error.strerror or str(error)).lower()}")
        self.code = error.errno


class OutputTooLong(EngineError):
    """More was written to a stream than one answer may hold."""

    hint = "redirect the stream to a file (`redirect_stdout`, `redirect_stderr`), and export that"

    def __init__(self, stream: str, size_bytes: int, most_bytes: int) -> None:
        super().__init__(f"cannot give `{stream}`: it has {size_bytes} bytes, and {most_bytes} are the most")
        self.stream = stream
        self.size_bytes = size_bytes


class ServiceExited(EngineError):
    """A service ended while something used it."""

    def __init__(
        self, host_name: str, alias: str, exit_code: int, *, ran_out_of_memory: bool = False
    ) -> None:
        named = f"{host_name} (aliased as {alias})" if alias else host_name
        memory = " (out of memory)" * ran_out_of_memory
        super().__init__(f"bound service {named} exited: exit code: {exit_code}{memory}")
        self.host_name = host_name
        self.code = exit_code


class NetworkFailed(EngineError):
    """A network namespace or the bridge could not be made."""
