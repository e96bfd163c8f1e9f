"""Directories and files as users hold them: a tree and a path in it; every method is pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.engine import actions, ops
from pipeline.engine.paths import base_name, join
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRATCH = ops.Scratch()


class BadPath(EngineError):
    """A path argument is refused whatever the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The file at `path` in `tree`; `rename` is the name it goes by when copied, if not its own."""

    tree: ops.Tree
    path: str
    rename: str = ""

    @property
    def name(self) -> str:
        """The base name."""
        return self.rename or base_name(self.path)

    def with_name(self, name: str) -> File:
        """Return the file under another base name.

        Raises:
            BadPath: The name is empty or has a slash.
        """
        if not name or "/" in name:
            raise BadPath(f"File name must not contain a directory: {name!r}")
        return replace(self, rename=name)

    def _alone(self) -> Directory:
        """The file as the only one in a directory, so that an edit touches nothing else."""
        return Directory().with_file(self.name, self)

    def edited(self, action: actions.Action) -> File:
        """Return the file after `action`, whose paths name it by its base name."""
        tree = ops.Edit(base=self._alone().tree, action=action)
        return File(tree=tree, path="/" + self.name)

    def with_timestamps(self, seconds: int) -> File:
        """Return the file with another mtime."""
        return self.edited(actions.SetTimes(seconds=seconds, path="/" + self.name))

    def chown(self, owner: str) -> File:
        """Return the file with another owner."""
        return self.edited(actions.ChangeOwner(path="/" + self.name, owner=owner))

    def with_replaced(
        self, search: str, replacement: str, *, replace_all: bool = False, first_from: int | None = None
    ) -> File:
        """Return the file with literal text replaced; attributes stay."""
        return self.edited(
            actions.ReplaceText(
                path="/" + self.name,
                search=search,
                replacement=replacement,
                all=replace_all,
                first_from=first_from,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The directory at `path` in `tree`."""

    tree: ops.Tree = SCRATCH
    path: str = "/"

    def as_tree(self) -> ops.Tree:
        """Return a tree whose root is this directory."""
        if self.path == "/":
            return self.tree
        return ops.Edit(base=SCRATCH, action=actions.Copy(source=self.tree, source_path=self.path))

    def _edit(self, action: actions.Action) -> Directory:
        return Directory(tree=ops.Edit(base=self.as_tree(), action=action))

    def directory(self, path: str) -> Directory:
        """Return a directory below; whether it exists shows on evaluation."""
        return replace(self, path=join(self.path, path.lstrip("/")))

    def file(self, path: str) -> File:
        """Return a file below; whether it exists shows on evaluation."""
        return File(tree=self.tree, path=join(self.path, path.lstrip("/")))

    def with_directory(
        self,
        path: str,
        source: Directory,
        *,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        gitignore: bool = False,
        owner: str = "",
        permissions: int | None = None,
    ) -> Directory:
        """Return this with the contents of `source` merged into `path`."""
        return self._edit(
            actions.Copy(
                source=source.tree,
                source_path=source.path,
                path=join("/", path),
                filters=actions.Filters(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore),
                owner=owner,
                mode=permissions,
            )
        )

    def filter(
        self, *, exclude: Sequence[str] = (), include: Sequence[str] = (), gitignore: bool = False
    ) -> Directory:
        """Return only the files that pass the filters."""
        return Directory().with_directory("/", self, exclude=exclude, include=include, gitignore=gitignore)

    def with_file(
        self, path: str, source: File, *, permissions: int | None = None, owner: str = ""
    ) -> Directory:
        """Return this with a file copied to `path`, or into it when it is a directory."""
        return self._edit(copy_of_file(path, source, permissions=permissions, owner=owner))

    def with_files(self, path: str, sources: Sequence[File], *, permissions: int | None = None) -> Directory:
        """Return this with files copied into directory `path` under their own names."""
        result = self
        for source in sources:
            result = result.with_file(path.rstrip("/") + "/", source, permissions=permissions)
        return result

    def with_new_file(self, path: str, contents: str, *, permissions: int = 0o644) -> Directory:
        """Return this with a new text file; mode 0 means 0644."""
        mode = permissions & 0o777 or 0o644
        return self._edit(actions.WriteFile(path=join("/", path), content=encode(contents), mode=mode))

    def with_new_directory(self, path: str, *, permissions: int = 0o644) -> Directory:
        """Return this with a directory and its parents; mode 0 means 0755.

        Raises:
            BadPath: The path leaves the directory.
        """
        refuse_escape(path, "cannot create directory outside parent")
        return self._edit(actions.MakeDirectory(path=join("/", path), mode=permissions or 0o755))

    def without(self, paths: Sequence[str]) -> Directory:
        """Return this without `paths`; wildcards match, a missing path is no error."""
        return self._edit(actions.Remove(paths=tuple(join("/", path) for path in paths)))

    def with_symlink(self, target: str, link_name: str) -> Directory:
        """Return this with a symbolic link; its target is stored verbatim."""
        return self._edit(actions.MakeSymlink(path=join("/", link_name), target=target))

    def with_timestamps(self, seconds: int) -> Directory:
        """Return this with every mtime and atime set."""
        return self._edit(actions.SetTimes(seconds=seconds))

    def chown(self, path: str, owner: str) -> Directory:
        """Return this with `path` and all below owned by `owner`."""
        return self._edit(actions.ChangeOwner(path=join("/", path), owner=owner))

    def diff(self, other: Directory) -> Directory:
        """Return what `other` adds or changes relative to this."""
        return Directory(tree=ops.Difference(lower=self.as_tree(), upper=other.as_tree()))

    def with_patch(self, text: str) -> Directory:
        """Return this after a unified diff; an empty one changes nothing."""
        return self if "@@" not in text and "diff --git" not in text else self._edit(actions.Patch(text=text))

    def merged(
        self, pairs: Sequence[tuple[Directory, Directory]], on_conflict: actions.OnConflict
    ) -> Directory:
        """Return this after what happened in each pair of a directory before and after, merged by git."""
        sides = tuple(
            actions.ApplyChanges(before=before.as_tree(), after=after.as_tree()) for before, after in pairs
        )
        return self._edit(actions.MergeChanges(sides=sides, on_conflict=on_conflict))

    def with_changes(self, before: Directory, after: Directory) -> Directory:
        """Return this after what happened between two other directories."""
        return self._edit(actions.ApplyChanges(before=before.as_tree(), after=after.as_tree()))


def copy_of_file(
    path: str, source: File, *, permissions: int | None = None, owner: str = "", base: str = "/"
) -> actions.Copy:
    """Return the action that copies a file to `path` by the trailing-slash rule."""
    into = path in ("", ".") or path.endswith(("/", "/."))
    target = join(base, path)
    return actions.Copy(
        source=source.tree,
        source_path=source.path,
        path=join(target, source.name) if into else target,
        kind="file",
        into=not into,
        name=source.name,
        owner=owner,
        mode=permissions,
    )


def refuse_escape(path: str, message: str) -> None:
    """Raise BadPath with `message` when a relative path climbs out of its root."""
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            raise BadPath(f"{message}: `{path}`")


def encode(text: str) -> bytes:
    """Return file content for text from the wire; lone surrogates stand for raw bytes."""
    return text.encode("utf-8", "surrogateescape")
