"""Which stages a change touches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import Context, stage
from pipeline.graph.plan import Graph
from pipeline.graph.since import Affected, affected_by, affected_since, changed_since

if TYPE_CHECKING:
    from tests.unit.graph.conftest import Repository


@stage(transparent=True)
async def checkout(ctx: Context) -> str:
    return ""


@stage(inputs=["src/**"])
async def build(ctx: Context, checkout: str) -> str:
    return ""


@stage(inputs=["tests/**"])
async def unit(ctx: Context, build: str) -> None: ...


@stage(inputs=["README.md"])
async def docs(ctx: Context, checkout: str) -> None: ...


@stage(inputs=())
async def notify(ctx: Context, docs: None) -> None: ...


GRAPH = Graph([checkout, build, unit, docs, notify])


def test_a_stage_is_affected_by_its_inputs_and_its_needs() -> None:
    """Not by a transparent stage that sees every file."""
    assert affected_by(GRAPH, ["src/a.py"], "main") == Affected(
        stages=frozenset({"checkout", "build", "unit"}),
        reason="1 file changed since `main`",
        changed=("src/a.py",),
    )
    assert affected_by(GRAPH, ["README.md"], "main").stages == frozenset({"checkout", "docs", "notify"})
    assert affected_by(GRAPH, [], "main").stages == frozenset()


def test_a_file_nobody_declared_runs_everything() -> None:
    """A stage without declared inputs does not vouch for it."""
    assert affected_by(GRAPH, ["README.md", "setup.cfg"], "main") == Affected(
        stages=None,
        reason="everything runs: `setup.cfg` changed and is no stage's declared input",
        changed=("README.md", "setup.cfg"),
    )


def test_changes_are_counted_from_where_the_branches_parted(repo: Repository) -> None:
    """Committed, staged, unstaged and deleted files count; what happened on the other branch does not."""
    repo.git("checkout", "-q", "-b", "feature")
    repo.write("src/app.py", "committed")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.write("README.md", "on main")
    repo.commit()
    repo.git("checkout", "-q", "feature")
    repo.write("tests/test_a.py", "unstaged")
    (repo.root / "Dockerfile").unlink()

    assert changed_since(repo.root, "main") == ("Dockerfile", "src/app.py", "tests/test_a.py")
    assert affected_since(GRAPH, repo.root, "main").reason.startswith("everything runs: `Dockerfile`")


def test_an_unknown_base_runs_everything(repo: Repository) -> None:
    """Also one that looks like an option, and one without common history."""
    repo.git("checkout", "-q", "--orphan", "lonely")
    repo.commit("unrelated")

    for ref in ("no-such-branch", "--output=x", "main"):
        found = affected_since(GRAPH, repo.root, ref)
        assert found.stages is None
        assert found.reason.startswith(f"everything runs: cannot find what changed since `{ref}`: git said: ")


def test_outside_git_everything_runs(repo: Repository) -> None:
    """There is nothing to compare with."""
    found = affected_since(GRAPH, repo.root.parent, "main")

    assert found.stages is None
