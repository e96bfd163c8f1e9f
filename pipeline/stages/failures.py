"""How a build that failed is told to people: one sentence that says where, and the last lines. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.graph.outcome import Failure
from pipeline.stages.told import KILLED_HINT, ending, is_out_of_memory

if TYPE_CHECKING:
    import dagger

STDOUT_LINES: Final = 10  # of what a command wrote before it failed
STDERR_LINES: Final = 30
LONGEST: Final = 100  # characters of an instruction in a sentence
# The engine's own words, and BuildKit's, for what is wrong with the file itself or with what it names.
OF_FILE: Final = re.compile(r"cannot (?:parse|build|read) `(?P<file>[^`]*)`(?: line (?P<line>\d+))?: ")
OF_NAMES: Final = re.compile(
    r"dockerfile parse error (?:on )?line (?P<line>\d+)|failed to (?:calculate checksum|compute cache key)"
    r"|^cannot find (?:user|group) `"
)
OF_COMMAND: Final = re.compile(r".* line (?P<line>\d+): (?P<instruction>.*)", re.DOTALL)
HEADLINE: Final = re.compile(r"^(?:ERROR:? |[\w.]*(?:Error|Exception): )")
SAYS_NOTHING: Final = re.compile(r"^ERROR (?:Backend subprocess exited|Command '\[)")
ADVICE: Final = "TIP "  # how `build` tells of its own options


def dockerfile_failure(error: dagger.QueryError, path: str, text: str) -> Failure | None:
    """Return what is wrong with a Dockerfile or one of its commands; None when the fault is not there.

    Args:
        path: The Dockerfile, from the project's root.
        text: What it says.
    """
    import dagger

    if isinstance(error, dagger.ExecError):
        return _of_command(error, path, text)
    message, _, hint = str(error).partition(" (hint: ")
    if (found := OF_FILE.match(message)) is not None:
        message = f"{message[: found.start('file')]}{path}{message[found.end('file') :]}"
    elif (found := OF_NAMES.search(message)) is not None:
        message = f"cannot build `{path}`: {message}"
    else:
        return None
    number = found.groupdict().get("line")
    return Failure(
        message=message,
        error_class="DockerfileBroken",
        tail=_line(text, int(number)) if number else (),
        hint=hint.removesuffix(")"),
    )


def _of_command(error: dagger.ExecError, path: str, text: str) -> Failure:
    said = error.message.removesuffix(f": exit code: {error.exit_code}")
    found = OF_COMMAND.fullmatch(said)
    shown = tuple(last_lines(error.stdout, error.stderr))
    if found is None:
        command = " ".join(str(word) for word in error.command)
        message = f"cannot build `{path}`: `{_short(command)}` {ending(error.exit_code)}"
    else:
        instruction, number = _short(found["instruction"]), found["line"]
        what = f"`{instruction}` {ending(error.exit_code)}" if error.exit_code >= 0 else instruction
        message = f"cannot build `{path}` line {number}: {what}"
        shown = shown or _line(text, int(number))
    return Failure(
        message=message,
        error_class="DockerfileBroken",
        exit_code=error.exit_code,
        tail=shown,
        hint=KILLED_HINT if is_out_of_memory(error.exit_code) else "",
    )


def build_failure(error: dagger.ExecError) -> Failure:
    """Return why the build of the distributions failed, in the backend's own words where it has some."""
    lines = [one for one in last_lines(error.stdout, error.stderr) if not one.startswith(ADVICE)]
    command = tuple(str(word) for word in error.command)
    message = f"the build {ending(error.exit_code)}"
    headlines = [one for one in lines if HEADLINE.match(one) and not SAYS_NOTHING.match(one)]
    if headlines and error.exit_code < 128:
        words = headlines[-1].removeprefix("ERROR:").removeprefix("ERROR ").rstrip(".")
        message = f"{message}: {_short(words)}"
    return Failure(
        message=message,
        error_class="BuildFailed",
        command=command,
        exit_code=error.exit_code,
        tail=tuple(lines),
        hint=KILLED_HINT if is_out_of_memory(error.exit_code) else "",
    )


def last_lines(stdout: str, stderr: str) -> list[str]:
    """Return the last lines of both streams, standard error last."""
    return [*stdout.rstrip().splitlines()[-STDOUT_LINES:], *stderr.rstrip().splitlines()[-STDERR_LINES:]]


def _line(text: str, number: int) -> tuple[str, ...]:
    lines = text.splitlines()
    return (f"{number} | {lines[number - 1]}",) if 0 < number <= len(lines) else ()


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
