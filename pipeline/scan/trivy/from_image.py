"""From the layers of an image to what a Trivy server is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.scan.image.inventory import DATABASES, packages_of
from pipeline.scan.image.system import read_system
from pipeline.scan.packages.reading import LockBroken
from pipeline.scan.trivy.blobs import Blob
from pipeline.scan.trivy.source import Asked

if TYPE_CHECKING:
    from pipeline.scan.image.inventory import Inventory
    from pipeline.scan.image.layers import ImageRead, LayerRead
    from pipeline.scan.packages.package import Package


def asked_of(name: str, image: ImageRead, inventory: Inventory) -> Asked:
    """An image with its packages, layer by layer."""
    return Asked(
        name=name,
        blobs=tuple(_blob(layer, inventory) for layer in image.layers),
        packages=inventory.packages,
        architecture=image.config.architecture,
        os=image.config.os,
    )


def _blob(layer: LayerRead, inventory: Inventory) -> Blob:
    packages: list[Package] = []
    databases: list[str] = []
    system = None
    for path, held in layer.held.items():
        if held.interest == "os-release":
            system = read_system(held.data.decode("utf-8", "replace"))
        elif held.interest in DATABASES or path not in inventory.owned:
            databases += [path] if held.interest in DATABASES else []
            try:
                packages += packages_of(held, inventory.ecosystem)
            except LockBroken:
                continue  # the inventory tells it as missed, if it is seen at all
    return Blob(
        diff_id=layer.diff_id,
        family=system.id if system else "",
        release=(system.version or system.codename) if system else "",
        packages=tuple(replace(one, layer="") for one in packages),
        databases=tuple(databases),
        whiteouts=tuple(sorted(layer.hidden | layer.gone)),
        opaque=tuple(sorted(layer.opaque)),
    )
