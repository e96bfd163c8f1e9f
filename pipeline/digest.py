"""Content digests: the names of everything that is kept by what it contains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""


def digest_bytes(data: bytes) -> Digest:
    """Hash `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_text(text: str) -> Digest:
    """Hash the UTF-8 form of `text`; lone surrogates (undecodable file names) are kept apart."""
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def digest_file(path: Path) -> Digest:
    """Hash a file's content.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as stream:
        return Digest("sha256:" + hashlib.file_digest(stream, "sha256").hexdigest())


def digest_json(value: object) -> Digest:
    """Hash the canonical JSON text of `value`.

    Raises:
        TypeError: `value` holds something JSON cannot express.
    """
    return digest_text(json.dumps(value, sort_keys=True, separators=(",", ":")))


def digest_of(node: DataclassInstance) -> Digest:
    """Hash a node's kind and every field that takes part in equality.

    Fields that are dataclasses with a `digest` of their own stand for themselves by it, so that
    the digest of a long chain costs one step.

    Raises:
        TypeError: A field holds something JSON cannot express.
    """
    key = {f.name: _plain(getattr(node, f.name)) for f in fields(node) if f.compare}
    return digest_json([type(node).__name__, key])


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "digest", None)
        return [type(value).__name__, own] if own is not None else digest_of(value)
    if isinstance(value, bytes):
        return digest_bytes(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
