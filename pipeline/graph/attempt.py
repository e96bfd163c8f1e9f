"""One attempt at one stage: call the function within its limit, and say how it ended."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.errors import PipelineError
from pipeline.graph.annotations import keeps, name_of, return_type
from pipeline.graph.context import CheckFailed, Context, NeedGone, Skip, current_context
from pipeline.graph.outcome import Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.graph.stage import AnyStage


LONGEST_MESSAGE: Final = 10_000  # characters: it stands in every view
LONGEST_TRACEBACK: Final = 1_000_000


class Cancelled(PipelineError):
    """A stage cancelled itself: nobody had asked it to stop."""


class WrongResult(PipelineError):
    """A stage returned another type than its annotation promises to the stages that need it."""

    def __init__(self, stage: AnyStage, value: object, promised: object) -> None:
        returned = "None" if value is None else type(value).__name__
        inside = " that holds something else" if returned == name_of(promised).partition("[")[0] else ""
        super().__init__(
            f"cannot use the result of `{stage.name}`: it returned `{returned}`{inside}, "
            f"its annotation says `{name_of(promised)}`"
        )
        self.hint = "correct the annotation, or what the function returns"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an attempt ended; `error` is what was raised, as it was."""

    outcome: Outcome
    value: Any = None
    failure: Failure | None = None
    error: BaseException | None = None
    reason: str = ""  # of a stage that skipped itself


async def attempt(
    stage: AnyStage,
    context: Context,
    needs: Mapping[str, Any],
    *,
    describe: Callable[[BaseException], Failure],
    doing: Callable[[], str],
) -> Ended:
    """Call the stage's function; every exception but a cancellation from outside becomes an outcome.

    `CheckFailed`, and whatever is described with an exit code, is a failure; `Skip` is a skip; the limit is a
    timeout; all else is an error.

    Args:
        describe: Turns an exception that is not ours into what people need.
        doing: Says what was going on, for the message of a timeout.
    """
    current_context.set(context)
    with anyio.CancelScope() as limit:
        if stage.timeout_s is not None:
            limit.deadline = anyio.current_time() + stage.timeout_s
        try:
            value = await stage.function(context, **needs)
            promised = return_type(stage.function)
            if not keeps(value, promised):
                raise WrongResult(stage, value, promised)
        except anyio.get_cancelled_exc_class() as error:
            if _asked_to_stop():
                raise
            own = Cancelled(f"`{stage.name}` cancelled itself")
            own.__cause__ = error
            return _ended(own, describe)
        except BaseException as error:  # outcomes are made here
            if isinstance(error, GeneratorExit) and not _is_in_task():
                raise  # this very coroutine is being closed
            if limit.cancel_called and not isinstance(error, CheckFailed):
                return _timeout(stage, doing(), error)
            return _ended(_single(error), describe)
        if not limit.cancel_called:
            return Ended(outcome=Outcome.SUCCESS, value=value)
    return _timeout(stage, doing(), None)


def _asked_to_stop() -> bool:
    import asyncio

    if anyio.current_effective_deadline() == float("-inf"):
        return True
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_in_task() -> bool:
    import asyncio

    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no event loop runs
        return False


def _timeout(stage: AnyStage, doing: str, error: BaseException | None) -> Ended:
    message = f"timed out after {stage.timeout_s:g} s; {doing}"
    return Ended(
        outcome=Outcome.TIMEOUT,
        failure=Failure(message=message, error_class="TimeoutError"),
        error=error if isinstance(error, TimeoutError) else TimeoutError(message),
    )


def _ended(error: BaseException, describe: Callable[[BaseException], Failure]) -> Ended:
    if isinstance(error, Skip):
        return Ended(outcome=Outcome.SKIP, reason=error.reason, error=error)
    if isinstance(error, CheckFailed):
        return Ended(outcome=Outcome.FAILURE, failure=error.failure, error=error)
    failure = describe(error)
    if len(failure.message) > LONGEST_MESSAGE:
        failure = replace(failure, message=f"{failure.message[:LONGEST_MESSAGE]}…")
    outcome = Outcome.ERROR if failure.exit_code is None else Outcome.FAILURE
    return Ended(outcome=outcome, failure=failure, error=error)


def _single(error: BaseException) -> BaseException:
    """Of a group of exceptions the one to report: the words of a stage first, else the first one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    chosen = next((one for one in leaves if isinstance(one, (CheckFailed, NeedGone, Skip))), leaves[0])
    if chosen.__cause__ is None and chosen is not error:
        chosen.add_note(f"one of {len(leaves)} errors that came together")
    return chosen


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


def plain_description(error: BaseException) -> Failure:
    """What people need of an exception nobody knows better: its text, and where in the code it was raised."""
    kind = type(error).__name__
    if isinstance(error, PipelineError):
        return Failure(message=str(error), error_class=kind, hint=error.hint or "")
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = f"{kind}: {error}" if str(error) else kind
    return Failure(message=f"{text}{where}", error_class=kind)


def log_text(error: BaseException) -> str:
    """The traceback for the stage's log; ours need none."""
    if isinstance(error, PipelineError):
        return f"{type(error).__name__}: {error}"
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    return text if len(text) <= LONGEST_TRACEBACK else f"{text[:LONGEST_TRACEBACK]}…"
