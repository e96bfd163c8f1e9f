"""What a stage is: an async function, and what the scheduler must know about it.

Leaves the graph (who needs whom, do the types fit) to `plan`, and running to `run`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from pipeline.graph.outcome import Failure

P = ParamSpec("P")
R = TypeVar("R")

RetryOn = type[BaseException] | int | str
"""An error class, an exit code, or a regular expression searched in the failure's text and last lines."""


class StageError(UsageError):
    """A stage is declared in a way that cannot work."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try a stage up to `attempts` times (the first included).

    Without `on`, every failure and error is retried; a timeout of the stage is retried only when `on`
    names `TimeoutError`. Before attempt n+1 the scheduler waits `wait_s * factor ** (n - 1)` seconds, at most
    `max_wait_s`.
    """

    attempts: int
    on: RetryOn | tuple[RetryOn, ...] = ()
    wait_s: float = 1.0
    factor: float = 2.0
    max_wait_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning.

        Raises:
            StageError: `attempts` is below 1, or a wait is negative.
        """
        if self.attempts < 1:
            raise StageError(f"cannot retry with {self.attempts} attempts: at least 1 is needed")
        if self.wait_s < 0 or self.max_wait_s < 0 or self.factor < 1:
            raise StageError("cannot retry: waits must not be negative and `factor` not below 1")

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after `attempt` (1 is the first) went wrong."""
        # The exponent is bounded, or a stage with thousands of attempts would overflow a float.
        return min(self.wait_s * self.factor ** min(attempt - 1, 64), self.max_wait_s)

    def matches(self, error: BaseException, failure: Failure) -> bool:
        """Say whether this kind of failure is worth another attempt."""
        rules = self.on if isinstance(self.on, tuple) else (self.on,)
        if not rules:
            return not isinstance(error, TimeoutError)
        return any(_rule_matches(rule, error, failure) for rule in rules)


def _rule_matches(rule: RetryOn, error: BaseException, failure: Failure) -> bool:
    import re

    if isinstance(rule, int):
        return failure.exit_code == rule
    if isinstance(rule, str):
        return re.search(rule, "\n".join((failure.message, *failure.tail)), re.MULTILINE) is not None
    return isinstance(error, rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One parameter of a stage that is filled with another stage's result."""

    name: str
    required: bool  # False: the parameter has a default, used when the graph has no such stage


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Generic[P, R]):
    """One async function of the graph; still callable: `await unit(ctx, deps=...)`."""

    function: Callable[P, Coroutine[Any, Any, R]] = field(repr=False)
    name: str
    needs: tuple[Need, ...] = ()
    after: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None  # globs from the project root; None: every tracked file
    effect: bool = False
    timeout_s: float | None = None
    retry: Retry | None = None
    weight: int = 1  # slots it takes
    exclusive: str | None = None  # at most one stage of a group runs at a time
    soft_fail: bool = False
    tags: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    transparent: bool = False  # dependants' keys leave this stage's key out
    despite: tuple[str, ...] = ()  # optional needs whose failure it survives: the default serves
    file: str = ""
    line: int = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function itself, without the scheduler."""
        return self.function(*args, **kwargs)

    @property
    def doc(self) -> str:
        """First line of the function's docstring, or ""."""
        return (inspect.cleandoc(self.function.__doc__ or "").splitlines() or [""])[0]

    @property
    def where(self) -> str:
        """Where the stage is defined: `file:line`."""
        return f"{self.file}:{self.line}"


@overload
def stage(function: Callable[P, Coroutine[Any, Any, R]], /) -> Stage[P, R]: ...


@overload
def stage(
    *,
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    after: Sequence[str | Stage[Any, Any]] = (),
    effect: bool = False,
    timeout_s: float | None = None,
    retry: Retry | None = None,
    weight: int = 1,
    exclusive: str | None = None,
    soft_fail: bool = False,
    tags: Sequence[str] = (),
    secrets: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    transparent: bool = False,
    despite: Sequence[str | Stage[Any, Any]] = (),
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Stage[P, R]]: ...


def stage(
    function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    /,
    *,
    name: str | None = None,
    inputs: Sequence[str] | None = None,
    after: Sequence[str | Stage[Any, Any]] = (),
    effect: bool = False,
    timeout_s: float | None = None,
    retry: Retry | None = None,
    weight: int = 1,
    exclusive: str | None = None,
    soft_fail: bool = False,
    tags: Sequence[str] = (),
    secrets: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    transparent: bool = False,
    despite: Sequence[str | Stage[Any, Any]] = (),
) -> Any:
    """Make a stage of an async function whose first parameter is the context and the others its needs.

    A parameter named like a stage gets that stage's result; with a default it is an optional need. `after`
    orders without data. `inputs` are globs from the project root (`**` any depth, a leading `!` excludes; a
    name without wildcards also means everything below it); without them every tracked file counts.
    `effect` marks what changes the world: never cached, needs an environment, retried only with `retry`.
    `soft_fail` lets the run stay good when the stage fails. `transparent` keeps this stage's key out of its
    dependants' keys, for a stage whose result reaches them through their own declared inputs. `despite` names
    optional needs: when one of them ended badly, the stage runs with the default, finds the reason in
    `ctx.absent`, and says in a warning what it therefore did not look at.

    Raises:
        StageError: The function or an option cannot work; the message names file and line.
    """

    def declare(function: Callable[..., Coroutine[Any, Any, Any]]) -> Stage[Any, Any]:
        made: Stage[Any, Any] = Stage(
            function=function,
            name=name or function.__name__,
            needs=_needs_of(function),
            after=tuple(other if isinstance(other, str) else other.name for other in after),
            inputs=None if inputs is None else tuple(inputs),
            effect=effect,
            timeout_s=timeout_s,
            retry=retry,
            weight=weight,
            exclusive=exclusive,
            soft_fail=soft_fail,
            tags=tuple(tags),
            secrets=tuple(secrets),
            options=MappingProxyType(dict(options or {})),
            transparent=transparent,
            despite=tuple(other if isinstance(other, str) else other.name for other in despite),
            file=function.__code__.co_filename,
            line=function.__code__.co_firstlineno,
        )
        _check(made, inputs)
        return made

    return declare if function is None else declare(function)


def _needs_of(function: Callable[..., Any]) -> tuple[Need, ...]:
    if not inspect.iscoroutinefunction(function):
        where = getattr(function, "__name__", repr(function))
        raise StageError(f"cannot make a stage of `{where}`: it is not an `async def` function")
    code = function.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_posonlyargcount > 1:
        raise _wrong(function, "its parameters must be the context, then needs by name (no `*`, `**`, `/`)")
    if code.co_argcount < 1:
        raise _wrong(function, "its first parameter must be the context")
    positional = code.co_varnames[1 : code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    with_default = set(positional[len(positional) - len(function.__defaults__ or ()) :])
    if not function.__defaults__:
        with_default = set()
    with_default |= set(function.__kwdefaults__ or {})
    return tuple(Need(name=name, required=name not in with_default) for name in positional + keywords)


def _check(made: Stage[Any, Any], inputs: object) -> None:
    if not made.name.replace("-", "_").isidentifier():
        raise _wrong(made.function, f"its name `{made.name}` must be letters, digits, `_` and `-`")
    if isinstance(inputs, str):
        raise _wrong(made.function, '`inputs` is a list of globs, as in inputs=["src/**"]')
    for glob in made.inputs or ():
        path = glob.removeprefix("!")
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise _wrong(made.function, f"the input `{glob}` must be a path inside the project")
    if made.weight < 1:
        raise _wrong(made.function, f"its weight is {made.weight}, and at least 1 is needed")
    if made.timeout_s is not None and made.timeout_s <= 0:
        raise _wrong(made.function, f"its timeout is {made.timeout_s} s, and more than 0 is needed")
    optional = {need.name for need in made.needs if not need.required}
    if wrong := [name for name in made.despite if name not in optional]:
        raise _wrong(made.function, f"`despite` names `{wrong[0]}`, which is no parameter with a default")
    if made.effect and (made.transparent or made.despite):
        what = "be transparent: it has no key" if made.transparent else "run `despite` a stage that was bad"
        raise _wrong(made.function, f"an effect cannot {what}")


def _wrong(function: Callable[..., Any], what: str) -> StageError:
    code = function.__code__
    return StageError(
        f"cannot make a stage of `{function.__name__}`: {what} ({code.co_filename}:{code.co_firstlineno})"
    )


AnyStage = Stage[Any, Any]
