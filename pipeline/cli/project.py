"""A project as commands see it: its root, its settings and its graph.

The graph is made of the default stages, then of `ci/stages.py`, which adds, replaces and drops stages by
name, then of what `[tool.pipeline.stages.NAME]` says about each.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.config import Config, ConfigInvalid, Problem, load_config, suggest
from pipeline.errors import PipelineError, UsageError
from pipeline.graph.plan import Graph
from pipeline.graph.settings import usable_cpus
from pipeline.graph.stage import AnyStage, Retry, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OWN_STAGES: Final = "ci/stages.py"
MARKS: Final = ("pyproject.toml", OWN_STAGES, ".git")
STATE: Final = ".pipeline"


class NoSuchDirectory(UsageError):
    """The directory to work in is not there."""

    def __init__(self, directory: str) -> None:
        super().__init__(f"cannot work in `{directory}`: no such directory")


class StagesBroken(UsageError):
    """`ci/stages.py` cannot be loaded; the sentence says in which line and why."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"cannot load `{where}`: {what}")
        self.where = where


@dataclass(frozen=True, kw_only=True)
class Project:
    """One project, ready to be planned."""

    root: Path
    config: Config
    graph: Graph
    state: Path  # the folder of runs and of the stage cache
    disabled: tuple[str, ...] = ()  # stages with `enabled = false`


def runs_folder(root: Path) -> Path:
    """Where a project's run folders are."""
    return root / STATE / "runs"


def find_root(directory: str | None) -> Path:
    """The project `directory` (the current one when None) is in: the nearest folder with a mark, else itself.

    Raises:
        NoSuchDirectory: There is no such directory.
    """
    start = Path(directory or ".").resolve()
    if not start.is_dir():
        raise NoSuchDirectory(directory or ".")
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in MARKS):
            return folder
    return start


def open_project(
    directory: str | None, flags: Mapping[str, object] | None = None, *, commit: str | None = None
) -> Project:
    """Find the project, read its settings and build its graph; starts nothing and imports no SDK.

    Args:
        commit: Takes all of that from this commit, not from the working tree.

    Raises:
        UsageError: The settings, `ci/stages.py` or the graph are wrong; each says what and where.
    """
    root = find_root(directory)
    state = root / STATE
    if commit is not None:
        from pipeline.cli.commits import check_out

        keep_out_of_git(state)
        root = check_out(root, state, commit)
    config = load_config(root, flags=flags)
    graph = load_graph(root, config)
    disabled = tuple(name for name, one in config.stages.items() if not one.enabled)
    return Project(root=root, config=config, graph=graph, state=state, disabled=disabled)


def keep_out_of_git(state: Path) -> None:
    """Let git ignore the folder of runs and cache, without touching the project's own files.

    Raises:
        FolderBroken: It cannot be written.
    """
    from pipeline.graph.record import FolderBroken

    mark = state / ".gitignore"
    try:
        if not mark.exists():
            state.mkdir(parents=True, exist_ok=True)
            mark.write_text("*\n", encoding="ascii")
    except OSError as error:
        raise FolderBroken(state, error) from error


def load_graph(root: Path, config: Config) -> Graph:
    """Build the graph of the project in `root`.

    Raises:
        StagesBroken: `ci/stages.py` does not load.
        GraphError: The stages do not fit together.
        ConfigInvalid: Settings are given for a stage that is not there.
    """
    from pipeline.stages import default_stages

    stages = list(default_stages(root, config))
    own = load_own_stages(root)
    if own is not None:
        stages = merge_stages(stages, own)
    _check_configured(config, [one.name for one in stages])
    return Graph([configured(one, config) for one in stages])


def merge_stages(defaults: Sequence[AnyStage], own: OwnStages) -> list[AnyStage]:
    """Lay a project's own stages over the default ones: one of the same name takes that one's place.

    Two own stages of one name both stay, so that the graph can name both places.

    Raises:
        StagesBroken: `drop` names what is no default stage.
    """
    names = [one.name for one in defaults]
    for name in own.drop:
        if name not in names and name != "*":
            what = f"`drop` names `{name}`, which is no default stage{suggest(name, names)}"
            raise StagesBroken(OWN_STAGES, what)
    mine: dict[str, list[AnyStage]] = {}
    for one in own.stages:
        mine.setdefault(one.name, []).append(one)
    merged: list[AnyStage] = []
    for one in defaults:
        if one.name not in own.drop and "*" not in own.drop:
            merged += mine.pop(one.name, [one])
    return merged + [one for several in mine.values() for one in several]


def configured(one: AnyStage, config: Config) -> AnyStage:
    """The stage with its settings laid over what it says itself."""
    wanted = config.stages.get(one.name)
    if wanted is None:
        return one
    changes: dict[str, Any] = {}
    for name in ("timeout_s", "inputs", "soft_fail", "weight"):
        value = getattr(wanted, name)
        if value is not None:
            changes[name] = value
    if wanted.retry is not None:
        before = one.retry or Retry(1)
        changes["retry"] = dataclasses.replace(before, attempts=wanted.retry + 1)
    given: dict[str, Any] = {"command": wanted.command, "args": wanted.args, "env": dict(wanted.env)}
    given |= {"system_packages": wanted.system_packages, "image": wanted.image}
    given |= {"shards": wanted.shards, "rerun_failed": wanted.rerun_failed}
    if wanted.shards is not None and wanted.weight is None:
        changes["weight"] = usable_cpus() if wanted.shards == "auto" else int(wanted.shards)
    options = {name: value for name, value in given.items() if value}
    if wanted.services is not None:
        options["bound"] = wanted.services
    if options:
        changes["options"] = types.MappingProxyType({**one.options, **options})
    return dataclasses.replace(one, **changes)


def _check_configured(config: Config, names: Sequence[str]) -> None:
    problems = [
        Problem(
            source="pyproject.toml",
            path=f"tool.pipeline.stages.{name}",
            message=f"no such stage{suggest(name, names) or '; known: ' + ', '.join(names)}",
        )
        for name in config.stages
        if name not in names
    ]
    if problems:
        raise ConfigInvalid(problems)


@dataclass(frozen=True, kw_only=True)
class OwnStages:
    """What `ci/stages.py` says: its stages in order of definition, and the default stages it drops."""

    stages: tuple[AnyStage, ...]
    drop: tuple[str, ...]


def load_own_stages(root: Path) -> OwnStages | None:
    """Load `ci/stages.py`; None when there is none. Each `@stage` at its top level counts, and a list `drop`.

    It is loaded as the module `ci.stages`, so that it can import its neighbours; the project's own modules
    can be imported too, after everything installed.

    Raises:
        StagesBroken: It does not load; says the line of the file, without a traceback of ours.
    """
    path = root / OWN_STAGES
    if not path.is_file():
        return None
    module = _execute(path)
    values = list(vars(module).values())
    stages = {id(value): value for value in values if isinstance(value, Stage)}
    drop = getattr(module, "drop", ())
    if not isinstance(drop, list | tuple) or not all(isinstance(name, str) for name in drop):
        raise StagesBroken(OWN_STAGES, '`drop` must be a list of names, as in drop = ["quality"]')
    return OwnStages(stages=tuple(stages.values()), drop=tuple(drop))


def _execute(path: Path) -> types.ModuleType:
    """Run the file as `ci.stages`."""
    import importlib.util

    root = path.parent.parent
    if str(root) not in sys.path:
        sys.path.append(str(root))
    package = types.ModuleType("ci")
    package.__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location("ci.stages", path)
    if spec is None or spec.loader is None:
        raise StagesBroken(OWN_STAGES, "it is no Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.update({"ci": package, "ci.stages": module})
    writes = sys.dont_write_bytecode
    # A listing must leave no `__pycache__` in the project's work tree.
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        where = f"{_relative(error.filename or str(path), root)}:{error.lineno or 0}"
        raise StagesBroken(where, error.msg) from error
    except UnicodeDecodeError as error:
        raise StagesBroken(OWN_STAGES, "it is not UTF-8") from error
    except PipelineError as error:
        raise StagesBroken(_line_in(error, root), _without_root(str(error), root)) from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise StagesBroken(_line_in(error, root), what) from error
    finally:
        sys.dont_write_bytecode = writes
    return module


def _line_in(error: BaseException, root: Path) -> str:
    """The innermost line of the project's own files that the error came through."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(f"{root}{os.sep}ci{os.sep}")]
    return f"{_relative(own[-1].filename, root)}:{own[-1].lineno}" if own else OWN_STAGES


def _relative(name: str, root: Path) -> str:
    return name.removeprefix(f"{root}{os.sep}")


def _without_root(text: str, root: Path) -> str:
    return text.replace(f"{root}{os.sep}", "")


def find_shadow(root: Path) -> str | None:
    """The project's own top-level `pipeline` module: `python -m pipeline` there would run it instead."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("pipeline/__init__.py", "pipeline.py", "pipeline/__main__.py"):
        path = root / name
        if path.is_file() and path.resolve().parent != ours:
            return name
    return None


def relative_place(one: AnyStage, root: Path) -> str:
    """Where a stage is defined, `file:line`: from the project's root, or `pipeline/…` for a default stage."""
    ours = str(Path(__file__).resolve().parent.parent.parent)
    return f"{_relative(_relative(one.file, root), Path(ours))}:{one.line}"


def tables_of(config: Config) -> dict[str, Any]:
    """The configuration as plain tables, which stages read through their context."""
    tables = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    del tables["origins"]
    many = {
        kind: {name: dataclasses.asdict(one) for name, one in tables.pop(kind).items()}
        for kind in ("stages", "services")
    }
    # Those of deployments and environments are kept as they were written.
    plain = {name: one if isinstance(one, dict) else dataclasses.asdict(one) for name, one in tables.items()}
    return plain | many


def values_of(root: Path) -> Callable[[str], str | None]:
    """What tells the standing of the values stages depend on; loaded when a stage asks."""

    def value_of(name: str) -> str | None:
        from pipeline.stages.standing import value_now

        return value_now(root, name)

    return value_of
