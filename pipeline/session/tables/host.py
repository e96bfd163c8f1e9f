"""`Host`: what the caller's machine has."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING, Any, Final

from pipeline.session.fields import Field
from pipeline.session.tables.files import pin_by_content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.files import Directory, File
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
    parent, name = posixpath.split(posixpath.normpath(arguments["path"]))
    pattern = "".join(f"\\{letter}" if letter in "*?[]\\!" else letter for letter in name)
    folder = await scope.engine.host_directory(
        parent or ".", include=[pattern], no_cache=arguments["noCache"]
    )
    return folder.file(name)


def find_up(scope: Scope, _: object, arguments: Mapping[str, Any]) -> str | None:
    """Look for a name from the session's directory upwards; the answer is relative to it."""
    here = workdir = os.path.abspath(scope.engine.workdir)
    while True:
        candidate = os.path.join(here, arguments["name"])
        if os.path.lexists(candidate):
            return os.path.relpath(candidate, workdir)
        if here == "/":
            return None
        here = os.path.dirname(here)


def unix_socket(scope: Scope, _: object, arguments: Mapping[str, Any]) -> str:
    """Return the path of a socket; whether it is there shows when it is used."""
    return str(scope.engine.host_path(arguments["path"]))


HOST: Final[Table] = {
    "directory": Field(resolve=directory, pinned=pin_by_content),
    "file": Field(resolve=file, pinned=pin_by_content),
    "findUp": Field(resolve=find_up),
    "unixSocket": Field(resolve=unix_socket),
}
