"""Services out of a compose project, as `[tool.pipeline.services]` would declare them.

Pure but for the reading function it is given. What a key asks for and is not done is noted, what cannot be
understood is a problem; nothing is dropped without a word.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.detect.compose_files import Project, active_profiles, find_compose, load_services
from pipeline.detect.compose_merge import Cannot
from pipeline.detect.interpolate import parse_env_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.config import ServiceSettings
    from pipeline.detect.compose_files import Services

__all__ = ["ComposeFile", "find_compose", "parse_compose"]

KEYS: Final = frozenset(
    {
        *("build", "command", "depends_on", "entrypoint", "env_file", "environment", "expose", "healthcheck"),
        *("image", "links", "ports", "profiles", "tmpfs", "user", "volumes", "working_dir"),
    }
)
BUILD_KEYS: Final = frozenset({"args", "context", "dockerfile", "target"})
MOST_PORTS: Final = 100  # of one range
USUAL_TIMEOUT_S: Final = 60.0
USUAL_CHECK_S: Final = 30.0  # of compose: between two health checks
USUAL_RETRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFile:
    """What a compose file says: services by name, those that only run when asked for, notes and problems."""

    services: Mapping[str, ServiceSettings]
    on_demand: frozenset[str] = frozenset()  # those with `profiles`
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reader:
    """One compose file while it is read."""

    name: str
    read: Callable[[str], str | None]
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, service: str, text: str) -> None:
        self.notes.append(f"{self.name}: `{service}`: {text}")

    def problem(self, service: str, text: str) -> None:
        self.problems.append(f"{self.name}: `{service}`: {text}")


def parse_compose(
    name: str, text: str, read: Callable[[str], str | None], variables: Mapping[str, str] | None = None
) -> ComposeFile:
    """Read a compose file, called `name` in messages.

    Args:
        read: Gives the text of a tracked file, or None; for `.env` and `env_file`.
        variables: What `${NAME}` stands for, beside the project's `.env`; the shell's are not asked.
    """
    from pipeline.config import check

    known = {**parse_env_file(read(".env") or "", variables), **(variables or {})}
    reader = _Reader(name=name, read=read, variables=known)
    services = _load(text, known, reader)
    tables = {str(key): _service(str(key), one, reader) for key, one in services.items()}
    found = check.find_problems({"services": tables})
    for path, sentence in found:
        service, _, key = path.removeprefix("services.").partition(".")
        reader.problem(service, f"{key}: {sentence}" if key else sentence)
    config = check.parse({"services": tables}) if not reader.problems else None
    active = active_profiles(known)
    return ComposeFile(
        services={} if config is None else config.services,
        on_demand=frozenset(key for key, one in services.items() if _waits(one, active)),
        notes=tuple(reader.notes),
        problems=tuple(reader.problems),
    )


def _load(text: str, known: Mapping[str, str], reader: _Reader) -> Services:
    """Return the services of all files of the project; {} with a problem when they cannot be had."""
    project = Project(read=reader.read, variables=known)
    try:
        return load_services(reader.name, text, project)
    except Cannot as error:
        reader.problems.append(str(error))
        return {}
    finally:
        reader.notes += project.notes


def _waits(service: Mapping[str, Any], active: frozenset[str]) -> bool:
    """Whether a service only runs when it is asked for: it has profiles, and none of them is turned on."""
    profiles = _words(service.get("profiles"))
    return bool(profiles) and "*" not in active and active.isdisjoint(profiles)


def _service(name: str, given: Mapping[str, Any], reader: _Reader) -> dict[str, Any]:
    """Return one service as the settings would say it."""
    if unused := sorted(str(key) for key in given if key not in KEYS and not str(key).startswith("x-")):
        reader.note(name, f"not used: {', '.join(unused)}")
    made: dict[str, Any] = {
        **_build(name, given, reader),
        "env": _env(name, given, reader),
        "ports": _ports(name, given, reader),
        "needs": _needs(name, given, reader),
        "volumes": _volumes(name, given, reader),
        "tmp": [one.partition(":")[0] for one in _words(given.get("tmpfs"))],
    }
    for key, ours in (("user", "user"), ("working_dir", "workdir")):
        if given.get(key) is not None:
            made[ours] = str(given[key])
    for key in ("command", "entrypoint"):
        if given.get(key):
            made[key] = _argv(name, key, given[key], reader)
    return made | _health(name, given.get("healthcheck"), reader)


def _build(name: str, given: Mapping[str, Any], reader: _Reader) -> dict[str, Any]:
    build = given.get("build")
    if build is None:
        return {"image": given["image"]} if "image" in given else {}
    table = build if isinstance(build, dict) else {"context": build}
    if unused := sorted(str(key) for key in table if key not in BUILD_KEYS):
        reader.note(name, f"not used: {', '.join(f'build.{key}' for key in unused)}")
    context = str(table.get("context", "."))
    if "://" in context or context.startswith("git@"):
        reader.problem(name, f"its build context `{context}` is not a folder of the project")
        context = "."
    parts = [part for part in context.split("/") if part not in ("", ".")]
    inside = [part for part in str(table.get("dockerfile", "Dockerfile")).split("/") if part not in ("", ".")]
    made: dict[str, Any] = {"context": "/".join(parts) or ".", "dockerfile": "/".join([*parts, *inside])}
    if context.startswith("/"):
        made["context"] = context  # refused by the check
    if table.get("target"):
        made["target"] = str(table["target"])
    if table.get("args"):
        pairs = _pairs(table["args"])
        made["build_args"] = {key: value for key, value in pairs.items() if value is not None}
    return made


def _env(name: str, given: Mapping[str, Any], reader: _Reader) -> dict[str, str]:
    found: dict[str, str | None] = {}
    files = given.get("env_file") or ()
    for one in [files] if isinstance(files, str | dict) else files:
        table = one if isinstance(one, dict) else {"path": one}
        path = str(table.get("path", "")).removeprefix("./")
        text = reader.read(path)
        if text is not None:
            found |= parse_env_file(text, reader.variables)
        elif table.get("required", True):
            reader.note(name, f"env_file `{path}` is not among the tracked files")
    found |= _pairs(given.get("environment"))
    for key in sorted(key for key, value in found.items() if value is None):
        reader.note(name, f"the variable {key} has no value: the shell's are not passed on")
    return {key: value for key, value in found.items() if value is not None}


def _ports(name: str, given: Mapping[str, Any], reader: _Reader) -> list[Any]:
    found: list[Any] = []
    for one in [*_list(given.get("ports")), *_list(given.get("expose"))]:
        if isinstance(one, dict):
            target, protocol = one.get("target"), one.get("protocol", "tcp")
        else:
            text, _, protocol = str(one).partition("/")
            target = text.rpartition(":")[2]
        if (protocol or "tcp") != "tcp":
            reader.note(name, f"port {target}/{protocol} is not waited for")
            continue
        first, _, last = str(target).partition("-")
        if first.isdecimal() and last.isdecimal() and 0 <= int(last) - int(first) <= MOST_PORTS:
            found += range(int(first), int(last) + 1)
        else:
            found.append(int(first) if str(target).isdecimal() else target)
    return list(dict.fromkeys(found))


def _needs(name: str, given: Mapping[str, Any], reader: _Reader) -> list[str]:
    wanted = given.get("depends_on") or {}
    table = wanted if isinstance(wanted, dict) else {str(one): {} for one in _list(wanted)}
    needs = []
    for key, how in table.items():
        if _table(how).get("condition") == "service_completed_successfully":
            reader.note(name, f"it waits for `{key}` to end: jobs are not run")
        else:
            needs.append(str(key))
    for link in _words(given.get("links")):
        service, _, alias = link.partition(":")
        needs.append(service)
        if alias and alias != service:
            reader.note(name, f"the link's other name `{alias}` is not known: `{service}` is")
    return list(dict.fromkeys(needs))


def _volumes(name: str, given: Mapping[str, Any], reader: _Reader) -> dict[str, str]:
    """Return files and folders of the project to mount; other volumes begin empty and need nothing."""
    found: dict[str, str] = {}
    for one in _list(given.get("volumes")):
        if isinstance(one, dict):
            is_bind = one.get("type") == "bind"
            source, target = str(one.get("source", "")), str(one.get("target", ""))
        else:
            source, _, rest = str(one).partition(":")
            target = rest.partition(":")[0]
            is_bind = source.startswith((".", "/", "~")) and bool(target)
        if not is_bind:
            continue
        path = "/".join(part for part in source.split("/") if part not in ("", ".")) or "."
        if source.startswith(("/", "~")) or ".." in source.split("/"):
            reader.note(name, f"`{source}` is not mounted: it is outside the project")
        else:
            found[target] = path
    return found


def _health(name: str, given: object, reader: _Reader) -> dict[str, Any]:
    table = _table(given)
    test = table.get("test")
    if not test or table.get("disable") or test == ["NONE"]:
        return {}
    kind, *words = test if isinstance(test, list) else ["CMD-SHELL", test]
    if kind not in ("CMD", "CMD-SHELL"):
        reader.problem(name, f"healthcheck.test: expected CMD or CMD-SHELL, got `{kind}`")
        return {}
    command = ["sh", "-c", " ".join(map(str, words))] if kind == "CMD-SHELL" else [str(one) for one in words]
    health: dict[str, Any] = {"command": command}
    for key in ("timeout", "start_period"):
        if table.get(key) not in (None, "0s", 0, "0"):
            health[key] = table[key]
    # Asked more often than it says, within the time it would take at most: nothing here runs for long.
    every_s = _seconds(table.get("interval")) or USUAL_CHECK_S
    health["interval"] = f"{min(every_s, 1.0):g}s"
    retries = table.get("retries", USUAL_RETRIES)
    most_s = every_s * retries if isinstance(retries, int) else 0.0
    most_s += _seconds(table.get("start_period")) or 0.0
    return {"healthcheck": health, "timeout": f"{max(most_s, USUAL_TIMEOUT_S):.0f}s"}


def _seconds(value: object) -> float | None:
    from pipeline.config.check import parse_duration

    return parse_duration(value) if isinstance(value, str) else None


def _argv(name: str, key: str, value: object, reader: _Reader) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    try:
        return shlex.split(str(value))
    except ValueError as error:
        reader.problem(name, f"{key}: it cannot be split into words: {str(error).lower()}")
        return [str(value)]


def _pairs(value: object) -> dict[str, str | None]:
    """Return variables given as a table or as `NAME=value` lines; None for one without a value."""
    if isinstance(value, dict):
        return {str(key): None if one is None else _text(one) for key, one in value.items()}
    split = [re.match(r"([^=]*)(?:=(.*))?", str(one), re.DOTALL) for one in _list(value)]
    return {match[1]: match[2] for match in split if match}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(value: object) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _words(value: object) -> list[str]:
    return [str(one) for one in _list(value)]
