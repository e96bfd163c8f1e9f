"""One service of a compose file over another, by compose's own rules for each key. Pure."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import yaml

    from pipeline.detect.compose_files import Services

RESET: Final = "!reset"  # what stands in a table for a value with that tag: {RESET: None}, {OVERRIDE: value}
OVERRIDE: Final = "!override"
BY_NAME: Final = frozenset({"annotations", "build.args", "build.labels", "environment", "labels", "sysctls"})
IN_PLACE: Final = frozenset({"command", "entrypoint", "healthcheck.test"})  # of the later file alone
ONE_OR_MORE: Final = frozenset(
    {"build.extra_hosts", "dns", "dns_opt", "dns_search", "env_file", "extra_hosts", "label_file", "tmpfs"}
)
TABLES: Final = frozenset({"depends_on", "models", "networks"})


class Cannot(ValueError):
    """A compose project cannot be used; says where and why."""


def loader() -> type[yaml.SafeLoader]:
    """A safe loader that knows `!reset` and `!override`."""
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML with the two tags of compose."""

    def override(made: yaml.SafeLoader, node: yaml.Node) -> dict[str, Any]:
        if isinstance(node, yaml.MappingNode):
            made.flatten_mapping(node)
            return {OVERRIDE: made.construct_mapping(node, deep=True)}
        if isinstance(node, yaml.SequenceNode):
            return {OVERRIDE: made.construct_sequence(node, deep=True)}
        return {OVERRIDE: node.value}

    Loader.add_constructor(RESET, lambda made, node: {RESET: None})
    Loader.add_constructor(OVERRIDE, override)
    return Loader


def merge_services(base: Services, over: Services, path: str) -> Services:
    """Return the services of two files, those of `over` over those of `base`.

    Args:
        path: The later file, for messages.

    Raises:
        Cannot: A table stands over an array, or the other way round.
    """
    made = dict(base)
    for name, service in over.items():
        made[name] = _tables(made[name], service, "", f"{path}: `{name}`") if name in made else service
    return made


def dropped(value: Any) -> Any:
    """Return a value without what its tags were for."""
    if isinstance(value, dict):
        if OVERRIDE in value:
            return dropped(value[OVERRIDE])
        return {key: dropped(one) for key, one in value.items() if not _is_reset(one)}
    return [dropped(one) for one in value] if isinstance(value, list) else value


def _tables(base: Mapping[str, Any], over: Mapping[str, Any], at: str, where: str) -> dict[str, Any]:
    made = dict(base)
    for key, value in over.items():
        path = f"{at}.{key}" if at else str(key)
        if _is_reset(value):
            made.pop(key, None)
        elif key not in made or _is_tagged(value) or path in IN_PLACE:
            made[key] = value
        else:
            made[key] = _merged(dropped(made[key]), value, path, where)
    return made


def _merged(base: Any, over: Any, path: str, where: str) -> Any:
    if path == "build":
        base, over = ({"context": one} if isinstance(one, str) else one for one in (base, over))
    if path in BY_NAME:
        return {**_by_name(base), **_by_name(over)}
    if path in TABLES:
        base, over = ({} if one is None else one for one in (base, over))
        if not (isinstance(base, dict) and isinstance(over, dict)):
            base, over = (
                {str(name): {} for name in one} if isinstance(one, list) else one for one in (base, over)
            )
    if path in ONE_OR_MORE:
        base, over = (one if isinstance(one, list) else [] if one is None else [one] for one in (base, over))
    if over is None:
        return base
    if isinstance(base, dict) and isinstance(over, dict):
        return _tables(base, over, path, where)
    if isinstance(base, list) and isinstance(over, list):
        return _unique([*base, *over], KEYS.get(path, repr))
    if isinstance(base, dict | list):
        raise Cannot(f"{where}: {path}: it cannot stand over what another file says there")
    return over


def _is_tagged(value: object) -> bool:
    return isinstance(value, dict) and OVERRIDE in value


def _is_reset(value: object) -> bool:
    return isinstance(value, dict) and RESET in value


def _by_name(value: Any) -> dict[str, Any]:
    """Variables as a table, whichever way they are written."""
    if isinstance(value, dict):
        return {str(name): one for name, one in value.items()}
    pairs = (str(one).partition("=") for one in (value if isinstance(value, list) else []))
    return {name: text if equals else None for name, equals, text in pairs}


def _unique(values: list[Any], key: Callable[[Any], str]) -> list[Any]:
    """One value for each key: the last, where the first one stood."""
    found: dict[str, Any] = {}
    for one in values:
        found[key(one)] = one
    return list(found.values())


def _target(volume: Any) -> str:
    """Where in the container a volume is."""
    if isinstance(volume, dict):
        return str(volume.get("target"))
    parts = str(volume).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def _env_file(one: Any) -> str:
    return str(one.get("path")) if isinstance(one, dict) else str(one)


KEYS: Final[Mapping[str, Callable[[Any], str]]] = {
    "env_file": _env_file,
    "expose": str,
    "links": str,
    "profiles": str,
    "tmpfs": str,
    "volumes": _target,
}


def located(services: Services, folder: str) -> Services:
    """Return services whose paths, told relative to a folder, are those of the project's root."""
    if folder in ("", "."):
        return services
    return {name: _located(one, folder) for name, one in services.items()}


def _located(service: Mapping[str, Any], folder: str) -> dict[str, Any]:
    made = dict(service)

    def moved(path: Any) -> Any:
        text = str(path)
        is_own = not text.startswith(("/", "~")) and "://" not in text and not text.startswith("git@")
        return _dotted(posixpath.normpath(posixpath.join(folder, text))) if is_own else path

    build = made.get("build")
    if isinstance(build, str):
        made["build"] = moved(build)
    elif isinstance(build, dict):
        made["build"] = {**build, "context": moved(build.get("context", "."))}
    files = made.get("env_file")
    if files is not None and not _is_reset(files) and not _is_tagged(files):
        listed = files if isinstance(files, list) else [files]
        made["env_file"] = [
            {**one, "path": moved(one.get("path", ""))} if isinstance(one, dict) else moved(one)
            for one in listed
        ]
    if isinstance(made.get("volumes"), list):
        made["volumes"] = [_moved_volume(one, moved) for one in made["volumes"]]
    return made


def _dotted(path: str) -> str:
    return path if path.startswith("..") else f"./{path}"


def _moved_volume(volume: Any, moved: Callable[[Any], Any]) -> Any:
    if isinstance(volume, dict):
        is_bind = volume.get("type") == "bind" and "source" in volume
        return {**volume, "source": moved(volume["source"])} if is_bind else volume
    source, colon, rest = str(volume).partition(":")
    return f"{moved(source)}{colon}{rest}" if colon and source.startswith(".") else volume
