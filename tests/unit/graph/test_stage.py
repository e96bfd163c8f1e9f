"""Declaring stages."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Context, Retry, stage
from pipeline.graph.outcome import Failure
from pipeline.graph.stage import Need, StageError
from pipeline.testing import fake_context

if TYPE_CHECKING:
    from pathlib import Path


@stage
async def deps(ctx: Context) -> str:
    """Install what is locked.

    More text.
    """
    return "deps of " + ctx.stage


@stage(
    name="unit-tests",
    inputs=["src/**", "!src/gen/**"],
    after=[deps, "quality"],
    timeout_s=30,
    retry=Retry(2, on=OSError),
    weight=2,
    exclusive="database",
    soft_fail=True,
    tags=["fast"],
    secrets=["TOKEN"],
    options={"verbose": True},
)
async def unit(ctx: Context, deps: str, *, coverage: int | None = None) -> int:
    return len(deps) + (coverage or 0)


def test_a_bare_decorator_gives_a_stage_with_the_defaults() -> None:
    """Name and first line of the docstring come from the function; there are no needs."""
    found: tuple[object, ...] = (deps.name, deps.needs, deps.after, deps.inputs, deps.doc)

    assert found == ("deps", (), (), None, "Install what is locked.")


def test_parameters_after_the_context_are_needs_and_defaults_make_them_optional() -> None:
    """Keyword-only parameters count too."""
    assert unit.needs == (Need(name="deps", required=True), Need(name="coverage", required=False))


def test_options_are_kept_as_given() -> None:
    """`after` takes stages and names."""
    found: tuple[object, ...] = (unit.name, unit.inputs, unit.after, unit.timeout_s, unit.weight, unit.tags)
    more: tuple[object, ...] = (unit.exclusive, unit.soft_fail, unit.secrets, dict(unit.options))

    assert found == ("unit-tests", ("src/**", "!src/gen/**"), ("deps", "quality"), 30, 2, ("fast",))
    assert more == ("database", True, ("TOKEN",), {"verbose": True})


def test_a_stage_knows_where_it_is_defined() -> None:
    """File and line are those of the decorator."""
    lines, first = inspect.getsourcelines(deps.function)

    assert lines[0] == "@stage\n"
    assert deps.where == f"{__file__}:{first}"


@pytest.mark.anyio
async def test_a_stage_is_still_a_function(tmp_path: Path) -> None:
    """Unit tests call it with a context and its needs."""
    ctx = fake_context(tmp_path, stage="x")

    assert await unit(ctx, deps=await deps(ctx)) == len("deps of x")


async def _star(ctx: Context, *more: str) -> None: ...


async def _nothing() -> None: ...


async def _positional(ctx: Context, deps: str, /) -> None: ...


def _sync(ctx: Context) -> None: ...


async def _good(ctx: Context) -> None: ...


async def _needy(ctx: Context, deps: str, lint: str = "") -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        pytest.param(_star, {}, "needs by name", id="star"),
        pytest.param(_positional, {}, "needs by name", id="positional-only"),
        pytest.param(_nothing, {}, "first parameter must be the context", id="no-context"),
        pytest.param(_sync, {}, "not an `async def`", id="not-async"),
        pytest.param(_good, {"name": "a/b"}, "must be letters", id="name"),
        pytest.param(_good, {"inputs": "src/**"}, "is a list of globs", id="inputs-text"),
        pytest.param(_good, {"inputs": ["../x"]}, "inside the project", id="inputs-escape"),
        pytest.param(_good, {"inputs": ["/x"]}, "inside the project", id="inputs-absolute"),
        pytest.param(_good, {"weight": 0}, "at least 1", id="weight"),
        pytest.param(_good, {"timeout_s": 0}, "more than 0", id="timeout"),
        pytest.param(_good, {"effect": True, "transparent": True}, "has no key", id="transparent-effect"),
        pytest.param(_good, {"despite": ["deps"]}, "names `deps`, which is no param", id="despite-nothing"),
        pytest.param(_needy, {"despite": ["deps"]}, "is no parameter with", id="despite-what-it-needs"),
        pytest.param(_needy, {"despite": ["lint"], "effect": True}, "cannot run `des", id="effect-despite"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(function: Any, options: Any, words: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(StageError, match=words):
        stage(**options)(function)


@pytest.mark.parametrize(
    ("retry", "error", "failure", "expected"),
    [
        (Retry(2), ValueError(), Failure(message="x"), True),
        (Retry(2), TimeoutError(), Failure(message="x"), False),
        (Retry(2, on=TimeoutError), TimeoutError(), Failure(message="x"), True),
        (Retry(2, on=OSError), ConnectionError(), Failure(message="x"), True),
        (Retry(2, on=OSError), ValueError(), Failure(message="x"), False),
        (Retry(2, on=75), ValueError(), Failure(message="x", exit_code=75), True),
        (Retry(2, on=75), ValueError(), Failure(message="x", exit_code=1), False),
        (Retry(2, on="connection reset"), ValueError(), Failure(message="connection reset by peer"), True),
        (Retry(2, on="^reset$"), ValueError(), Failure(message="x", tail=("a", "reset")), True),
        (Retry(2, on=("no", 3, OSError)), ValueError(), Failure(message="x", exit_code=3), True),
    ],
)
def test_a_retry_rule_matches_class_exit_code_or_output(
    retry: Retry, error: BaseException, failure: Failure, expected: bool
) -> None:
    """Without a rule all but timeouts are worth another attempt."""
    assert retry.matches(error, failure) is expected


def test_waits_grow_up_to_a_limit() -> None:
    """Also for attempts without end."""
    retry = Retry(5, wait_s=1, factor=3, max_wait_s=5)

    assert [retry.wait_after(attempt) for attempt in (1, 2, 3, 100_000)] == [1, 3, 5, 5]


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"attempts": 2, "wait_s": -1}, {"attempts": 2, "factor": 0.5}]
)
def test_a_retry_without_meaning_is_refused(options: Any) -> None:
    """Numbers are checked when the rule is made."""
    with pytest.raises(StageError):
        Retry(**options)
