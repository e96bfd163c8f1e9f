"""Blobs: kept whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.digest import Digest, digest_bytes
from pipeline.engine.store import BlobCorrupt, BlobNotFound, Store
from tests.engine.store_helpers import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MISSING = Digest("sha256:" + "0" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "store") as store:
        yield store


def test_bytes_are_found_under_their_digest_and_kept_once(store: Store) -> None:
    """Putting the same bytes twice changes nothing."""
    digest = store.blobs.put_bytes(b"layer")
    again = store.blobs.put_bytes(b"layer")

    assert digest == again == digest_bytes(b"layer")
    assert store.blobs.path(digest).read_bytes() == store.blobs.read(digest) == b"layer"
    assert len(os.listdir(store.root / "blobs" / "sha256")) == 1


def test_a_missing_blob_is_not_found(store: Store) -> None:
    """Asking whether it is there is no error; asking for it is."""
    assert store.blobs.has(MISSING) is False
    with pytest.raises(BlobNotFound, match=MISSING):
        store.blobs.path(MISSING)


def test_a_writer_keeps_what_was_written_piece_by_piece(store: Store) -> None:
    """The digest is known when the block has ended."""
    with store.blobs.writer(digest_bytes(b"onetwo")) as writer:
        writer.write(b"one")
        writer.write(b"two")

    assert writer.digest == digest_bytes(b"onetwo")
    assert store.blobs.read(digest_bytes(b"onetwo")) == b"onetwo"


def test_a_writer_of_something_else_than_expected_keeps_nothing(store: Store) -> None:
    """The error carries both digests, and no file is left."""
    with pytest.raises(BlobCorrupt) as caught, store.blobs.writer(MISSING) as writer:
        writer.write(b"something else")

    assert (caught.value.expected, caught.value.actual) == (MISSING, digest_bytes(b"something else"))
    assert os.listdir(store.root / "blobs" / "new") == os.listdir(store.root / "blobs" / "sha256") == []


def test_a_writer_that_is_interrupted_keeps_nothing(store: Store) -> None:
    """An error in the block leaves no trace."""

    def lose_the_connection() -> None:
        with store.blobs.writer() as writer:
            writer.write(b"half")
            raise RuntimeError("lost the connection")

    with pytest.raises(RuntimeError, match="lost"):
        lose_the_connection()

    assert os.listdir(store.root / "blobs" / "new") == os.listdir(store.root / "blobs" / "sha256") == []


def test_a_file_is_adopted_when_it_is_what_it_should_be(store: Store, tmp_path: Path) -> None:
    """A good file moves into the store; another stays where it is."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"good")
    bad.write_bytes(b"bad")

    store.blobs.adopt(good, digest_bytes(b"good"))
    with pytest.raises(BlobCorrupt):
        store.blobs.adopt(bad, digest_bytes(b"good"))

    assert (store.blobs.read(digest_bytes(b"good")), good.exists(), bad.exists()) == (b"good", False, True)


def test_a_damaged_blob_is_noticed_and_removed(store: Store) -> None:
    """After the error it is simply missing, so that it is fetched again."""
    digest = store.blobs.put_bytes(b"content")
    store.blobs.path(digest).write_bytes(b"damaged")

    with pytest.raises(BlobCorrupt):
        store.blobs.read(digest)

    assert store.blobs.has(digest) is False


def test_a_blob_whose_file_was_deleted_is_missing(store: Store) -> None:
    """The index does not promise what the disk does not have."""
    digest = store.blobs.put_bytes(b"content")
    store.blobs.path(digest).unlink()

    assert store.blobs.has(digest) is False
    assert store.blobs.put_bytes(b"content") == digest
    assert store.blobs.read(digest) == b"content"


def test_a_deleted_blob_is_gone_and_deleting_it_again_is_no_error(store: Store) -> None:
    """Row and file go."""
    digest = store.blobs.put_bytes(b"content")

    store.blobs.delete(digest)
    store.blobs.delete(digest)

    assert (store.blobs.has(digest), os.listdir(store.root / "blobs" / "sha256")) == (False, [])
