"""What an `Edit` does to a tree: immutable values, which `edit` carries out and which are part of its digest.

A field with `compare=False` is no part of the digest, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.engine.ops import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which files of a tree take part; patterns are in the Moby dialect."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    gitignore: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Copy from another tree.

    `kind` is "contents" (the contents of directory `source_path` into directory `path`), or "file"
    (one file to exactly `path`; `into` says that `path` is a directory when it exists or ends in a slash).
    """

    source: Tree
    source_path: str = "/"
    path: str = "/"
    kind: Literal["contents", "file"] = "contents"
    into: bool = False
    name: str = ""  # the file's own name, used when it goes into a directory
    filters: Filters = Filters()
    owner: str = ""
    mode: int | None = None  # permission bits for files and directories; None keeps the source's
    symbolic_mode: str = ""  # `u=rwX,go=rX`: applied to the source's mode of each file and directory
    replace_links: bool = False  # links on the way to `path` give way to directories


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Write a new file; parents are made 0755."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = ""
    into: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """Make a directory and its parents; an existing one keeps its mode."""

    path: str
    mode: int = 0o755
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Remove paths recursively; wildcards match; a missing path is no error."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeSymlink:
    """Make a symbolic link; its target is stored verbatim; an existing name is an error."""

    path: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOwner:
    """Change owners recursively."""

    path: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimes:
    """Set mtime and atime (seconds) of everything below the root."""

    seconds: int
    path: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Apply a unified diff."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceText:
    """Replace literal text in one file, keeping its attributes."""

    path: str
    search: str
    replacement: str
    all: bool = False
    first_from: int | None = None  # 1-based line


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpack:
    """Unpack the tar archive at `source_path` (any usual compression) into directory `path`."""

    source: Tree
    source_path: str
    path: str
    owner: str = ""
    replace_links: bool = False  # as in `Copy`


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyChanges:
    """Apply what happened between `before` and `after`: additions, changes and removals."""

    before: Tree
    after: Tree


OnConflict = Literal["FAIL_EARLY", "FAIL", "LEAVE_CONFLICT_MARKERS", "PREFER_OURS", "PREFER_THEIRS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeChanges:
    """Apply several changesets at once, merged as git merges branches."""

    sides: tuple[ApplyChanges, ...]
    on_conflict: OnConflict = "FAIL"


Action = (
    Copy
    | WriteFile
    | MakeDirectory
    | Remove
    | MakeSymlink
    | ChangeOwner
    | SetTimes
    | Patch
    | ReplaceText
    | Unpack
    | ApplyChanges
    | MergeChanges
)

Placed = Copy | WriteFile | MakeDirectory | MakeSymlink | Unpack | ChangeOwner
"""Actions that work at one path."""
