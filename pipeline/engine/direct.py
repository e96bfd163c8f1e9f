"""Copies and new files made in a draft's own directory, without a mount, where nothing below is in the way.

The kernel makes a file in an overlay several times slower than in a plain directory, and copying
sources into an image is the commonest edit; for one small file the mount itself is what takes the time,
the more the longer the chain. The result is the same as that of `edit.apply`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.actions import Copy, WriteFile
from pipeline.engine.edit import apply, write_new
from pipeline.engine.paths import NAME_MAX_BYTES
from pipeline.engine.rootpath import edit_failed, is_directory, resolve
from pipeline.engine.store.layers import copy_attributes, is_opaque, is_whiteout
from pipeline.engine.transfer import Copier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.engine.actions import Action
    from pipeline.engine.ops import Tree
    from pipeline.engine.store.snapshots import Snapshots
    from pipeline.engine.store.values import Draft


_PARENT_MODE: Final = 0o755


def apply_to_draft(
    action: Action, snapshots: Snapshots, draft: Draft, view: Callable[[Tree], Path], *, link: bool = False
) -> None:
    """Carry out a file action on a draft, without a mount where that is possible.

    Raises:
        EditFailed: The action does not fit the tree.
        MountFailed: The draft's tree cannot be mounted.
        NameTooLong: A file name is longer than 255 bytes.
        BadPattern: A filter is not in the dialect.
    """
    if isinstance(action, (Copy, WriteFile)) and draft.parent.id != snapshots.empty.id:
        try:
            lowers = snapshots.lowers(draft.parent)
            if isinstance(action, WriteFile):
                is_done = write_directly(action, draft.upper, lowers)
            else:
                is_done = copy_directly(action, draft.upper, lowers, view(action.source), link=link)
        except OSError as error:
            act = "copy to" if isinstance(action, Copy) else "write"
            raise edit_failed(act, action.path, error) from error
        if is_done:
            return
    with snapshots.writable(draft) as root:
        apply(action, root, view, link=link)


def copy_directly(
    action: Copy, upper: Path, lowers: Sequence[Path], source_root: Path, *, link: bool = False
) -> bool:
    """Carry out a copy of a directory's contents in `upper`, the empty directory of a draft over `lowers`.

    False, and nothing is done, when it takes a merged view: something below has one of the names, the
    target leads through a link, or an owner's name has to be looked up.

    Raises:
        OSError: Something cannot be read or written.
        BadPattern: A filter is not in the dialect.
    """
    source = resolve(os.path.realpath(source_root), action.source_path)
    parts = _plain_parts(action.path)
    owner = _number_owner(action.owner)
    if action.kind != "contents" or owner is None or parts is None or not is_directory(source):
        return False
    if os.listdir(upper):
        return False
    stacks = _find_stacks([os.fspath(lower) for lower in lowers], parts)
    if stacks is None:
        return False
    if len(stacks) > len(parts) and any(_find(stacks[-1], name) for name in os.listdir(source)):
        return False
    copier = Copier(owner=owner or None, mode=action.mode, symbolic_mode=action.symbolic_mode, link=link)
    target = os.fspath(upper)
    for depth, part in enumerate(parts, start=1):
        target = f"{target}/{part}"
        os.mkdir(target)
        if depth == len(parts) and depth >= len(stacks):
            copier.made(source, target)
        else:
            os.chmod(target, _PARENT_MODE)
    copier.contents(Path(source), target, action.filters)
    _restore_attributes(os.fspath(upper), parts, stacks)
    return True


def write_directly(action: WriteFile, upper: Path, lowers: Sequence[Path]) -> bool:
    """Write a new file in `upper`, the empty directory of a draft over `lowers`.

    False, and nothing is done, when it takes a merged view: something below has the name, the path leads
    through a link or names a directory, or the owner's name has to be looked up.

    Raises:
        OSError: It cannot be written.
    """
    parts = _plain_parts(action.path)
    owner = _number_owner(action.owner)
    if owner is None or not parts or action.path.endswith(("/", "/.")) or os.listdir(upper):
        return False
    *above, name = parts
    stacks = _find_stacks([os.fspath(lower) for lower in lowers], above)
    if stacks is None or (len(stacks) > len(above) and _find(stacks[-1], name)):
        return False
    target = os.fspath(upper)
    for part in above:
        target = f"{target}/{part}"
        os.mkdir(target)
        os.chmod(target, _PARENT_MODE)
    write_new(action, f"{target}/{name}", owner or (0, 0))
    _restore_attributes(os.fspath(upper), above, stacks)
    return True


def _plain_parts(path: str) -> list[str] | None:
    """Return the names a path consists of; None when it has to be resolved, or no tree can have it."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or any(len(os.fsencode(part)) > NAME_MAX_BYTES for part in parts):
        return None
    return parts


def _restore_attributes(upper: str, parts: Sequence[str], stacks: Sequence[Sequence[str]]) -> None:
    """Give the directories that are below already the attributes that they have there."""
    for depth in range(len(stacks) - 1, 0, -1):
        copy_attributes(stacks[depth][0], "/".join([upper, *parts[:depth]]))


def _number_owner(owner: str) -> tuple[int, int] | tuple[()] | None:
    """Return an owner given by numbers, () for none, and None for one that has names."""
    if not owner:
        return ()
    user, _, group = owner.partition(":")
    if not (user.isdecimal() and (group or user).isdecimal()):
        return None
    return int(user), int(group or user)


def _find_stacks(lowers: list[str], parts: Sequence[str]) -> list[list[str]] | None:
    """Return the real directories behind the root and each part of a path, as far as it exists.

    None when a part is something else than a directory.
    """
    stacks = [lowers]
    for part in parts:
        below: list[str] = []
        for directory in stacks[-1]:
            info = _status(f"{directory}/{part}")
            if info is None:
                continue
            if not stat.S_ISDIR(info.st_mode):
                if not below and not is_whiteout(info):
                    return None
                break
            below.append(f"{directory}/{part}")
            if is_opaque(below[-1]):
                break
        if not below:
            break
        stacks.append(below)
    return stacks


def _find(stack: Sequence[str], name: str) -> bool:
    """Say whether a merged directory has a name."""
    for directory in stack:
        info = _status(f"{directory}/{name}")
        if info is not None:
            return not is_whiteout(info)
    return False


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
