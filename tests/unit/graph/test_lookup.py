"""Forecasts and explanations: what would happen, without anything happening."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pipeline import Context, stage
from pipeline.graph.cache import StageCache
from pipeline.graph.inputs import project_files
from pipeline.graph.keys import Change
from pipeline.graph.lookup import Explanation, Lookup, World, explain_stage, forecast
from pipeline.graph.plan import Graph, Plan
from pipeline.graph.record import RunFolder
from pipeline.graph.run import RunSettings, run

if TYPE_CHECKING:
    from tests.unit.graph.conftest import Repository


@stage(transparent=True)
async def checkout(ctx: Context) -> str:
    return ""


@stage(inputs=["src/**"])
async def build(ctx: Context, checkout: str) -> str:
    ctx.remember_image("python", "sha256:1")
    return ""


@stage(inputs=["tests/**"])
async def unit(ctx: Context, build: str) -> str:
    return ""


@stage(inputs=(), effect=True)
async def push(ctx: Context, build: str) -> str:
    return ""


@stage(inputs=())
async def smoke(ctx: Context, push: str) -> str:
    return ""


GRAPH = Graph([checkout, build, unit, push, smoke])


class Machine:
    """Asks about the repository as it is now."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo
        self.cache = StageCache(repo.root.parent / "cache")

    def lookup(self, plan: Plan, world: World | None = None) -> Lookup:
        """A lookup of now."""
        return Lookup(plan, project_files(self.repo.root), world or World(), self.cache)

    async def run(self, plan: Plan) -> None:
        """Run once, so that there is something to compare with."""
        folder = RunFolder.create(self.repo.root.parent / "runs", time.time())
        settings = RunSettings(
            root=self.repo.root, folder=folder, cache=self.cache, environment="prod", handle_signals=False
        )
        assert (await run(plan, settings)).exit_code == 0


@pytest.fixture
async def machine(repo: Repository, anyio_backend: str) -> Machine:
    """A machine on which everything ran once."""
    made = Machine(repo)
    await made.run(GRAPH.select(environment="prod"))
    return made


def told(lookup: Lookup) -> dict[str, tuple[str, str]]:
    """Action and reason of each stage."""
    return {row.name: (row.action, row.why) for row in forecast(lookup, {})}


CACHED = ("cached", "nothing it depends on changed")


def test_before_the_first_run_nothing_is_stored(repo: Repository) -> None:
    """And asking changes nothing on disk."""
    machine = Machine(repo)

    assert told(machine.lookup(GRAPH.select())) == {
        "checkout": ("run", "nothing is stored for it yet"),
        "build": ("run", "nothing is stored for it yet"),
        "unit": ("run", "`build` runs"),
        "push": ("skip", "an effect needs an environment (--env)"),
        "smoke": ("skip", "needs `push`, which is skipped"),
    }
    assert not machine.cache.folder.exists()


@pytest.mark.anyio
async def test_what_is_cached_is_told_and_effects_run(machine: Machine) -> None:
    """What comes after an effect runs too."""
    assert told(machine.lookup(GRAPH.select(environment="prod"))) == {
        "checkout": CACHED,
        "build": CACHED,
        "unit": CACHED,
        "push": ("run", "an effect is never cached"),
        "smoke": ("run", "`push` runs"),
    }


@pytest.mark.anyio
async def test_an_explanation_has_own_changes_and_the_needs_that_run(machine: Machine) -> None:
    """`unit` runs for two reasons; the other one is `build`'s to tell."""
    machine.repo.write("src/app.py", "changed")
    machine.repo.write("tests/test_a.py", "changed")
    machine.repo.write("tests/test_b.py", "new")
    machine.repo.commit()

    lookup = machine.lookup(GRAPH.select())

    assert explain_stage(lookup, "unit") == Explanation(
        action="run",
        why="`build` runs, input `tests/test_a.py` changed, input `tests/test_b.py` added",
        changes=(
            Change(part="inputs", name="tests/test_a.py", how="changed"),
            Change(part="inputs", name="tests/test_b.py", how="added"),
        ),
        running_needs=("build",),
    )
    assert explain_stage(lookup, "build") == Explanation(
        action="run",
        why="input `src/app.py` changed",
        changes=(Change(part="inputs", name="src/app.py", how="changed"),),
    )
    assert explain_stage(lookup, "push").action == "skip"


@pytest.mark.anyio
async def test_a_cached_stage_and_a_changed_image_are_explained(machine: Machine) -> None:
    """The lock file says that `python` is another image now."""
    plan = GRAPH.select()
    world = World(image_digest={"python": "sha256:2"}.get)

    assert explain_stage(machine.lookup(plan), "build") == Explanation(
        action="cached", why="nothing it depends on changed"
    )
    assert explain_stage(machine.lookup(plan, world), "build").why == "used `image python` changed"


@pytest.mark.anyio
async def test_a_pruned_entry_is_as_if_it_had_never_been(machine: Machine) -> None:
    """There is nothing left to compare with."""
    machine.cache.remove("build", machine.lookup(GRAPH.select()).look("build").parts.base)  # type: ignore[union-attr]

    found = machine.lookup(GRAPH.select()).look("build")

    assert found.why == "nothing is stored for it yet"
    assert found.entry is None
