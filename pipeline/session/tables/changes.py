"""`Changeset`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pipeline.engine import read
from pipeline.engine.changes import Changes, FileChange, file_changes, find_changes, patch_text
from pipeline.engine.files import Directory, File
from pipeline.engine.threads import in_thread
from pipeline.session.fields import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.session.changes import Changeset
    from pipeline.session.fields import Resolve, Table
    from pipeline.session.scope import Scope

R = TypeVar("R")


async def compared(scope: Scope, value: Changeset, compare: Callable[[Path, Path], R]) -> R:
    """Evaluate both sides and call `compare` on their roots, in a thread."""
    async with (
        scope.engine.view(value.before.tree) as old,
        scope.engine.view(value.after.tree) as new,
    ):
        before = read.require_directory(old, value.before.path)
        after = read.require_directory(new, value.after.path)
        return await in_thread(lambda: compare(before, after))


def _from_changes(pick: Callable[[Changes], Any]) -> Resolve:
    async def resolve(scope: Scope, value: Changeset, _: Mapping[str, Any]) -> Any:
        return pick(await compared(scope, value, find_changes))

    return resolve


async def diff_stats(scope: Scope, value: Changeset, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List what happened to each file."""
    return [_stat(change) for change in await compared(scope, value, file_changes)]


def _stat(change: FileChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "oldPath": change.old_path or None,
        "kind": change.kind,
        "addedLines": change.added_lines,
        "removedLines": change.removed_lines,
    }


async def as_patch(scope: Scope, value: Changeset, _: Mapping[str, Any]) -> File:
    """Return a patch."""
    text = await compared(scope, value, patch_text)
    return Directory().with_new_file("diff.patch", text).file("diff.patch")


async def export(scope: Scope, value: Changeset, arguments: Mapping[str, Any]) -> str:
    """Write additions and changes to the host, and remove there what was removed."""
    removed = (await compared(scope, value, find_changes)).removed
    target = scope.engine.host_path(arguments["path"])
    await in_thread(lambda: _remove_all(target, removed))
    return await scope.engine.export(value.before.diff(value.after), arguments["path"])


def _remove_all(target: Path, paths: Sequence[str]) -> None:
    for path in paths:
        *above, name = path.rstrip("/").split("/")
        here = os.fspath(target)
        for folder in above:
            here = f"{here}/{folder}"
            if os.path.islink(here):  # what is there is not of the target
                break
        else:
            _remove(f"{here}/{name}")


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


async def sync(scope: Scope, value: Changeset, _: Mapping[str, Any]) -> None:
    """Evaluate both sides."""
    await scope.engine.require(value.before)
    await scope.engine.require(value.after)


def with_changeset(_: Scope, value: Changeset, arguments: Mapping[str, Any]) -> Changeset:
    """Add what another changeset changes."""
    return value.merged([arguments["changes"]], arguments["onConflict"])


def with_changesets(_: Scope, value: Changeset, arguments: Mapping[str, Any]) -> Changeset:
    """Add what several others change."""
    return value.merged(arguments["changes"], arguments["onConflict"])


CHANGESET: Final[Table] = {
    "addedPaths": Field(resolve=_from_changes(lambda found: list(found.added))),
    "after": Field(resolve=lambda _, value, __: value.after),
    "asPatch": Field(resolve=as_patch),
    "before": Field(resolve=lambda _, value, __: value.before),
    "diffStats": Field(resolve=diff_stats),
    "export": Field(resolve=export, never_cached="it writes to the caller's disk"),
    "isEmpty": Field(resolve=_from_changes(lambda found: found.is_empty)),
    "layer": Field(resolve=lambda _, value, __: value.before.diff(value.after)),
    "modifiedPaths": Field(resolve=_from_changes(lambda found: list(found.modified))),
    "removedPaths": Field(resolve=_from_changes(lambda found: list(found.removed))),
    "sync": Field(resolve=sync),
    "withChangeset": Field(resolve=with_changeset, objects={"changes": "Changeset"}),
    "withChangesets": Field(resolve=with_changesets, objects={"changes": "Changeset"}),
}
