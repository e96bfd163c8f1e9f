"""What users get to test their own stages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pipeline
from pipeline import Artifact, CheckFailed, Context, Failure, Outcome, Skip, stage
from pipeline.graph.plan import GraphError
from pipeline.graph.services import ArtifactGone, NoEngine
from pipeline.testing import StageRun, fake_context, kept, logs, plan_of, run_plan, run_stage

if TYPE_CHECKING:
    from pathlib import Path


@stage(secrets=["TOKEN"], timeout_s=0.05)
async def notes(ctx: Context, changes: list[str]) -> Artifact:
    if not changes:
        raise Skip("nothing changed")
    if changes == ["secret"]:
        raise CheckFailed(f"{ctx.secret('TOKEN')} is in the notes")
    ctx.log(f"{len(changes)} changes for {ctx.environment} at {ctx.commit}")
    if changes == ["endless"]:
        import anyio

        await anyio.sleep_forever()
    return ctx.keep("notes.md", "\n".join(changes))


@stage
async def changes(ctx: Context) -> list[str]:
    return list(ctx.input_files()) or ["a"]


@pytest.mark.anyio
async def test_a_stage_runs_in_a_fake_context(tmp_path: Path) -> None:
    """What it logged and kept can be asked for."""
    ctx = fake_context(tmp_path, stage="notes", environment="prod", commit="abc")

    artifact = await notes(ctx, changes=["a", "b"])

    assert ctx.path(artifact).read_text() == "a\nb"
    assert (logs(ctx), kept(ctx)) == (["2 changes for prod at abc"], {"notes.md": b"a\nb"})
    assert ctx.observed == {"environment": "prod", "commit": "abc"}


@pytest.mark.anyio
async def test_run_stage_gives_the_outcome(tmp_path: Path) -> None:
    """As the scheduler would see it."""
    ctx = fake_context(tmp_path, secrets={"TOKEN": "t0k3n"})

    assert await run_stage(notes, ctx, changes=[]) == StageRun(outcome=Outcome.SKIP, reason="nothing changed")
    assert await run_stage(notes, ctx, changes=["secret"]) == StageRun(
        outcome=Outcome.FAILURE, failure=Failure(message="t0k3n is in the notes")
    )
    assert (await run_stage(notes, ctx, changes=["endless"])).outcome is Outcome.TIMEOUT


@pytest.mark.anyio
async def test_run_plan_runs_a_graph_for_real(tmp_path: Path) -> None:
    """With a run folder, without an engine."""
    result = await run_plan(plan_of(notes, changes), tmp_path)

    assert result.outcome is Outcome.SUCCESS
    assert (tmp_path / "runs" / result.run_id / "stages/notes/files/notes.md").read_text() == "a"


@pytest.mark.anyio
async def test_what_was_not_given_is_an_error(tmp_path: Path) -> None:
    """A client, an artifact of somewhere else, a real context."""
    ctx = fake_context(tmp_path)

    with pytest.raises(NoEngine):
        await ctx.dagger()
    with pytest.raises(ArtifactGone):
        ctx.path(Artifact(name="x", digest=ctx.keep("x", "1").digest, size_bytes=9))
    with pytest.raises(GraphError):
        plan_of(notes)
    client = object()
    assert await fake_context(tmp_path, client=client).dagger() is client


def test_importing_the_package_loads_nothing() -> None:
    """The public names come when they are used; all of them exist."""
    script = (
        "import sys, pipeline; "
        "print([m for m in sys.modules if m.startswith('pipeline.')], hasattr(pipeline, 'nothing')); "
        "from pipeline import stage; "
        "print([m for m in ('asyncio', 'anyio', 'cattrs', 'dagger') if m in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert said == "[] False\n[]\n"
    assert [name for name in pipeline.__all__ if getattr(pipeline, name, None) is None] == []
    assert set(pipeline.__all__) <= set(dir(pipeline))
