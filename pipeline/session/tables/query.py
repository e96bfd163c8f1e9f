"""`Query`: where every chain begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops
from pipeline.engine.container import Container
from pipeline.engine.files import BadPath, Directory, File
from pipeline.engine.oci.platform import host_platform, normalise_platform
from pipeline.errors import EngineError
from pipeline.session.changes import Changeset
from pipeline.session.fields import Field
from pipeline.session.tables import data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope

API_VERSION: Final = "v0.21.8+embedded"
"""The version of the API that is answered; clients compare it as a semantic version."""


class NoModule(EngineError):
    """There are no modules in this engine, and callers find that out by asking for the current one."""

    def __init__(self) -> None:
        super().__init__("no current module")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a value: a message and named values, each a text of JSON."""

    message: str
    values: tuple[tuple[str, str], ...] = ()


def with_value(_: Scope, problem: Problem, arguments: Mapping[str, Any]) -> Problem:
    """Add a value to an error."""
    return replace(problem, values=(*problem.values, (arguments["name"], arguments["value"])))


def container(_: Scope, __: object, arguments: Mapping[str, Any]) -> Container:
    """Return an empty container."""
    platform = arguments["platform"]
    return Container(platform=normalise_platform(platform) if platform else host_platform())


def file(_: Scope, __: object, arguments: Mapping[str, Any]) -> File:
    """Return a file with some text."""
    name = arguments["name"]
    if not name or "/" in name:
        raise BadPath(f"file name must not contain a directory: {name!r}")
    directory = Directory().with_new_file(name, arguments["contents"], permissions=arguments["permissions"])
    return directory.file(name)


def cache_volume(_: Scope, __: object, arguments: Mapping[str, Any]) -> ops.CacheVolume:
    """Return the volume of a key."""
    source: Directory | None = arguments["source"]
    return ops.CacheVolume(
        key=arguments["key"],
        source=source.as_tree() if source is not None else None,
        owner=arguments["owner"],
        sharing=arguments["sharing"],
    )


def current_module(_: Scope, __: object, ___: Mapping[str, Any]) -> None:
    """Fail as outside any module."""
    raise NoModule


QUERY: Final[Table] = {
    "cacheVolume": Field(resolve=cache_volume, objects={"source": "Directory"}),
    "changeset": Field(resolve=lambda _, __, ___: Changeset(before=Directory(), after=Directory())),
    "container": Field(resolve=container),
    "currentModule": Field(resolve=current_module),
    "defaultPlatform": Field(resolve=lambda _, __, ___: host_platform()),
    "directory": Field(resolve=lambda _, __, ___: Directory()),
    "engine": Field(resolve=lambda scope, __, ___: scope.engine),
    "error": Field(resolve=lambda _, __, arguments: Problem(message=arguments["message"])),
    "file": Field(resolve=file),
    "host": Field(resolve=lambda scope, __, ___: scope.engine),
    "version": Field(resolve=lambda _, __, ___: API_VERSION),
}

ERROR: Final[Table] = {
    "message": Field(resolve=lambda _, problem, __: problem.message),
    "values": Field(resolve=lambda _, problem, __: [data.pair(value) for value in problem.values]),
    "withValue": Field(resolve=with_value),
}
