"""What an image's name means in a session, or that it means nothing; `images` finds it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine import ops
    from pipeline.engine.oci.config import ImageConfig


class NoImage(EngineError):
    """An image is neither in a registry nor in the store, and no stand-in is allowed or known."""

    def __init__(self, reference: str, why: str, *, hint: str) -> None:
        super().__init__(f"cannot get the image `{reference}`: {why}")
        self.reference = reference
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImage:
    """What an image name means in this session."""

    reference: str  # with its digest
    digest: Digest
    config: ImageConfig
    platform: str
    rootfs: ops.Tree
    source: Literal["registry", "store", "recipe"]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """A layer source of one blob that is in the store already."""

    path: Path

    async def fetch(self, _diff_id: Digest) -> Path:
        """Return the blob."""
        return self.path
