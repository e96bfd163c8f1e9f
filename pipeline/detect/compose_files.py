"""Which files make up a compose project, and the table of services that they come to, by compose's own rules.

Override files, `include`, `extends`, variables and profiles; what a service's keys mean is left to `compose`.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pipeline.detect.compose_merge import Cannot, dropped, located, merge_services
from pipeline.detect.interpolate import TooMuch, Variables, interpolated, parse_env_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDES: Final = (
    *("compose.override.yml", "compose.override.yaml"),
    *("docker-compose.override.yml", "docker-compose.override.yaml"),
)
DEEPEST: Final = 20  # files that include or extend one another

Services: TypeAlias = dict[str, dict[str, Any]]


@dataclass(slots=True)
class Project:
    """A compose project while its files are read."""

    read: Callable[[str], str | None]
    variables: Mapping[str, str]
    missing: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def find_compose(files: Iterable[str]) -> str | None:
    """Return the compose file at the root, in compose's own order; None when there is none."""
    names = set(files)
    return next((name for name in NAMES if name in names), None)


def load_services(name: str, text: str, project: Project) -> Services:
    """Return the services of a project by name, each with all that its files say of it.

    Args:
        name: The compose file; `COMPOSE_FILE` in `.env` goes before it.

    Raises:
        Cannot: A file is not there, is no compose file, or asks for what is not done.
    """
    found = project.variables.get("COMPOSE_FILE", "")
    separator = project.variables.get("COMPOSE_PATH_SEPARATOR") or ":"
    if found:
        paths = [posixpath.normpath(one) for one in found.split(separator) if one]
    else:
        override = next((one for one in OVERRIDES if project.read(one) is not None), None)
        paths = [name, *([override] if override else [])]
    folder = posixpath.dirname(paths[0]) or "."
    services = _load_all(paths, folder, project, project.variables, (), {name: text})
    if services is None:
        raise Cannot(f"{paths[0]}: it has no table `services`")
    return services


def active_profiles(variables: Mapping[str, str]) -> frozenset[str]:
    """Return the profiles that `COMPOSE_PROFILES` in `.env` turns on; `*` is all."""
    return frozenset(one.strip() for one in variables.get("COMPOSE_PROFILES", "").split(",") if one.strip())


def _load_all(
    paths: Sequence[str],
    folder: str,
    project: Project,
    variables: Mapping[str, str],
    above: tuple[str, ...],
    texts: Mapping[str, str],
) -> Services | None:
    """Merge files, each over those before it; None when none of them has services."""
    whole: Services | None = None
    for path in paths:
        text = texts.get(path)
        found = _load(path, text, folder, project, variables, above)
        if found is not None:
            whole = merge_services(whole or {}, found, path)
    return None if whole is None else {name: dropped(one) for name, one in whole.items()}


def _load(
    path: str,
    text: str | None,
    folder: str,
    project: Project,
    variables: Mapping[str, str],
    above: tuple[str, ...],
) -> Services | None:
    """Read one file with what it includes and extends; its paths become those of the root."""
    if path in above or len(above) >= DEEPEST:
        raise Cannot(f"{path}: it includes itself: {' → '.join([*above, path])}")
    whole = parse(path, text, project, variables)
    services = located(_services(path, whole), folder)
    included = whole.get("include")
    for one in included if isinstance(included, list) else [] if included is None else [included]:
        other = _include(one, path, folder, project, variables, (*above, path))
        services = merge_services(other, services, path)
    resolved: Services = {}
    for name in services:
        resolved[name] = _extended(name, services, path, folder, project, variables, ())
    return resolved if "services" in whole or included else None


def parse(path: str, text: str | None, project: Project, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return what one file says, with its variables filled in.

    Raises:
        Cannot: It is not there, or is no YAML table.
    """
    import yaml

    from pipeline.detect.compose_merge import loader

    given = project.read(path) if text is None else text
    if given is None:
        raise Cannot(f"{path}: it is not among the tracked files")
    known = Variables(variables)
    try:
        whole = yaml.load(given, loader())  # noqa: S506 - a safe loader with two tags more
        if not isinstance(whole, dict):
            return {}
        for key in ("configs", "secrets"):
            if key in whole:
                project.notes.append(f"{path}: `{key}` is not used")
        kept = {key: whole[key] for key in ("services", "include") if key in whole}
        filled: dict[str, Any] = interpolated(kept, known)
    except (yaml.YAMLError, RecursionError, TooMuch) as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where is not None else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise Cannot(f"{path}{line}: it cannot be read: {what}") from error
    for one in sorted(known.missing - project.missing):
        project.notes.append(f"{path}: ${{{one}}} has no value and counts as empty")
    project.missing |= known.missing
    return filled


def _services(path: str, whole: Mapping[str, Any]) -> Services:
    table = whole.get("services")
    if table is None and (not whole or "services" not in whole):
        return {}
    if not isinstance(table, dict):
        raise Cannot(f"{path}: it has no table `services`")
    return {str(name): one if isinstance(one, dict) else {"image": one} for name, one in table.items()}


def _include(
    one: object,
    path: str,
    folder: str,
    project: Project,
    variables: Mapping[str, str],
    above: tuple[str, ...],
) -> Services:
    table = one if isinstance(one, dict) else {"path": one}
    paths = [_local(each, folder, path, "include") for each in _texts(table.get("path"))]
    if not paths:
        raise Cannot(f"{path}: `include` names no file")
    inside = posixpath.dirname(paths[0]) or "."
    if table.get("project_directory"):
        inside = _local(str(table["project_directory"]), folder, path, "include")
    files = [_local(each, folder, path, "include") for each in _texts(table.get("env_file"))]
    own: dict[str, str] = {}
    for each in files or [posixpath.normpath(posixpath.join(inside, ".env"))]:
        text = project.read(each)
        if text is None and files:
            raise Cannot(f"{path}: `include`: env_file `{each}` is not among the tracked files")
        own |= parse_env_file(text or "", variables)
    return _load_all(paths, inside, project, {**own, **variables}, above, {}) or {}


def _extended(
    name: str,
    services: Services,
    path: str,
    folder: str,
    project: Project,
    variables: Mapping[str, str],
    above: tuple[tuple[str, str], ...],
) -> dict[str, Any]:
    """Return a service over the one it extends."""
    if (path, name) in above or len(above) >= DEEPEST:
        raise Cannot(f"{path}: `{name}`: it extends itself")
    service = services[name]
    extends = service.get("extends")
    if extends is None:
        return service
    table = extends if isinstance(extends, dict) else {"service": extends}
    wanted, file = str(table.get("service", "")), table.get("file")
    other, at, there = services, path, folder
    if file is not None:
        at = _local(str(file), folder, path, f"`{name}`: extends")
        there = posixpath.dirname(at) or "."
        other = located(_services(at, parse(at, None, project, variables)), there)
    if wanted not in other:
        raise Cannot(f"{path}: `{name}`: extends: there is no service `{wanted}` in `{at}`")
    base = _extended(wanted, other, at, there, project, variables, (*above, (path, name)))
    own = {key: value for key, value in service.items() if key != "extends"}
    return merge_services({name: base}, {name: own}, path)[name]


def _local(path: str, folder: str, at: str, key: str) -> str:
    """A path of the project, by one that is told relative to a folder of it."""
    if "://" in path or path.startswith(("git@", "oci:")):
        raise Cannot(f"{at}: {key}: `{path}` is not a file of the project")
    inside = posixpath.normpath(posixpath.join(folder, path))
    if inside.startswith(("../", "/")) or inside == "..":
        raise Cannot(f"{at}: {key}: `{path}` is outside the project")
    return inside


def _texts(value: object) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [] if value is None else [value])]
