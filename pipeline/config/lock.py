"""The lock file of images: what each name stands for until somebody says otherwise; `pipeline.lock`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.config.load import read_toml
from pipeline.config.values import ConfigUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOCK_FILE: Final = "pipeline.lock"
VERSION: Final = 1

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD: Final = (
    "# What image names stand for. Written by `pipeline lock`; `pipeline lock --update` looks again.\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Digests by image name in canonical form; of a stand-in it is that of what its recipe made."""

    images: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """The digest of every name."""
        return {**self.images, **self.stand_ins}


def load_lock(root: Path) -> Lock:
    """Read the lock file of the project in `root`; without one nothing is pinned.

    Raises:
        ConfigUnreadable: It is no TOML, of another version, or pins something to what is no digest.
    """
    table = read_toml(root / LOCK_FILE, LOCK_FILE)
    version = table.get("version", VERSION)
    if version != VERSION:
        raise ConfigUnreadable(LOCK_FILE, f"it is of version {version}, this pipeline reads {VERSION}")
    return Lock(images=_digests(table, "images"), stand_ins=_digests(table, "stand-ins"))


def _digests(table: Mapping[str, Any], name: str) -> dict[str, str]:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise ConfigUnreadable(LOCK_FILE, f"`{name}` is no table")
    for image, digest in found.items():
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ConfigUnreadable(LOCK_FILE, f"`{image}` is pinned to `{digest}`, which is no digest")
    return dict(sorted(found.items()))


def lock_text(lock: Lock) -> str:
    """Return the lock file's text; equal pins are equal text."""
    text = f"{_HEAD}version = {VERSION}\n"
    for name, pins in (("images", lock.images), ("stand-ins", lock.stand_ins)):
        if pins:
            lines = [f"{json.dumps(image)} = {json.dumps(pins[image])}\n" for image in sorted(pins)]
            text += f"\n[{name}]\n{''.join(lines)}"
    return text
