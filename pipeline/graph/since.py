"""Which stages a change touches; when in doubt, all of them, with the doubt as the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.globs import compile_globs
from pipeline.graph.inputs import GitFailed, git
from pipeline.text import some

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipeline.graph.plan import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """Stages to run; `stages` None means every one, for the `reason`."""

    stages: frozenset[str] | None
    reason: str
    changed: tuple[str, ...] = ()


def changed_since(root: Path, ref: str) -> tuple[str, ...]:
    """Tracked files that differ between the working tree and where it left `ref`; deleted ones included.

    Raises:
        GitFailed: There is no such commit here (a shallow clone may lack it), or no git.
    """
    what = f"find what changed since `{ref}`"
    git(root, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}", what=what)
    base = git(root, "merge-base", "--end-of-options", ref, "HEAD", what=what).decode().strip()
    listed = git(
        root,
        "diff",
        "--name-only",
        "-z",
        "--relative",
        "--no-renames",
        "--no-ext-diff",
        base,
        "--",
        what=what,
    )
    return tuple(sorted(os.fsdecode(listed).split("\0")[:-1]))


def affected_since(graph: Graph, root: Path, ref: str) -> Affected:
    """The stages whose declared inputs changed since `ref`, and all that depend on them.

    Transparent stages and stages without declared inputs do not vouch for a file: a changed file that no
    declared input matches, an unknown `ref` or a git that fails mean every stage.
    """
    try:
        changed = changed_since(root, ref)
    except GitFailed as error:
        return Affected(stages=None, reason=f"everything runs: {error}")
    return affected_by(graph, changed, ref)


def affected_by(graph: Graph, changed: Sequence[str], ref: str) -> Affected:
    """As `affected_since`, for a known list of changed files."""
    touched: set[str] = set()
    vouched: set[str] = set()
    for name, one in graph.stages.items():
        if one.inputs is None:
            if changed:
                touched.add(name)
        else:
            picks = compile_globs(one.inputs)
            matched = {path for path in changed if picks(path)}
            if matched:
                touched.add(name)
            if not one.transparent:
                vouched |= matched
    unmatched = [path for path in changed if path not in vouched]
    if unmatched:
        reason = f"everything runs: `{unmatched[0]}` changed and is no stage's declared input"
        return Affected(stages=None, reason=reason, changed=tuple(changed))
    for name in graph.order:
        waits = (other for other in graph.links[name].all if not graph.stages[other].transparent)
        if touched.intersection(waits):
            touched.add(name)
    reason = f"{some(len(changed), 'file')} changed since `{ref}`"
    return Affected(stages=frozenset(touched), reason=reason, changed=tuple(changed))
