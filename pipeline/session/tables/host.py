"""`Host`: what the caller's machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops
from pipeline.engine.files import File
from pipeline.session.fields import Field
from pipeline.session.tables.files import pin_by_content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.files import Directory
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


async def directory(scope: Scope, _: object, arguments: Mapping[str, Any]) -> Directory:
    """Read a directory now."""
    return await scope.engine.host_directory(
        arguments["path"],
        exclude=arguments["exclude"] or (),
        include=arguments["include"] or (),
        no_cache=arguments["noCache"],
        gitignore=arguments["gitignore"],
    )


async def file(scope: Scope, _: object, arguments: Mapping[str, Any]) -> File:
    """Read one file now; of its directory nothing else is read."""
    loaded = await scope.engine.host.load_file(arguments["path"], no_cache=arguments["noCache"])
    return File(tree=ops.Pinned(content=loaded.content), path=f"/{loaded.name}")


def find_up(scope: Scope, _: object, arguments: Mapping[str, Any]) -> str | None:
    """Look for a name from the session's directory upwards; the answer is relative to it."""
    return scope.engine.host.find_up(arguments["name"])


def unix_socket(scope: Scope, _: object, arguments: Mapping[str, Any]) -> str:
    """Return the path of a socket; whether it is there shows when it is used."""
    return str(scope.engine.host_path(arguments["path"]))


HOST: Final[Table] = {
    "directory": Field(resolve=directory, pinned=pin_by_content),
    "file": Field(resolve=file, pinned=pin_by_content),
    "findUp": Field(resolve=find_up),
    "unixSocket": Field(resolve=unix_socket),
}
