"""The order of Debian versions: epoch, upstream, revision; `~` before everything, even the end."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from pipeline.scan.advisories.orders.bad import BadVersion

Key: TypeAlias = tuple[Any, ...]

_VERSION: Final = re.compile(r"(?:(\d+):)?([0-9A-Za-z.+~:-]+?)(?:-([0-9A-Za-z.+~]+))?", re.ASCII)
_PARTS: Final = re.compile(r"(\D*)(\d*)")
_END: Final = 0


def key(text: str) -> Key:
    """Epoch, upstream version and revision, each as dpkg compares it.

    Letters sort before other signs, and a missing revision is the same as `0`.
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None or len(text) > 1000:
        raise BadVersion(text, "dpkg")
    epoch, upstream, revision = found.groups()
    return (int(epoch or 0), _key_of_part(upstream), _key_of_part(revision or ""))


def _key_of_part(text: str) -> Key:
    """Words and numbers in turn; each word ends with the end's rank, which only `~` is below."""
    key: list[Any] = []
    for word, number in _PARTS.findall(text):
        key += [(*map(_rank, word), _END), int(number or 0)]
    return tuple(key)


def _rank(sign: str) -> int:
    if sign == "~":
        return -1
    return ord(sign) if sign.isalpha() else ord(sign) + 256
