"""What the store speaks of: snapshots, drafts, results, and what can go wrong."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipeline.digest import Digest


SnapshotKind = Literal["images", "results", "host directories", "git", "http"]
"""What a snapshot was made from; only for people who ask what takes the space."""

FULL_HINT: Final = "prune the store, or free space on its disk"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class StoreUnusable(EngineError):
    """The store's directory or its index cannot be used."""

    def __init__(self, root: Path, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"cannot use the store `{root}`: {reason}")
        self.hint = hint


@contextmanager
def using_disk(root: Path) -> Iterator[None]:
    """Turn what the disk refuses into one error that says what to do.

    Raises:
        StoreUnusable: The disk is full, cannot be read or cannot be written.
    """
    try:
        yield
    except OSError as error:
        hint = FULL_HINT if error.errno in _FULL else None
        raise StoreUnusable(root, (error.strerror or str(error)).lower(), hint=hint) from error


@contextmanager
def told_when_full(root: Path) -> Iterator[None]:
    """Turn a full disk into the error that says what to do; other errors pass as they are.

    Raises:
        StoreUnusable: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        with using_disk(root):
            raise


class BlobNotFound(EngineError):
    """A blob is not in the store."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"cannot find the blob `{digest}`: it is not in the store")
        self.digest = digest


class BlobCorrupt(EngineError):
    """Bytes do not have the digest they should have."""

    def __init__(self, expected: Digest, actual: Digest) -> None:
        super().__init__(f"cannot use the blob `{expected}`: its content has the digest `{actual}`")
        self.expected = expected
        self.actual = actual


class SnapshotNotFound(EngineError):
    """A snapshot is not in the store."""

    def __init__(self, number: int) -> None:
        super().__init__(f"cannot find snapshot {number}: it is not in the store")
        self.number = number


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A file tree in the store: one directory of changes over its parent. Snapshot 0 is the empty tree."""

    id: int
    parent: int | None
    depth: int  # 0 for the empty tree
    identity: Digest
    size_bytes: int  # of its own changes, as the disk counts them


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A snapshot in the making: `upper` takes the changes, `work` belongs to the overlay mount."""

    id: int
    parent: Snapshot
    upper: Path
    work: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """What an op left behind: trees by name (snapshot ids), plain data, and blobs."""

    trees: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)  # anything JSON can express
    blobs: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one kind of thing takes."""

    kind: str  # one of `SnapshotKind`, "cache volumes", "recipes" or "index"
    count: int  # of snapshots and blobs, of volumes, of files, of results in the index
    size_bytes: int
