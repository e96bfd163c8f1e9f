"""Helpers for unit tests of a project's own stages: a context without an engine, and small runs.

async def test_notes_lists_the_changes(tmp_path: Path) -> None:
    ctx = fake_context(tmp_path, options={"since": "v1"})
    text = await notes(ctx, checkout=Source(...))
    assert kept(ctx) == {"notes.md": b"..."}
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.digest import Digest
from pipeline.graph.attempt import attempt, plain_description
from pipeline.graph.context import Artifact, Context
from pipeline.graph.plan import Graph, Plan
from pipeline.graph.services import ArtifactGone, NoEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.graph.events import Event
    from pipeline.graph.outcome import Failure, Outcome
    from pipeline.graph.run import RunResult
    from pipeline.graph.stage import AnyStage

__all__ = ["StageRun", "fake_context", "kept", "logs", "plan_of", "run_plan", "run_stage"]


class FakeServices:
    """Keeps files below one folder, remembers what was told; its client is the one it was given."""

    def __init__(self, folder: Path, secrets: Mapping[str, str], client: object) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.files: dict[str, Artifact] = {}
        self.notes: dict[str, bytes] = {}
        self._secrets = dict(secrets)
        self._client = client

    def log(self, stage: str, text: str) -> None:
        """Remember `text`."""
        self.told.append(text)

    def keep(self, stage: str, name: str, data: bytes | Path) -> Artifact:
        """Write the file below the folder."""
        content = data if isinstance(data, bytes) else data.read_bytes()
        path = self.folder / "kept" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = Digest("sha256:" + hashlib.sha256(content).hexdigest())
        self.files[name] = Artifact(name=name, digest=digest, size_bytes=len(content))
        return self.files[name]

    def path(self, artifact: Artifact) -> Path:
        """Where the file was written.

        Raises:
            ArtifactGone: It was not kept here, or was replaced.
        """
        if self.files.get(artifact.name) != artifact:
            raise ArtifactGone(artifact)
        return self.folder / "kept" / artifact.name

    def remember(self, stage: str, name: str, data: bytes) -> None:
        """Remember it in memory."""
        self.notes[name] = data

    def recall(self, stage: str, name: str) -> bytes | None:
        """What was remembered before."""
        return self.notes.get(name)

    def secret(self, name: str) -> str | None:
        """The value given for the test."""
        return self._secrets.get(name)

    async def client(self) -> Any:
        """The client given for the test.

        Raises:
            NoEngine: None was given.
        """
        if self._client is None:
            raise NoEngine("cannot open an engine: `fake_context` was given no client")
        return self._client


def fake_context(
    folder: Path,
    *,
    stage: str = "stage",
    root: Path | None = None,
    options: Mapping[str, Any] | None = None,
    environment: str = "",
    commit: str = "",
    dirty: bool = False,
    config: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    absent: Mapping[str, str] | None = None,
    client: object = None,
) -> Context:
    """A context for calling a stage by itself.

    Args:
        folder: An empty folder, such as pytest's `tmp_path`: kept files go there; also the project's root
            when `root` is not given.
        files: What `input_files()` answers.
        secrets: Values by name; all of them count as declared.
        absent: Needs that ended badly, and how: "ended in failure".
        client: What `dagger()` answers; without one, asking raises `NoEngine`.
    """
    return Context(
        root=folder if root is None else root,
        run_id="test-run",
        stage=stage,
        services=FakeServices(folder, secrets or {}, client),
        options=options or {},
        files=tuple(files),
        secrets=tuple(secrets or ()),
        facts={"environment": environment, "commit": commit, "dirty": dirty},
        settings=config or {},
        absent=absent or {},
    )


def logs(context: Context) -> list[str]:
    """What the stage logged through a fake context, in order."""
    return list(_fake(context).told)


def kept(context: Context) -> dict[str, bytes]:
    """The files the stage kept through a fake context, by name."""
    services = _fake(context)
    return {name: services.path(artifact).read_bytes() for name, artifact in services.files.items()}


def _fake(context: Context) -> FakeServices:
    if not isinstance(context.services, FakeServices):
        raise TypeError("the context was not made by fake_context()")
    return context.services


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """How a stage ended, as the scheduler would see it."""

    outcome: Outcome
    value: Any = None
    failure: Failure | None = None
    reason: str = ""  # of a skip
    observed: Mapping[str, str] = field(default_factory=dict)  # what became part of its key


async def run_stage(
    stage: AnyStage,
    context: Context,
    *,
    describe: Callable[[BaseException], Failure] = plain_description,
    **needs: Any,
) -> StageRun:
    """Run one stage with its time limit, and turn what it raises into an outcome; no retry, no cache."""
    ended = await attempt(stage, context, needs, describe=describe, doing=lambda: "it was under test")
    return StageRun(
        outcome=ended.outcome,
        value=ended.value,
        failure=ended.failure,
        reason=ended.reason,
        observed=dict(context.observed),
    )


def plan_of(*stages: AnyStage, **selection: Any) -> Plan:
    """The plan of some stages; `selection` as for `Graph.select`, with the environment `test` unless given.

    Raises:
        GraphError: The stages do not fit together.
    """
    return Graph(stages).select(**{"environment": "test", **selection})


async def run_plan(
    plan: Plan,
    folder: Path,
    *,
    observers: Sequence[Callable[[Event], None]] = (),
    client: object = None,
    **settings: Any,
) -> RunResult:
    """Run a plan for real: with the scheduler and a run folder below `folder`, but without an engine.

    Args:
        client: What stages get from `dagger()`.
        settings: More fields of `RunSettings`.
    """
    import time
    from contextlib import asynccontextmanager

    from pipeline.graph.inputs import ProjectFiles
    from pipeline.graph.record import RunFolder
    from pipeline.graph.run import RunSettings, run

    @asynccontextmanager
    async def opener(emit: object) -> Any:
        yield client

    chosen = {
        "root": folder,
        "folder": RunFolder.create(folder / "runs", time.time()),
        "environment": "test",
        "files": ProjectFiles(digests={}, from_git=False),
        "handle_signals": False,
        **settings,
    }
    return await run(
        plan, RunSettings(**chosen), observers=observers, opener=None if client is None else opener
    )
