"""Nodes as their content names them: the second key of `solve`, and what has to be evaluated to form it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.engine import actions, edit, ops
from pipeline.engine.rootpath import resolve
from pipeline.engine.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.store import Snapshot


def sources_of(action: actions.Action) -> list[ops.Tree]:
    """Return the trees that an action names."""
    if isinstance(action, (actions.Copy, actions.Unpack)):
        return [action.source]
    if isinstance(action, actions.ApplyChanges):
        return [action.before, action.after]
    if isinstance(action, actions.MergeChanges):
        return [tree for side in action.sides for tree in (side.before, side.after)]
    return []


async def action_by_content(
    action: actions.Action, views: Mapping[Digest, Path], snapshots: Mapping[Digest, Snapshot]
) -> actions.Action:
    """Return the action with its sources named by content: what is copied, not what it lies in."""

    def pinned(tree: ops.Tree) -> ops.Pinned:
        return ops.Pinned(content=snapshots[tree.digest].identity)

    if isinstance(action, actions.Copy):
        if _has_set_times(action.source):
            return replace(action, source=pinned(action.source))
        copy, root = action, views[action.source.digest]
        selected, name = await in_thread(lambda: _select(copy, root))
        return replace(
            action,
            source=ops.Pinned(content=selected),
            source_path="/",
            filters=actions.Filters(),
            name=name,
        )
    if isinstance(action, actions.Unpack):
        return replace(action, source=pinned(action.source))
    if isinstance(action, actions.ApplyChanges):
        return replace(action, before=pinned(action.before), after=pinned(action.after))
    if isinstance(action, actions.MergeChanges):
        sides = tuple(
            actions.ApplyChanges(before=pinned(side.before), after=pinned(side.after))
            for side in action.sides
        )
        return replace(action, sides=sides)
    return action


def _select(copy: actions.Copy, root: Path) -> tuple[Digest, str]:
    """Return the digest of what a copy takes, and the name that its file has where it enters a directory."""
    selected = edit.selection_digest(copy, root)
    if copy.kind != "file":
        return selected, ""
    return selected, copy.name or os.path.basename(resolve(os.path.realpath(root), copy.source_path))


def _has_set_times(tree: ops.Tree) -> bool:
    """Say whether times in a tree were set on purpose: the digest of what is selected does not know them."""
    pending, seen = [tree], {tree.digest}
    while pending:
        node = pending.pop()
        if not isinstance(node, ops.Edit):
            continue
        if isinstance(node.action, actions.SetTimes):
            return True
        below = [each for each in (node.base, *sources_of(node.action)) if each.digest not in seen]
        seen.update(each.digest for each in below)
        pending += below
    return False


def exec_inputs(node: ops.Exec) -> list[ops.Tree]:
    """Return the trees an exec needs: its base, mounted trees, seeds of cache volumes."""
    mounted = [m.tree for m in node.mounts if isinstance(m, ops.TreeMount)]
    seeds = [
        m.volume.source for m in node.mounts if isinstance(m, ops.CacheMount) and m.volume.source is not None
    ]
    return [node.base, *mounted, *seeds]


def exec_by_content(node: ops.Exec, inputs: Mapping[Digest, Snapshot]) -> ops.Exec:
    """Return the exec with the trees it works on named by content."""

    def pinned(tree: ops.Tree) -> ops.Pinned:
        return ops.Pinned(content=inputs[tree.digest].identity)

    mounts = tuple(
        replace(m, tree=pinned(m.tree)) if isinstance(m, ops.TreeMount) else m for m in node.mounts
    )
    return replace(node, base=pinned(node.base), mounts=mounts)
