"""What is known while a run goes: who runs, how each stage ended; telling it, scrubbed, to all who listen."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.decide import Standing
from pipeline.graph.events import StageFinished, StageOutput, StageQuiet, StageStep
from pipeline.graph.outcome import Outcome
from pipeline.graph.record import FolderBroken
from pipeline.graph.scrub import Scrubber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.graph.events import Event
    from pipeline.graph.record import RunFolder

TAIL_LINES: Final = 30


@dataclass(kw_only=True)
class Live:
    """A stage that is being run; its times are of the monotonic clock, which nobody sets."""

    began: float
    why: str
    attempts: int = 0
    last_output: float = 0.0
    warned_s: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class Ledger:
    """The state of a run's stages. All methods are synchronous: state changes happen between awaits."""

    def __init__(
        self,
        folder: RunFolder,
        observers: Sequence[Callable[[Event], None]],
        on_broken: Callable[[FolderBroken], None],
    ) -> None:
        self.folder = folder
        self.observers = list(observers)
        self.on_broken = on_broken
        self.scrubber = Scrubber()
        self.live: dict[str, Live] = {}
        self.finished: dict[str, StageFinished] = {}
        self.done: dict[str, Standing] = {}
        self.problems: list[str] = []
        self.broken: FolderBroken | None = None

    def begin(self, name: str, why: str) -> Live:
        """Note that a stage is being worked on."""
        self.live[name] = Live(began=time.monotonic(), why=why)
        return self.live[name]

    def emit(self, event: Event) -> None:
        """Give an event, scrubbed, to the run folder and then to every observer."""
        event = self.scrubber.value(event)
        if isinstance(event, (StageOutput, StageStep)) and (live := self.live.get(event.stage)) is not None:
            live.last_output = time.monotonic()
            live.warned_s = 0.0
            if isinstance(event, StageOutput):
                live.tail.extend(line for line in event.text.splitlines() if line.strip())
        if self.broken is None:
            try:
                self.folder.write(event)
            except FolderBroken as error:
                self.broken = error
                self.on_broken(error)
        for observer in tuple(self.observers):
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001 - a view must not harm the run
                self.observers.remove(observer)
                name = getattr(observer, "__qualname__", type(observer).__qualname__)
                self.problems.append(f"the observer `{name}` failed: {type(error).__name__}: {error}")

    def ending(self, name: str, outcome: Outcome, why: str, **more: Any) -> StageFinished:
        """The event of a stage that ends now, noted."""
        live = self.live.get(name)
        ended = StageFinished(
            at=time.time(),
            stage=name,
            outcome=outcome,
            why=why,
            duration_s=time.monotonic() - live.began if live else 0.0,
            attempts=live.attempts if live else 0,
            **more,
        )
        event = self.scrubber.value(ended)
        self.finished.pop(name, None)
        self.finished[name] = event
        return event

    def settle(self, event: StageFinished) -> None:
        """Note what a stage's end means to the others, and tell it."""
        if event.outcome is Outcome.SUCCESS:
            standing = Standing.GOOD
        elif event.outcome is Outcome.SKIP or event.soft_failed:
            standing = Standing.TOLERATED
        else:
            standing = Standing.BAD
        self.live.pop(event.stage, None)
        self.done[event.stage] = standing
        self.emit(event)

    def doing(self) -> str:
        """What was going on, for people."""
        now = time.monotonic()
        parts = [f"`{name}` ran ({now - live.began:.0f} s)" for name, live in self.live.items()]
        return ", ".join(parts) or "no stage ran"

    def doing_in(self, name: str) -> str:
        """What was going on in one stage."""
        live = self.live.get(name)
        if live is None or not live.tail:
            return "it gave no output"
        return f"its last output, {time.monotonic() - live.last_output:.0f} s before, was `{live.tail[-1]}`"

    def warn_quiet(self, quiet_s: float) -> None:
        """Tell of each stage that has been quiet for `quiet_s`, and again each time that doubled."""
        now = time.monotonic()
        for name, live in list(self.live.items()):
            quiet = now - max(live.last_output, live.began)
            if quiet >= max(quiet_s, 2 * live.warned_s):
                live.warned_s = quiet
                self.emit(StageQuiet(at=time.time(), stage=name, quiet_s=quiet))
