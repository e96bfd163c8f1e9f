"""Where an image's layers come from: the one thing the solver asks of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.digest import Digest


class LayerSource(Protocol):
    """Gives the blob of each layer; a registry, an archive on disk or a recipe stands behind it."""

    async def fetch(self, diff_id: Digest) -> Path:
        """Return the path of the layer's blob in the store (any known compression), verified.

        Raises:
            EngineError: It cannot be had.
        """
