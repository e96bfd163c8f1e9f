"""A run on a terminal: one line for each finished stage, and at the end what failed, why, and what to type.

`board` shows the stages at work above these lines where the terminal can be redrawn. Progress is talk and
goes to standard error; `final_report` is the result and goes where the caller wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from pipeline.graph.events import RunStarted, StageFinished, StageOutput, StageQuiet, StageRetried, StageStep
from pipeline.graph.outcome import Outcome
from pipeline.graph.plan import NOT_SELECTED
from pipeline.report.words import command_line, counted, duration
from pipeline.text import clean

if TYPE_CHECKING:
    from pipeline.graph.events import Event
    from pipeline.graph.outcome import Failure
    from pipeline.report.record import RunRecord, StageRecord

Paint: TypeAlias = Callable[[str, str], str]
"""Dress a text by a verdict ("passed", "failed", …) or by "dim" or "bold"."""

TAIL_LINES: Final = 20
LONGEST_LINE: Final = 400
VERDICT_WIDTH: Final = 9  # of the longest, "cancelled"


def plain(text: str, _: str) -> str:
    """Dress nothing."""
    return text


class Lines:
    """An observer that says each thing worth a line as it happens.

    Args:
        say: Takes one line, without its end.
        verbosity: -1 says only warnings, 0 also finished stages, 1 also container commands and output.
        has_board: A board above shows which stages are quiet.
    """

    def __init__(
        self,
        record: RunRecord,
        say: Callable[[str], None],
        *,
        paint: Paint,
        verbosity: int,
        has_board: bool = False,
    ) -> None:
        self.record = record
        self._say = say
        self._paint = paint
        self._verbosity = verbosity
        self._has_board = has_board
        self._width = 0
        self._partial: dict[tuple[str, str], str] = {}

    def __call__(self, event: Event) -> None:
        """Say what `event` is about; the record must know it already."""
        match event:
            case RunStarted():
                told = [row.name for row in event.stages if row.why != NOT_SELECTED or self._verbosity > 0]
                self._width = max(map(len, told), default=0)
            case StageFinished():
                self._flush(event.stage)
                stage = self.record.stages[event.stage]
                if self._verbosity > 0 or (self._verbosity == 0 and stage.is_selected):
                    self._say(finished_line(stage, self._width, self._paint))
            case StageRetried():
                again = f"again in {duration(event.wait_s)}" if event.wait_s else "again"
                text = f"attempt {event.attempt} failed: {_one_line(event.failure.message)}; {again}"
                self._say(self._labelled("retry", "skipped", event.stage, text))
            case StageQuiet() if not self._has_board:
                text = f"no output for {duration(event.quiet_s)}"
                self._say(self._labelled("quiet", "skipped", event.stage, text))
            case StageStep() if self._verbosity > 0:
                how = "cached" if event.cached else duration(event.duration_s)
                exit_ = f", exit code {event.exit_code}" if event.exit_code else ""
                text = f"$ {_one_line(command_line(event.argv))} ({how}{exit_})"
                self._say(self._labelled("", "dim", event.stage, text))
            case StageOutput() if self._verbosity > 0:
                self._output(event)
            case _:
                pass

    def _labelled(self, word: str, style: str, stage: str, text: str) -> str:
        return f"{self._paint(word.ljust(VERDICT_WIDTH), style)} {stage.ljust(self._width)}  {text}"

    def _output(self, event: StageOutput) -> None:
        """Say the whole lines; keep what has no end yet, so that two stages never share a line."""
        key = (event.stage, event.stream)
        *whole, rest = (self._partial.pop(key, "") + event.text).split("\n")
        self._partial[key] = rest
        for line in whole:
            self._say(self._labelled("", "dim", event.stage, clean(line)))

    def _flush(self, stage: str) -> None:
        for key in [key for key in self._partial if key[0] == stage]:
            if rest := self._partial.pop(key):
                self._say(self._labelled("", "dim", stage, clean(rest)))


def finished_line(stage: StageRecord, width: int, paint: Paint) -> str:
    """One finished stage: verdict, name, time, and the reason where it did not simply pass."""
    took = duration(stage.took_s)
    notes = ", ".join(part for part in (*stage.flags, _reason(stage)) if part)
    line = f"{paint(stage.verdict.ljust(VERDICT_WIDTH), stage.verdict)} {stage.name.ljust(width)}  {took:>6}"
    return f"{line}  {notes}".rstrip()


def _reason(stage: StageRecord) -> str:
    if stage.failure is not None:
        return _one_line(stage.failure.message)
    return "" if stage.outcome is Outcome.SUCCESS else _one_line(stage.why)


def _one_line(text: str) -> str:
    """The first line of a text, cut to what is readable."""
    first = next((line for line in clean(text).split("\n") if line.strip()), "")
    return first if len(first) <= LONGEST_LINE else first[: LONGEST_LINE - 1] + "…"


def final_report(record: RunRecord, folder: str | None, paint: Paint = plain) -> str:
    """What people need when a run is over: each bad stage's own last lines, totals, where the evidence is."""
    parts = [failure_text(stage, paint) for stage in record.bad_stages]
    total = paint(record.verdict, record.verdict)
    counts = counted(record.counts()) or "no stages"
    time = f" in {duration(record.duration_s)}" if record.finished_at is not None else ""
    lines = [f"{total}: {counts}{time}"]
    if record.message:
        lines.append(clean(record.message))
    lines += [paint(f"warning: {_one_line(line)}", "skipped") for line in record.warnings]
    lines += [paint(f"stand-in: {_one_line(line)}", "skipped") for line in record.stand_ins]
    if folder is not None:
        lines.append(paint(f"evidence: {folder}", "dim"))
    return "\n\n".join([*parts, "\n".join(lines)])


def failure_text(stage: StageRecord, paint: Paint) -> str:
    """One bad stage: sentence, command, exit code, last lines, how to do it again, advice."""
    soft = ", which the run may pass over" if stage.soft_failed else ""
    lines = [f"{paint(stage.verdict, stage.verdict)} {paint(stage.name, 'bold')}{soft}"]
    failure = stage.failure
    if failure is None:
        return "\n".join([*lines, f"  {_one_line(stage.why)}"])
    lines += [f"  {line}" for line in clean(failure.message).splitlines()]
    return "\n".join([*lines, *_details(failure, paint)])


def _details(failure: Failure, paint: Paint) -> list[str]:
    lines = []
    if failure.command:
        exit_ = "" if failure.exit_code is None else paint(f"  (exit code {failure.exit_code})", "dim")
        lines.append(f"  $ {clean(command_line(failure.command))}{exit_}")
    lines += [f"  {paint('|', 'dim')} {line}".rstrip() for line in tail_lines(failure)]
    if failure.reproduce:
        lines.append(f"  reproduce: {clean(failure.reproduce)}")
    if failure.hint:
        lines.append(f"  hint: {clean(failure.hint)}")
    return lines


def tail_lines(failure: Failure, most: int = TAIL_LINES) -> list[str]:
    """The last lines of the failing command, without what would steer a terminal."""
    lines = [line.rstrip() for text in failure.tail for line in clean(text).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines[-most:]
