"""Layers of images: unpacking one into an overlay directory, and writing one from it."""

from __future__ import annotations

from pipeline.engine.oci.pack import REPRODUCIBLE_EPOCH_S, write_layer
from pipeline.engine.oci.unpack import apply_layer

__all__ = ["REPRODUCIBLE_EPOCH_S", "apply_layer", "write_layer"]
