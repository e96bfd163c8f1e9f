"""The live board: the stages at work, redrawn in place; finished ones become lines that stay above it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.report.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import RenderableType

    from pipeline.report.record import RunRecord, StageRecord

REDRAWS_PER_SECOND = 8
# Lines of the terminal that the board leaves free: its own total, a cut mark, and one for the cursor.
RESERVED_LINES = 3
GAPS = 3  # blanks between the columns of a row


def board_console() -> Console:
    """A console on standard error that leaves the cursor alone."""

    class PlainCursor(Console):
        # A hidden cursor would stay hidden when a second interrupt ends the process by force.
        def show_cursor(self, show: bool = True) -> bool:
            return False

    return PlainCursor(stderr=True)


class Board:
    """A context manager that draws `record` until it is left; `say` writes a line above it."""

    def __init__(
        self, record: RunRecord, console: Console, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._record = record
        self._console = console
        self._clock = clock
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self.draw,
            console=console,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,  # what stays is said in lines; a cut-off board in the scrollback helps nobody
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Board:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Write a line that stays, above the board."""
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def draw(self) -> RenderableType:
        """The board now: a row for each stage at work, and the totals."""
        now = self._clock()
        stages = [stage for stage in self._record.stages.values() if stage.is_selected]
        running = [stage for stage in stages if stage.state == "running"]
        shown = running[: max(self._console.height - RESERVED_LINES, 1)]
        rows = Table.grid(padding=(0, 1))
        rows.add_column(width=1)
        rows.add_column(no_wrap=True)
        rows.add_column(justify="right", no_wrap=True)
        rows.add_column(no_wrap=True)
        clocks = [_clock_of(stage, now) for stage in shown]
        taken = [max(map(len, column), default=0) for column in ([one.name for one in shown], clocks)]
        # Cut here: a table that is too wide would take its room from the other columns as well.
        room = max(self._console.width - sum(taken) - 1 - GAPS, 1)
        for stage, clock in zip(shown, clocks, strict=True):
            note = _note(stage)
            note.truncate(room, overflow="ellipsis")
            rows.add_row(self._spinner, stage.name, Text(clock), note)
        parts: list[RenderableType] = [rows] if shown else []
        if len(running) > len(shown):
            parts.append(Text(f"… and {len(running) - len(shown)} more", style="dim"))
        parts.append(Text(self._total(stages, len(running), now), style="dim", no_wrap=True))
        return Group(*parts)

    def _total(self, stages: list[StageRecord], running: int, now: float) -> str:
        done = sum(stage.state == "done" for stage in stages)
        waiting = len(stages) - done - running
        elapsed = duration(now - self._record.started_at) if self._record.started_at else ""
        parts = [f"{done} of {len(stages)} done", f"{running} running", f"{waiting} waiting", elapsed]
        return " · ".join(part for part in parts if part)


def _clock_of(stage: StageRecord, now: float) -> str:
    """Time at work, and the usual time where history knows it."""
    elapsed = duration(max(now - (stage.started_at or now), 0.0))
    return f"{elapsed} of ~{duration(stage.expected_s)}" if stage.expected_s else elapsed


def _note(stage: StageRecord) -> Text:
    """The stage's last line; that it is quiet, or tried again, comes first."""
    text = Text(style="dim")
    if stage.attempt > 1:
        text.append(f"attempt {stage.attempt} ", style="yellow")
    if stage.quiet_s:
        text.append(f"no output for {duration(stage.quiet_s)} ", style="yellow")
    text.append(stage.last_line)
    return text
