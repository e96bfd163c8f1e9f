"""Which services a stage's tests get: of the settings and of the compose file, in the order they start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.config import service_of
from pipeline.config.services import find_circle
from pipeline.stages.containers import StageBroken, stage_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipeline.config import Config, ServiceSettings
    from pipeline.graph.context import Context


def service_options(root: Path, files: Sequence[str], config: Config) -> dict[str, Any]:
    """Return what a stage must know of services, as its options hold it; {} when there are none.

    The text of the compose file is part of it: it is read where the stage runs, and a change runs it again.
    """
    import dataclasses

    from pipeline.detect.compose import find_compose

    options: dict[str, Any] = {}
    if config.services:
        options["services"] = {name: dataclasses.asdict(one) for name, one in config.services.items()}
    name = find_compose(files)
    if name is not None:
        options["compose"] = {
            "name": name,
            "text": (root / name).read_text(encoding="utf-8", errors="replace"),
        }
    return options


def service_secrets(config: Config) -> tuple[str, ...]:
    """Return the secrets that services ask for."""
    return tuple(dict.fromkeys(name for one in config.services.values() for name in one.secrets))


def chosen_services(ctx: Context) -> dict[str, ServiceSettings]:
    """Return the services of this stage with those they need; a declared one goes before the compose file's.

    The setting `services` of the stage names them; without it they are all but those with a profile.

    Raises:
        StageBroken: The compose file cannot be used, or a service is named that is not there.
    """
    declared = {str(name): service_of(table) for name, table in dict(ctx.options.get("services", {})).items()}
    named = ctx.options.get("bound")
    if named is not None and not named:
        return {}
    found, on_demand = _of_compose(ctx)
    known = {**found, **declared}
    wanted = [str(one) for one in named] if named is not None else [n for n in known if n not in on_demand]
    missing = [one for one in wanted if one not in known]
    if missing:
        names = ", ".join(known) or "none"
        raise StageBroken(f"cannot start the service `{missing[0]}`: it is not declared; known: {names}")
    chosen: dict[str, ServiceSettings] = {}
    circle = find_circle({name: one.needs for name, one in known.items()})
    if circle is not None:
        raise StageBroken(f"cannot start services: they need each other: {' → '.join(circle)}")
    while wanted:
        name = wanted.pop(0)
        if name not in chosen:
            chosen[name] = known[name]
            wanted += known[name].needs
    return chosen


def _of_compose(ctx: Context) -> tuple[Mapping[str, ServiceSettings], frozenset[str]]:
    from pipeline.detect.compose import parse_compose

    compose = ctx.options.get("compose")
    if not compose:
        return {}, frozenset()

    def read(name: str) -> str | None:
        path = ctx.root / name
        is_ours = name in ctx.files and not path.is_symlink()
        return path.read_text(encoding="utf-8", errors="replace") if is_ours else None

    found = parse_compose(str(compose["name"]), str(compose["text"]), read, stage_env(ctx))
    for note in found.notes:
        ctx.log(f"{note}\n")
    if found.problems:
        error = StageBroken("\n".join(["cannot use the services of the project:", *found.problems]))
        error.hint = (
            "declare the services that tests need in [tool.pipeline.services], or set "
            f"`services = []` in [tool.pipeline.stages.{ctx.stage}]"
        )
        raise error
    return found.services, found.on_demand


def waves(services: Mapping[str, ServiceSettings]) -> list[list[str]]:
    """Return the services in groups that start together: each after the groups with what it needs."""
    left, done = dict(services), set[str]()
    found = []
    while left:
        ready = [name for name, one in left.items() if done.issuperset(one.needs)]
        found.append(ready)
        done.update(ready)
        left = {name: one for name, one in left.items() if name not in done}
    return found
