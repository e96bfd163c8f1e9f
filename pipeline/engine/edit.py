"""Carry out the file actions of `ops` on a writable tree, never outside its root.

Where a path leads is decided in `rootpath`, how files are copied in `transfer`.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from pipeline.engine import actions, ops
from pipeline.engine.rootpath import (
    EditFailed,
    edit_failed,
    find_owner,
    find_status,
    is_directory,
    make_directories,
    remove,
    remove_link,
    resolve,
)
from pipeline.engine.transfer import Copier, compare
from pipeline.engine.treehash import TreeEntry, digest_entries, entry_of
from pipeline.engine.unpack import is_archive, unpack
from pipeline.engine.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.digest import Digest

__all__ = ["EditFailed", "apply", "difference", "is_archive", "selection_digest", "write_new"]


def apply(
    action: actions.Action, root: Path, view: Callable[[ops.Tree], Path], *, link: bool = False
) -> None:
    """Carry out `action` on the tree at `root`.

    Args:
        action: What to do; paths in it are the tree's.
        root: The merged, writable tree; no process may be changing it.
        view: Gives the readable path of a tree that the action names.
        link: Both trees are snapshots that nobody changes afterwards: files may be shared by hard links.

    Raises:
        EditFailed: The action does not fit the tree.
        NameTooLong: A file name is longer than 255 bytes.
        BadPattern: A filter is not in the dialect.
    """
    try:
        _apply(action, os.path.realpath(root), view, link=link)
    except OSError as error:
        where = os.fsdecode(error.filename2 or error.filename or root)
        inner = where.removeprefix(os.path.realpath(root)) or "/"
        act = _ACTS[type(action)]
        raise edit_failed(act, inner, error) from error


def selection_digest(copy: actions.Copy, source_root: Path) -> Digest:
    """Return the content digest of just what `copy` would take out of the tree at `source_root`.

    Raises:
        EditFailed: The source path is missing or of the wrong kind.
    """
    source = _copy_source(copy, source_root)
    found: list[TreeEntry | None] = []
    if copy.kind == "file":
        found.append(entry_of(source, "file"))
    else:
        found.append(entry_of(source, "."))  # a target that is made takes the source's attributes
        found += (entry_of(f"{source}/{e.path}", e.path, e.stat) for e in walk(Path(source), copy.filters))
    return digest_entries(entry for entry in found if entry is not None)


def difference(lower: Path, upper: Path, into: Path) -> None:
    """Copy to the empty directory `into` what `upper` adds to or changes in `lower`, times aside.

    Raises:
        OSError: Something cannot be read or written.
    """
    top, target = os.fspath(upper), os.fspath(into)
    copier = Copier()
    for change in compare(os.fspath(lower), top):
        if change.after is None:
            continue
        parts = change.path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if not os.path.isdir(f"{target}/{parent}"):
                copier.node(f"{top}/{parent}", f"{target}/{parent}", os.lstat(f"{top}/{parent}"))
        copier.node(f"{top}/{change.path}", f"{target}/{change.path}", change.after)
    copier.finish()


_ACTS: dict[type, str] = {
    actions.Copy: "copy to",
    actions.WriteFile: "write",
    actions.MakeDirectory: "make directory",
    actions.Remove: "remove",
    actions.MakeSymlink: "make link",
    actions.ChangeOwner: "change the owner of",
    actions.SetTimes: "set the times of",
    actions.Patch: "patch",
    actions.ReplaceText: "replace text in",
    actions.Unpack: "unpack into",
    actions.ApplyChanges: "apply changes to",
    actions.MergeChanges: "merge changes into",
}


def _apply(action: actions.Action, root: str, view: Callable[[ops.Tree], Path], *, link: bool) -> None:  # noqa: C901
    match action:
        case actions.Copy():
            _copy(action, root, view(action.source), link=link)
        case actions.WriteFile():
            _write_file(action, root)
        case actions.MakeDirectory():
            _make_directory(action, root)
        case actions.Remove():
            _remove(action, root)
        case actions.MakeSymlink():
            _make_symlink(action, root)
        case actions.ChangeOwner():
            _change_owner(action, root)
        case actions.SetTimes():
            _set_times(action, root)
        case actions.Patch():
            _patch(action.text, root)
        case actions.ReplaceText():
            _replace_text(action, root)
        case actions.Unpack():
            source = _existing(os.path.realpath(view(action.source)), action.source_path)
            if action.replace_links:
                remove_link(root, action.path)
            unpack(source, root, action.path, owner=find_owner(root, action.owner))
        case actions.ApplyChanges():
            _apply_changes(root, view(action.before), view(action.after))
        case actions.MergeChanges():
            from pipeline.engine.merge import merge

            pairs = [(view(side.before), view(side.after)) for side in action.sides]
            merge(root, pairs, action.on_conflict)
        case _:
            assert_never(action)


# ---- copies and new files ------------------------------------------------------------------


def _copy(action: actions.Copy, root: str, source_root: Path, *, link: bool) -> None:
    source = _copy_source(action, source_root)
    if action.replace_links:
        remove_link(root, action.path)
    copier = Copier(
        owner=find_owner(root, action.owner), mode=action.mode, symbolic_mode=action.symbolic_mode, link=link
    )
    if action.kind == "file":
        name = action.name or os.path.basename(source)
        target = _file_target(root, action.path, name, into=action.into)
        copier.node(source, target, os.lstat(source))
        return
    target = resolve(root, action.path)
    if not is_directory(target):
        remove(target)
        make_directories(target)
        copier.made(source, target)
    copier.contents(Path(source), target, action.filters)


def _copy_source(action: actions.Copy, source_root: Path) -> str:
    source = _existing(os.path.realpath(source_root), action.source_path)
    if action.kind == "file" and is_directory(source):
        raise EditFailed("copy", action.source_path, "not a file")
    if action.kind == "contents" and not is_directory(source):
        raise EditFailed("copy", action.source_path, "not a directory")
    return source


def _existing(root: str, path: str) -> str:
    found = resolve(root, path)
    if find_status(found) is None:
        raise EditFailed("find", path, "no such file or directory")
    return found


def _file_target(root: str, path: str, name: str, *, into: bool) -> str:
    """Return where a file goes, its parents made: below `path` when that is a directory, else there."""
    means_directory = path in ("", ".") or path.endswith(("/", "/."))
    real = resolve(root, path)
    if real == root or (into and (means_directory or is_directory(real))):
        make_directories(real)
        return resolve(root, f"{real[len(root) :]}/{name}", follow_last=False)
    target = resolve(root, path, follow_last=False)
    make_directories(os.path.dirname(target))
    return target


def _write_file(action: actions.WriteFile, root: str) -> None:
    owner = find_owner(root, action.owner) or (0, 0)
    name = os.path.basename(action.path.rstrip("/."))
    target = _file_target(root, action.path, name, into=action.into)
    if is_directory(target):
        raise EditFailed("write", action.path, "is a directory")
    remove(target)
    write_new(action, target, owner)


def write_new(action: actions.WriteFile, target: str, owner: tuple[int, int]) -> None:
    """Write the file of `action` to the real path `target`, where nothing is."""
    with open(target, "xb") as stream:
        stream.write(action.content)
        os.fchown(stream.fileno(), *owner)
        os.fchmod(stream.fileno(), action.mode & 0o777 or 0o644)


def _make_directory(action: actions.MakeDirectory, root: str) -> None:
    depth = 0
    for part in action.path.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            raise EditFailed("make directory", action.path, "cannot create directory outside parent")
    mode = (action.mode or 0o755) & ~0o022
    make_directories(resolve(root, action.path), mode=mode, owner=find_owner(root, action.owner))


def _make_symlink(action: actions.MakeSymlink, root: str) -> None:
    target = resolve(root, action.path, follow_last=False)
    if find_status(target) is not None:
        raise EditFailed("make link", action.path, "file exists")
    make_directories(os.path.dirname(target))
    os.symlink(action.target, target)


# ---- removal and attributes ----------------------------------------------------------------


def _remove(action: actions.Remove, root: str) -> None:
    for path in action.paths:
        for target in list(_matches(root, path)):
            if target != root:
                remove(target)
                continue
            for name in os.listdir(root):
                remove(f"{root}/{name}")


def _matches(root: str, path: str) -> Iterator[str]:
    """Yield the real places a path with wildcards names; links above the last component are followed."""
    found = [root]
    parts = [part for part in os.path.normpath("/" + path).split("/") if part]
    for depth, part in enumerate(parts, start=1):
        follow = depth < len(parts)
        below: list[str] = []
        for directory in found:
            if not is_directory(directory):
                continue
            for name in _matching_names(directory, part):
                inner = f"{directory[len(root) :]}/{name}"
                below.append(resolve(root, inner, follow_last=follow))
        found = below
    yield from found


def _matching_names(directory: str, pattern: str) -> list[str]:
    if not any(char in pattern for char in "*?[\\"):
        return [pattern]
    # The dialect negates a class with `^` and escapes with a backslash; fnmatch with `!` and a class.
    text = re.sub(r"\\(.)", r"[\1]", pattern).replace("[^", "[!")
    matcher = re.compile(fnmatch.translate(text))
    return sorted(name for name in os.listdir(directory) if matcher.match(name))


def _change_owner(action: actions.ChangeOwner, root: str) -> None:
    owner = find_owner(root, action.owner)
    if owner is None:
        return
    top = _existing(root, action.path)
    for path in (top, *_below(top)):
        info = os.lstat(path)
        if (info.st_uid, info.st_gid) != owner:  # an overlay copies a file for any change of owner
            os.lchown(path, *owner)


def _set_times(action: actions.SetTimes, root: str) -> None:
    top = _existing(root, action.path)
    for path in _below(top):
        os.utime(path, (action.seconds, action.seconds), follow_symlinks=False)
    if top != root:
        os.utime(top, (action.seconds, action.seconds), follow_symlinks=False)


def _below(top: str) -> Iterator[str]:
    if not is_directory(top):
        return
    for directory, folders, files in os.walk(top):
        for name in folders + files:
            yield f"{directory}/{name}"


# ---- text ----------------------------------------------------------------------------------


def _patch(text: str, root: str) -> None:
    if not re.search(r"^(@@ |GIT binary patch|rename |new file|deleted file|old mode)", text, re.MULTILINE):
        return
    # A repository inside the tree, or around the store, is none of git's business here.
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_DIR": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", "apply", "--allow-empty", "-"],
            cwd=root,
            env=env,
            input=text.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            umask=0o022,
        )
    except FileNotFoundError as error:
        failed = EditFailed("patch", "/", "`git` is not installed")
        failed.hint = "install git on the machine that runs the engine"
        raise failed from error
    if done.returncode != 0:
        raise EditFailed("patch", "/", done.stderr.decode("utf-8", "replace").strip())


def _replace_text(action: actions.ReplaceText, root: str) -> None:
    target = _existing(root, action.path)
    if is_directory(target):
        raise EditFailed("replace text in", action.path, "not a file")
    with open(target, "r+b") as stream:
        content = stream.read()
        changed = _replaced(action, content)
        if changed != content:
            stream.seek(0)
            stream.write(changed)
            stream.truncate()


def _replaced(action: actions.ReplaceText, content: bytes) -> bytes:
    search, replacement = action.search.encode(), action.replacement.encode()
    start = 0
    for _line in range(1, action.first_from or 1):
        end = content.find(b"\n", start)
        start = len(content) if end == -1 else end + 1
    head, tail = content[:start], content[start:]
    count = tail.count(search)
    if action.all:
        return head + tail.replace(search, replacement)
    if count == 0:
        raise EditFailed("replace text in", action.path, "search string not found")
    if count > 1 and action.first_from is None:
        pieces = content.split(search)[:-1]
        places = [search.join(pieces[: i + 1]).count(b"\n") + 1 for i in range(len(pieces))]
        lines = ", ".join(str(line) for line in places)
        raise EditFailed("replace text in", action.path, f"search string found multiple times: lines {lines}")
    return head + tail.replace(search, replacement, 1)


# ---- changes -------------------------------------------------------------------------------


def _apply_changes(root: str, before: Path, after: Path) -> None:
    copier = Copier()
    for change in compare(os.path.realpath(before), os.path.realpath(after)):
        target = resolve(root, change.path, follow_last=False)
        if change.after is None:
            remove(target)
            continue
        make_directories(os.path.dirname(target))
        copier.node(f"{os.path.realpath(after)}/{change.path}", target, change.after)
    copier.finish()
