"""The engine's session for a run: opened when the first stage asks for it, its events given to the stages.

Each request of a stage carries the stage's span in `traceparent`; the engine names that span in its events.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import say
from pipeline.errors import UsageError
from pipeline.graph.attempt import plain_description
from pipeline.graph.context import current_context
from pipeline.graph.events import StageOutput, StageStep
from pipeline.graph.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
    from pathlib import Path

    from pipeline.config import Config
    from pipeline.engine.events import EngineEvent, ExecEvent
    from pipeline.graph.context import Context, EngineOpener
    from pipeline.graph.events import Event

TAIL_LINES = 30


class NoSuchProgram(UsageError):
    """The command to run with a session cannot be started."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(f"cannot run `{program}`: {(error.strerror or str(error)).lower()}")


def make_opener(config: Config, root: Path) -> EngineOpener:
    """Make what opens the run's client; nothing of it is imported before it is called."""

    @asynccontextmanager
    async def open_engine(emit: Callable[[Event], None]) -> AsyncIterator[Any]:
        from pipeline.config.lock import load_lock
        from pipeline.connect import Target, engine_settings, open_session

        stages: dict[str, Context] = {}
        told: set[tuple[str | None, str]] = set()
        target = Target(kind=config.engine.kind, address=config.engine.address or "")
        settings = engine_settings(config, load_lock(root))

        def observe(event: EngineEvent) -> None:
            tell(event, stages, emit, told)

        with spans_in_requests(stages):
            async with open_session(target, settings, workdir=root, observer=observe) as client:
                yield client

    return open_engine


@contextmanager
def spans_in_requests(stages: MutableMapping[str, Context]) -> Iterator[None]:
    """While entered, requests carry the span of the stage that makes them; `stages` learns whose it is."""
    from opentelemetry import propagate
    from opentelemetry.propagators.textmap import DefaultSetter, TextMapPropagator

    before = propagate.get_global_textmap()
    trace = os.urandom(16).hex()
    default_setter: Any = DefaultSetter()

    class StageSpans(TextMapPropagator):
        """Injects the stage's span over whatever the SDK injects itself."""

        def inject(self, carrier: Any, context: Any = None, setter: Any = default_setter) -> None:
            before.inject(carrier, context=context, setter=setter)
            stage = current_context.get()
            if stage is not None and stage.span_id:
                stages[stage.span_id] = stage
                setter.set(carrier, "traceparent", f"00-{trace}-{stage.span_id}-01")

        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            return before.extract(carrier, context=context, getter=getter)

        @property
        def fields(self) -> set[str]:
            return before.fields | {"traceparent"}

    propagate.set_global_textmap(StageSpans())
    try:
        yield
    finally:
        propagate.set_global_textmap(before)


def tell(
    event: EngineEvent,
    stages: Mapping[str, Context],
    emit: Callable[[Event], None],
    told: set[tuple[str | None, str]],
) -> None:
    """Make an event of the engine one of the stage that asked; what no stage asked for is talk.

    Args:
        told: What was said of images, and to whom: each container tells of its image anew.
    """
    from pipeline.engine.events import ExecEvent, ImageEvent, NoticeEvent

    context = stages.get(event.span_id)
    stage = context.stage if context is not None else None
    match event:
        case ExecEvent():
            if stage is not None:
                _tell_exec(event, stage, emit)
        case ImageEvent():
            origin = {"registry": "", "store": " (from the store)", "recipe": " (a stand-in built by recipe)"}
            note = f": {event.note}" if event.note else ""
            if context is not None:
                context.remember_image(event.reference, event.digest)
                if event.source == "recipe":
                    context.remember_stand_in(event.reference, event.note)
            text = f"image {event.reference} is {event.digest}{origin[event.source]}{note}"
            if (stage, text) not in told:
                told.add((stage, text))
                _tell_text(text, stage, emit)
        case NoticeEvent():
            _tell_text(event.text, stage, emit)


def _tell_exec(event: ExecEvent, stage: str, emit: Callable[[Event], None]) -> None:
    from pipeline.report.words import command_line
    from pipeline.stages.testing import unguarded

    now = time.time()
    if event.kind == "started":
        emit(
            StageOutput(at=now, stage=stage, stream="log", text=f"$ {command_line(unguarded(event.argv))}\n")
        )
    elif event.kind == "output":
        stream = event.stream or "stdout"
        emit(StageOutput(at=now, stage=stage, stream=stream, text=event.text))
    else:
        emit(
            StageStep(
                at=now,
                stage=stage,
                argv=unguarded(event.argv),
                cached=event.kind == "cached",
                exit_code=event.exit_code,
                duration_s=event.duration_s,
            )
        )


def _tell_text(text: str, stage: str | None, emit: Callable[[Event], None]) -> None:
    if stage is None:
        say(f"engine: {text}")
    else:
        emit(StageOutput(at=time.time(), stage=stage, stream="log", text=f"{text}\n"))


def say_notice(event: EngineEvent) -> None:
    """Tell people what the engine wants them to know, outside a run."""
    from pipeline.engine.events import NoticeEvent

    if isinstance(event, NoticeEvent):
        say(f"engine: {event.text}")


def describe(error: BaseException) -> Failure:
    """What people need of a stage's error: of a container command its own words, no wrapper's traceback."""
    import sys

    dagger = sys.modules.get("dagger")  # not imported: then no stage can have met it
    if dagger is not None and isinstance(error, dagger.ExecError):
        command = tuple(str(word) for word in error.command)
        lines = (error.stderr if error.stderr.strip() else error.stdout).rstrip().splitlines()
        return Failure(
            message=f"`{command[0] if command else 'a command'}` ended with exit code {error.exit_code}",
            error_class="ExecError",
            command=command,
            exit_code=error.exit_code,
            tail=tuple(lines[-TAIL_LINES:]),
        )
    if dagger is not None and isinstance(error, dagger.QueryError):
        # The one text that GraphQL has for an error ends with our hint, if there is one.
        message, _, hint = str(error).partition(" (hint: ")
        return Failure(message=message, error_class=type(error).__name__, hint=hint.removesuffix(")"))
    return plain_description(error)
