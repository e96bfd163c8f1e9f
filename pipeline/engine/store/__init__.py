"""The store: blobs, snapshots and the index of results, on one directory that several engines may share."""

from __future__ import annotations

from pipeline.engine.store.blobs import Blobs, BlobWriter
from pipeline.engine.store.index import Index
from pipeline.engine.store.snapshots import Snapshots
from pipeline.engine.store.store import Store
from pipeline.engine.store.values import (
    BlobCorrupt,
    BlobNotFound,
    Draft,
    Snapshot,
    SnapshotNotFound,
    StoredResult,
    StoreUnusable,
    Usage,
)

__all__ = [
    "BlobCorrupt",
    "BlobNotFound",
    "BlobWriter",
    "Blobs",
    "Draft",
    "Index",
    "Snapshot",
    "SnapshotNotFound",
    "Snapshots",
    "Store",
    "StoreUnusable",
    "StoredResult",
    "Usage",
]
