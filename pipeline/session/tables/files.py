"""`Directory` and `File`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops, read
from pipeline.engine.files import Directory, File
from pipeline.engine.paths import base_name, join
from pipeline.errors import EngineError
from pipeline.session.calls import Call
from pipeline.session.changes import Changeset
from pipeline.session.fields import Field, pure
from pipeline.session.tables import data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope

NEVER_EXPORT: Final = "it writes to the caller's disk"


class UserError(EngineError):
    """What the caller asked to fail with."""


def pin_by_content(call: Call, value: Directory | File) -> Call:
    """Write a call whose result is known by content as that content, whatever it was read from."""
    if not isinstance(value.tree, ops.Pinned):
        return call
    arguments = {"content": value.tree.content, "path": value.path}
    if isinstance(value, File) and value.rename:
        arguments["rename"] = value.rename
    return Call(type=call.type, arguments=arguments)


def pinned_directory(arguments: Mapping[str, Any]) -> Directory:
    """Return the directory that `pin_by_content` wrote down."""
    return Directory(tree=ops.Pinned(content=arguments["content"]), path=arguments["path"])


def pinned_file(arguments: Mapping[str, Any]) -> File:
    """Return the file that `pin_by_content` wrote down."""
    return File(
        tree=ops.Pinned(content=arguments["content"]),
        path=arguments["path"],
        rename=arguments.get("rename", ""),
    )


def with_error(_: Scope, value: Any, arguments: Mapping[str, Any]) -> Any:
    """Fail with the caller's message, unless it is empty."""
    if arguments["err"]:
        raise UserError(arguments["err"])
    return value


# ---- reading ---------------------------------------------------------------------------------


async def entries(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> list[str]:
    """List one level."""
    path = _below(directory, arguments["path"] or "/")
    return await scope.engine.look(directory.tree, lambda root: read.entries(root, path))


async def glob(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> list[str]:
    """List what matches."""
    pattern = arguments["pattern"]
    return await scope.engine.look(directory.tree, lambda root: read.glob(root, directory.path, pattern))


async def exists(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> bool:
    """Say whether a path is there."""
    if not arguments["path"]:
        return False
    look = partial(
        read.exists,
        path=_below(directory, arguments["path"]),
        kind=arguments["expectedType"],
        follow=not arguments["doNotFollowSymlinks"],
    )
    return await scope.engine.look(directory.tree, look)


async def stat(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a path is."""
    if not arguments["path"]:
        raise read.PathProblem("stat", "no such file or directory")
    look = partial(
        read.stat_of, path=_below(directory, arguments["path"]), follow=not arguments["doNotFollowSymlinks"]
    )
    return data.stat(await scope.engine.look(directory.tree, look))


async def find_up(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> str | None:
    """Look for a name in a directory and its parents."""
    name, start = arguments["name"], arguments["start"]

    def look(root: Path) -> str | None:
        return read.find_up(read.require_directory(root, directory.path), name, start)

    return await scope.engine.look(directory.tree, look)


async def digest(scope: Scope, value: Directory | File, _: Mapping[str, Any]) -> str:
    """Return the digest of content and attributes."""
    return await scope.engine.digest(value)


async def sync(scope: Scope, value: Directory | File, _: Mapping[str, Any]) -> None:
    """Evaluate."""
    await scope.engine.require(value)


async def search(scope: Scope, value: Directory | File, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines that match."""
    options = read.SearchOptions(
        literal=arguments["literal"],
        multiline=arguments["multiline"],
        dotall=arguments["dotall"],
        insensitive=arguments["insensitive"],
        skip_ignored=arguments["skipIgnored"],
        skip_hidden=arguments["skipHidden"],
        files_only=arguments["filesOnly"],
        limit=arguments["limit"],
    )
    path, paths = value.path, arguments["paths"] or []
    if isinstance(value, File):
        path, paths = join("/", value.path + "/.."), [base_name(value.path)]
    look = partial(
        read.search,
        path=path,
        pattern=arguments["pattern"],
        options=options,
        paths=paths,
        globs=arguments["globs"] or [],
    )
    return [data.search_result(hit) for hit in await scope.engine.look(value.tree, look)]


def directory_name(_: Scope, directory: Directory, __: Mapping[str, Any]) -> str:
    """Return the base name with a slash."""
    return base_name(directory.path).rstrip("/") + "/"


def _below(directory: Directory, path: str) -> str:
    return join(directory.path, path.lstrip("/"))


# ---- writing ---------------------------------------------------------------------------------


async def export_directory(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> str:
    """Write to the host."""
    return await scope.engine.export(directory, arguments["path"], wipe=arguments["wipe"])


async def export_file(scope: Scope, file: File, arguments: Mapping[str, Any]) -> str:
    """Write to the host."""
    return await scope.engine.export(file, arguments["path"], into_parent=arguments["allowParentDirPath"])


async def with_patch_file(scope: Scope, directory: Directory, arguments: Mapping[str, Any]) -> Directory:
    """Apply the patch that a file holds."""
    patch: File = arguments["patch"]
    text = await scope.engine.look(patch.tree, lambda root: read.contents(root, patch.path))
    return directory.with_patch(text)


def with_changes(_: Scope, directory: Directory, arguments: Mapping[str, Any]) -> Directory:
    """Apply a changeset."""
    changes: Changeset = arguments["changes"]
    return directory.with_changes(changes.before, changes.after)


def changes(_: Scope, directory: Directory, arguments: Mapping[str, Any]) -> Changeset:
    """Return what happened since another directory."""
    return Changeset(before=arguments["from"], after=directory)


def without_one(_: Scope, directory: Directory, arguments: Mapping[str, Any]) -> Directory:
    """Remove a path."""
    return directory.without([arguments["path"]])


DIRECTORY: Final[Table] = {
    "changes": Field(resolve=changes, objects={"from": "Directory"}),
    "chown": pure(Directory.chown),
    "diff": pure(Directory.diff, objects={"other": "Directory"}),
    "digest": Field(resolve=digest),
    "directory": pure(Directory.directory),
    "entries": Field(resolve=entries),
    "exists": Field(resolve=exists),
    "export": Field(resolve=export_directory, never_cached=NEVER_EXPORT),
    "file": pure(Directory.file),
    "filter": pure(Directory.filter),
    "findUp": Field(resolve=find_up),
    "glob": Field(resolve=glob),
    "name": Field(resolve=directory_name),
    "search": Field(resolve=search),
    "stat": Field(resolve=stat),
    "sync": Field(resolve=sync),
    "withChanges": Field(resolve=with_changes, objects={"changes": "Changeset"}),
    "withDirectory": pure(Directory.with_directory, objects={"source": "Directory"}),
    "withError": Field(resolve=with_error),
    "withFile": pure(Directory.with_file, objects={"source": "File"}),
    "withFiles": pure(Directory.with_files, objects={"sources": "File"}),
    "withNewDirectory": pure(Directory.with_new_directory),
    "withNewFile": pure(Directory.with_new_file),
    "withPatch": pure(Directory.with_patch, rename={"patch": "text"}),
    "withPatchFile": Field(resolve=with_patch_file, objects={"patch": "File"}),
    "withSymlink": pure(Directory.with_symlink),
    "withTimestamps": pure(Directory.with_timestamps, rename={"timestamp": "seconds"}),
    "withoutDirectory": Field(resolve=without_one),
    "withoutFile": Field(resolve=without_one),
    "withoutFiles": pure(Directory.without),
}


# ---- File ------------------------------------------------------------------------------------


async def contents(scope: Scope, file: File, arguments: Mapping[str, Any]) -> str:
    """Return the text, or some of its lines."""
    look = partial(
        read.contents,
        path=file.path,
        offset_lines=arguments["offsetLines"] or 0,
        limit_lines=arguments["limitLines"],
    )
    return await scope.engine.look(file.tree, look)


async def file_stat(scope: Scope, file: File, _: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the file is."""
    found = await scope.engine.look(file.tree, lambda root: read.stat_of(root, file.path))
    return {**data.stat(found), "name": file.name}


async def size(scope: Scope, file: File, _: Mapping[str, Any]) -> int:
    """Return the length in bytes."""

    def look(root: Path) -> int:
        return read.require_file(root, file.path).stat().st_size

    return await scope.engine.look(file.tree, look)


async def file_digest(scope: Scope, file: File, arguments: Mapping[str, Any]) -> str:
    """Return the digest of the file, or of its content alone."""
    if not arguments["excludeMetadata"]:
        return await scope.engine.digest(file)
    from pipeline.digest import digest_file

    return await scope.engine.look(file.tree, lambda root: digest_file(read.require_file(root, file.path)))


FILE: Final[Table] = {
    "chown": pure(File.chown),
    "contents": Field(resolve=contents),
    "digest": Field(resolve=file_digest),
    "export": Field(resolve=export_file, never_cached=NEVER_EXPORT),
    "name": Field(resolve=lambda _, file, __: file.name),
    "search": Field(resolve=search),
    "size": Field(resolve=size),
    "stat": Field(resolve=file_stat),
    "sync": Field(resolve=sync),
    "withName": pure(File.with_name),
    "withReplaced": pure(File.with_replaced, rename={"all": "replace_all", "firstFrom": "first_from"}),
    "withTimestamps": pure(File.with_timestamps, rename={"timestamp": "seconds"}),
}
