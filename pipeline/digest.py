"""Content digests: the names of everything that is kept by what it contains."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, NewType

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import DataclassInstance

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits."""


_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


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
    return digest_text(_encode(value))


def digest_of(node: DataclassInstance) -> Digest:
    """Hash a node's kind and every field that takes part in equality.

    Fields that are dataclasses with a `digest` of their own stand for themselves by it, so that
    the digest of a long chain costs one step.

    Raises:
        TypeError: A field holds something JSON cannot express.
    """
    kind = type(node)
    return digest_json([kind.__name__, {name: _plain(getattr(node, name)) for name in _compared(kind)}])


@functools.lru_cache(maxsize=256)
def _compared(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.compare)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if hasattr(kind, "__dataclass_fields__"):
        own = getattr(value, "digest", None)
        return [kind.__name__, own] if own is not None else digest_of(value)
    if isinstance(value, bytes):
        return digest_bytes(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
