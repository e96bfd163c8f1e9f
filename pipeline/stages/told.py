"""How bad tests and a broken runner are told to people: the runner's own words, and the last output. Pure."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Final

from pipeline.graph.context import CheckFailed
from pipeline.graph.outcome import Failure
from pipeline.stages.containers import StageBroken
from pipeline.stages.notes import PLACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.junit import TestCase, TestResults

NO_PROGRAM: Final = re.compile(
    r"FileNotFoundError: \[Errno 2\] No such file or directory: [\"']([\w.+-]+)[\"']\s*$", re.MULTILINE
)
LINES: Final = 20  # people are shown
LONGEST_LINE: Final = 1000
OUTPUT_LINES: Final = 5  # of what the first bad test wrote
NAMES_TOLD: Final = 8
TAIL_LINES: Final = 15  # of a runner that broke
NO_TESTS: Final = 5  # pytest's exit code when it collected nothing
SIGNALS: Final = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "it aborted",
    signal.SIGKILL: "often for want of memory",
}

# Sent by somebody: the kernel for want of memory, a supervisor, a test to its group. Nobody can tell which.
FROM_OUTSIDE: Final = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
KILLED_HINT: Final = "`exec_max_memory` in [tool.pipeline.engine] says what one command may take"


class RunnerKilled(StageBroken):
    """Somebody killed the test runner before any test failed: whether the tests are bad, nobody can say."""


def failure(
    argv: Sequence[str],
    code: int,
    results: TestResults | None,
    tail: Sequence[str],
    *,
    running: Sequence[str] = (),
    problem: str = "",
) -> Exception:
    """Return the error for a runner that ended with `code`: tests failed, or it did not get to run them.

    Args:
        results: What it reported; None without a report that can be read.
        tail: Its last lines.
        running: The tests that were going on when it ended before its time.
        problem: Why there is no report, where there is more to say than that it is missing.
    """
    bad = results.bad if results is not None else ()
    if running:
        more = f" and {len(running) - 1} more" if len(running) > 1 else ""
        message = f"the test runner {ending(code)} while {running[0]}{more} ran"
        if is_from_outside(code) and not any(one.kind == "failure" for one in bad):
            killed = RunnerKilled(message)
            killed.hint = _hint(code, ()) or None
            return killed
        tail = [*last_words(tail), *_names([one for one in bad if one.kind != "error"][:NAMES_TOLD])]
    elif code == NO_TESTS and not bad:
        message = "no tests were collected, although the project has test files"
    elif not bad or results is None:
        message = f"the test runner {ending(code)}"
        if results is None:
            raised = next((line[1:].strip() for line in tail if line.startswith("E ")), "")
            why = problem or "left no report" + (f": {raised}" if raised else "")
            return StageBroken(f"{message} and {why}")
    else:
        message = f"{len(bad)} of {results.tests} tests failed; first: {test_name(bad[0])}: {what(bad[0])}"
        tail = told(bad)
    return CheckFailed(
        Failure(
            message=message,
            error_class="TestsFailed",
            command=tuple(argv),
            exit_code=code,
            tail=tuple(tail),
            hint=_hint(code, bad),
        )
    )


def last_words(tail: Sequence[str]) -> list[str]:
    """Return what a runner said last; of an interpreter's crash report the beginning, which says where."""
    start = next((at for at, line in enumerate(tail) if line.startswith("Fatal Python error")), None)
    return list(tail[-TAIL_LINES:] if start is None else tail[start : start + TAIL_LINES])


def is_out_of_memory(code: int) -> bool:
    """Say whether a command ended as the kernel ends those that take too much memory."""
    return code == 128 + signal.SIGKILL


def is_from_outside(code: int) -> bool:
    """Say whether a signal ended a command that it does not send itself when it crashes."""
    return code - 128 in FROM_OUTSIDE


def ending(code: int) -> str:
    """Say how a command ended: by an exit code, or by which signal (128 and its number)."""
    try:
        killer = signal.Signals(code - 128)
    except ValueError:
        return f"ended with exit code {code}"
    why = f" ({SIGNALS[killer]})" if killer in SIGNALS else ""
    return f"was killed by {killer.name}{why}"


def _hint(code: int, bad: Sequence[TestCase]) -> str:
    if is_out_of_memory(code):
        return KILLED_HINT
    return missing_programs(bad)


def missing_programs(bad: Sequence[TestCase]) -> str:
    """Return what helps when tests call programs that the image has not; "" when none is missing."""
    names = sorted({name for one in bad for name in NO_PROGRAM.findall(one.text)})
    if not names:
        return ""
    return (
        f"the image has no {' and no '.join(f'`{name}`' for name in names[:3])}: Debian packages are added "
        "by `system_packages` in [tool.pipeline.stages.deps]"
    )


def test_name(case: TestCase) -> str:
    """Return a test's name as pytest takes it."""
    module = case.file.removesuffix(".py").replace("/", ".")
    if case.file and case.name == module:
        return case.file  # it could not even be imported
    if case.file and (case.suite == module or case.suite.startswith(module + ".")):
        classes = case.suite.removeprefix(module).strip(".").split(".")
        return "::".join(part for part in (case.file, *classes, case.name) if part)
    return "::".join(part for part in (case.file or case.suite.replace(".", "/"), case.name) if part)


test_name.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name says


def what(case: TestCase) -> str:
    """Return what went wrong with a test, as one line."""
    lines = [line for line in case.text.splitlines() if line.startswith("E ")]
    if case.message == "collection failure" and lines:  # pytest's word for whatever the file raised
        return lines[-1][1:].strip()
    return case.message.partition("\n")[0]


def told(bad: Sequence[TestCase]) -> list[str]:
    """Return the last lines of the first bad test, what it wrote, and the names of all: what people read."""
    output = [line for line in bad[0].output.splitlines() if line.strip()][-OUTPUT_LINES:]
    names = _names(bad)
    text = bad[0].text.splitlines()[-(LINES - len(output) - len(names)) :]
    return [line[:LONGEST_LINE] for line in (*text, *output, *names)]


def _names(bad: Sequence[TestCase]) -> list[str]:
    more = [f"and {len(bad) - NAMES_TOLD} more"] if len(bad) > NAMES_TOLD else []
    return [_line(one) for one in bad[:NAMES_TOLD]] + more


def _line(case: TestCase) -> str:
    from pipeline.junit import FLAKY

    place = case.properties.get(PLACE) or (f"{case.file}:{case.line}" if case.file and case.line else "")
    word = "ERROR" if case.kind == "error" else "FAILED"
    flaky = f", flaky: {why}" if (why := case.properties.get(FLAKY)) else ""
    return f"{word} {test_name(case)}{f' ({place})' if place else ''}{flaky}"
