"""Graphs and selections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import Context, stage
from pipeline.graph.plan import EffectRefused, Graph, GraphError, Plan, SelectionError

if TYPE_CHECKING:
    from collections import OrderedDict as OnlyForCheckers  # noqa: F401 - named in annotations as text

    from pipeline.graph.stage import AnyStage


@dataclass(frozen=True)
class Wheel:
    path: str


class BigWheel(Wheel):
    pass


@stage(tags=["source"])
async def checkout(ctx: Context) -> str:
    return ""


@stage
async def build(ctx: Context, checkout: str) -> Wheel:
    return Wheel("")


@stage(tags=["test"])
async def unit(ctx: Context, checkout: str) -> int:
    return 0


@stage(after=["unit"])
async def image(ctx: Context, build: Wheel) -> str:
    return ""


@stage(effect=True)
async def push(ctx: Context, image: str) -> str:
    return ""


@stage
async def report(ctx: Context, unit: int, push: str | None = None) -> None:
    return None


ALL: list[AnyStage] = [report, push, image, unit, build, checkout]


def state(plan: Plan) -> dict[str, str]:
    """Each stage with what is to happen to it."""
    return {
        name: row.why if row.skipped else "chosen" if row.chosen else f"needed: {row.why}"
        for name, row in plan.rows.items()
    }


def test_the_order_is_topological_and_keeps_the_definition_order_where_it_may() -> None:
    """Of several ready stages the one defined first comes first."""
    assert Graph(ALL).order == ("checkout", "unit", "build", "image", "push", "report")
    assert Graph([checkout, build, unit, image, push, report]).order == (
        "checkout",
        "build",
        "unit",
        "image",
        "push",
        "report",
    )


def test_optional_needs_and_after_are_apart_from_needs() -> None:
    """An optional need that is not in the graph is no link."""
    graph = Graph([checkout, unit, report])

    assert (graph.links["report"].needs, graph.links["report"].optional) == (("unit",), ())
    assert Graph(ALL).links["image"].after == ("unit",)


def test_all_problems_come_in_one_error() -> None:
    """Duplicates, unknown needs with a suggestion, and mismatches with both places."""

    @stage(name="unit")
    async def second(ctx: Context) -> int:
        return 1

    @stage
    async def scan(ctx: Context, biuld: Wheel) -> None: ...

    @stage
    async def sign(ctx: Context, build: int) -> None: ...

    @stage(after=["nothing"])
    async def tag(ctx: Context) -> None: ...

    with pytest.raises(GraphError) as caught:
        Graph([*ALL, second, scan, sign, tag])

    assert caught.value.problems == (
        f"two stages are named `unit`: {unit.where} and {second.where}",
        f"`scan` needs `biuld`, which is no stage; did you mean `build`? ({scan.where})",
        f"`tag` comes after `nothing`, which is no stage ({tag.where})",
        f"`sign` takes `build` as `int` ({sign.where}), but `build` returns `Wheel` ({build.where})",
    )


def test_a_cycle_is_shown_as_a_path() -> None:
    """It ends where it began."""

    @stage
    async def a(ctx: Context, c: None) -> None: ...

    @stage
    async def b(ctx: Context, a: None) -> None: ...

    @stage(after=["b"])
    async def c(ctx: Context) -> None: ...

    with pytest.raises(GraphError) as caught:
        Graph([checkout, a, b, c])

    assert str(caught.value) == "cannot build the graph: stages wait for each other: a → b → c → a"


def _pair(returned: Any, taken: Any) -> list[Any]:
    async def giver(ctx: Any) -> Any: ...

    async def taker(ctx: Any, giver: Any) -> Any: ...

    giver.__annotations__["return"] = returned
    taker.__annotations__["giver"] = taken
    return [stage(giver), stage(taker)]


@pytest.mark.parametrize(
    ("returned", "taken", "fits"),
    [
        (Wheel, Wheel, True),
        (BigWheel, Wheel, True),
        (Wheel, BigWheel, False),
        (Wheel, "Wheel | None", True),
        ("Wheel | None", Wheel, False),
        ("int", "int | str", True),
        (None, None, True),
        (int, Any, True),
        (Any, int, True),
        (int, object, True),
        (dict[str, int], Mapping[str, int], True),
        (dict[str, int], Mapping[str, str], False),
        (tuple[int, ...], Sequence[int], True),
        (list, "Sequence[int]", True),
        ("OnlyForCheckers", "OnlyForCheckers", True),
        ("collections.OrderedDict_", "OnlyForCheckers", False),
        ("OnlyForCheckers", Any, True),
        ("OnlyForCheckers", Wheel, False),
    ],
)
def test_what_a_need_returns_must_be_what_is_taken(returned: Any, taken: Any, fits: bool) -> None:
    """Subclasses, unions and generics are understood; names for type checkers are compared by name."""
    try:
        Graph(_pair(returned, taken))
    except GraphError:
        assert not fits
    else:
        assert fits


def test_without_a_choice_all_is_chosen_and_effects_wait_for_an_environment() -> None:
    """What cannot do without the effect goes with it; an optional user stays."""
    assert state(Graph(ALL).select()) == {
        "checkout": "chosen",
        "unit": "chosen",
        "build": "chosen",
        "image": "chosen",
        "push": "an effect needs an environment (--env)",
        "report": "chosen",
    }
    assert state(Graph(ALL).select(environment="prod"))["push"] == "chosen"


@pytest.mark.parametrize(
    ("choice", "chosen", "needed"),
    [
        ({"only": ["unit"]}, "unit", "checkout"),
        ({"from_": ["build"]}, "build image push report", "checkout unit"),
        ({"until": ["image"]}, "checkout unit build image", ""),
        ({"tags": ["test"]}, "unit", "checkout"),
        ({"failed": ["unit", "no-longer-there"]}, "unit image push report", "checkout build"),
        ({"failed": []}, "", ""),
        ({"from_": ["build"], "until": ["image"]}, "build image", "checkout"),
        ({"affected": ["report"]}, "report", "checkout unit build image push"),
    ],
    ids=lambda value: str(value),
)
def test_a_choice_brings_what_it_needs(choice: Any, chosen: str, needed: str) -> None:
    """By data, not by order: `image` does not bring `unit`."""
    plan = Graph(ALL).select(environment="prod", **choice)

    assert [name for name in plan.active if plan.rows[name].chosen] == chosen.split()
    assert sorted(name for name in plan.active if not plan.rows[name].chosen) == sorted(needed.split())


def test_the_plan_says_why_each_stage_is_out_or_only_needed() -> None:
    """Reasons are for people."""
    assert state(Graph(ALL).select(only=["image"])) == {
        "checkout": "needed: `build` needs it",
        "unit": "not selected",
        "build": "needed: `image` needs it",
        "image": "chosen",
        "push": "not selected",
        "report": "not selected",
    }


def test_a_skip_takes_what_cannot_do_without_it() -> None:
    """A stage that only comes after the skipped one goes on, without that link."""
    plan = Graph(ALL).select(skip=["unit"], environment="prod")

    assert state(plan) == {
        "checkout": "chosen",
        "unit": "skipped on request",
        "build": "chosen",
        "image": "chosen",
        "push": "chosen",
        "report": "needs `unit`, which is skipped",
    }
    assert plan.rows["image"].links.after == ()


def test_a_need_that_served_only_skipped_stages_is_not_run() -> None:
    """`build` was only wanted by `image`."""
    plan = Graph(ALL).select(from_=["image"], skip=["push"], environment="prod")
    none = Graph(ALL).select(tags=["test"], skip=["unit"])

    assert plan.active == ("checkout", "unit", "build", "image", "report")
    assert none.active == ()
    assert state(none)["checkout"] == "only stages that are skipped need it"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"only": ["unti"]}, "cannot use `--only unti`: no such stage; did you mean `unit`?"),
        ({"skip": ["x"]}, "cannot use `--skip x`: no such stage"),
        ({"tags": ["tset"]}, "cannot select tag `tset`: no stage has it; did you mean `test`?"),
        ({"only": ["unit"], "skip": ["unit"]}, "cannot select `unit`: skipped on request"),
        ({"only": ["image"], "skip": ["build"]}, "cannot select `image`: needs `build`, which is skipped"),
    ],
)
def test_a_choice_that_cannot_be_is_an_error(choice: Any, message: str) -> None:
    """It names the option, and a suggestion where there is one."""
    with pytest.raises(SelectionError) as caught:
        Graph(ALL).select(**choice)

    assert str(caught.value) == message


def test_an_effect_that_is_named_is_refused_without_an_environment() -> None:
    """The refusal says how to name one."""
    with pytest.raises(EffectRefused) as caught:
        Graph(ALL).select(only=["push"])

    assert str(caught.value) == "cannot run `push`: an effect needs an explicit environment"
    assert (caught.value.hint, caught.value.exit_code) == ("name one with --env", 3)
