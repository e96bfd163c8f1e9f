"""From what the user asked for to a plan: selection, the project's files, the stage cache and history.

Shared by `run`, `plan` and `explain`; starts no engine and changes nothing.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import say
from pipeline.cli.project import tables_of, values_of
from pipeline.config.lock import load_lock
from pipeline.graph.cache import StageCache
from pipeline.graph.history import History, failed_stages, find_run
from pipeline.graph.inputs import ProjectFiles, project_files
from pipeline.graph.lookup import Lookup, World

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.cli.project import Project
    from pipeline.config import Config
    from pipeline.graph.plan import Plan

GIT_LIMIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The options that choose stages, as the command line names them."""

    only: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    failed: str | None = None  # a run
    since: str | None = None  # a commit
    environment: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan and all it was made from."""

    project: Project
    plan: Plan
    choice: Choice
    cache: StageCache
    history: History
    files: ProjectFiles
    commit: str
    dirty: bool
    reuse: Path | None = None  # the run folder of --failed
    expected_s: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of stages, by this command's own

    def lookup(self, *, read: bool = True) -> Lookup:
        """What the stage cache knows of the plan now."""
        world = World(
            environment=self.choice.environment,
            commit=self.commit,
            dirty=self.dirty,
            config=tables_of(self.project.config),
            options=self.options,
            facts=facts_of(self.project.config),
            image_digest=load_lock(self.project.root).names.get,
            value_now=values_of(self.project.root),
        )
        return Lookup(self.plan, self.files, world, self.cache, read=read)


def prepare(project: Project, choice: Choice) -> Prepared:
    """Choose the stages and read what is known of them.

    Raises:
        SelectionError: The choice names what is not there, or contradicts itself.
        EffectRefused: An effect was named and there is no environment.
        RunNotFound: There is no run of the name given to `--failed`.
        GitFailed: The project's files cannot be listed.
    """
    git = _start_git(project.root)
    reuse = find_run(project.state / "runs", choice.failed) if choice.failed else None
    plan = _select(project, choice, reuse)
    files = project_files(project.root, project.state / "files.json")
    commit, dirty = _finish_git(git)
    history = History(project.state / "history.jsonl")
    return Prepared(
        project=project,
        plan=plan,
        choice=choice,
        cache=StageCache(project.state / "cache", max_bytes=project.config.run.cache_max_bytes),
        history=history,
        files=files,
        commit=commit,
        dirty=dirty,
        reuse=reuse,
        expected_s=history.expected_s(),
        options=_options(project, choice),
    )


def _options(project: Project, choice: Choice) -> dict[str, dict[str, Any]]:
    """What `--since` means to stages besides being chosen: lines count as changed from there on."""
    one = project.graph.stages.get("coverage")
    if choice.since is None or one is None or "changed" not in one.options:
        return {}
    from pipeline.stages.coverage import base_options

    return {"coverage": {**base_options(project.root, choice.since, os.environ)}}


def _select(project: Project, choice: Choice, reuse: Path | None) -> Plan:
    """Select the stages; those disabled in the settings are skipped, and say so."""
    graph = project.graph
    options: dict[str, Any] = {}
    if choice.since is not None:
        from pipeline.graph.since import affected_since

        affected = affected_since(graph, project.root, choice.since)
        say(f"since {choice.since}: {affected.reason}")
        if affected.stages is not None:
            options = {"affected": affected.stages, "unaffected_why": f"not affected since `{choice.since}`"}
    whys = {name: "disabled in the settings" for name in project.disabled if name not in choice.skip}
    whys |= _beyond(project, choice.environment)
    plan = graph.select(
        only=choice.only,
        from_=choice.from_,
        until=choice.until,
        skip=tuple(dict.fromkeys((*choice.skip, *whys))),
        failed=None if reuse is None else failed_stages(reuse),
        tags=choice.tags,
        environment=choice.environment,
        **options,
    )
    rows = {
        name: dataclasses.replace(row, why=whys[name]) if name in whys and row.skipped else row
        for name, row in plan.rows.items()
    }
    return dataclasses.replace(plan, rows=rows)


def _beyond(project: Project, environment: str) -> dict[str, str]:
    """Stages that would bring releases further than the run is for, with the reason."""
    if not environment or "production_deploy" not in project.graph.stages:
        return {}
    from pipeline.stages.deploying import chain_to

    chain = chain_to(project.root, project.config, environment)
    return {"production_deploy": f"`{environment}` takes what was built"} if len(chain) == 1 else {}


def facts_of(config: Config) -> dict[str, str]:
    """What belongs in every stage's key besides the stage itself."""
    system = os.uname()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine)
    return {
        "platform": f"{system.sysname.lower()}/{machine}",
        "engine": config.engine.kind,
        "images.fallback": config.images.fallback,
    }


def secret_of(name: str) -> str | None:
    """The value of a secret: the variable of that name."""
    return os.environ.get(name)


def _start_git(root: Path) -> subprocess.Popen[bytes] | None:
    """Ask git for commit and changes; answers while files are read. None outside a work tree."""
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return None
    argv = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=none"]
    try:
        return subprocess.Popen(
            argv,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Without optional locks a listing never stands in the way of the user's own git.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:  # no git: `project_files` tells that, with the reason
        return None


def _finish_git(process: subprocess.Popen[bytes] | None) -> tuple[str, bool]:
    """The commit ("" where there is none) and whether tracked files differ from it."""
    if process is None:
        return "", False
    try:
        text, _ = process.communicate(timeout=GIT_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "", False
    lines = text.decode("utf-8", "replace").splitlines()
    oid = next((line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")), "")
    return (oid if oid != "(initial)" else ""), any(not line.startswith("#") for line in lines)
