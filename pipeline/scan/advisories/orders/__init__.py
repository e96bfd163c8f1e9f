"""The order of versions in each ecosystem: text becomes a key that compares as the ecosystem's own tools do.

Every function here raises `BadVersion` for text that is no version; nothing is guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pipeline.scan.advisories.orders import apk, dpkg, gem, maven, nuget, packagist, pep440, rpm, semver
from pipeline.scan.advisories.orders.bad import BadVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Order: TypeAlias = Callable[[str], Any]

__all__ = ["BadVersion", "Order", "order_of"]

# Ecosystems by the name OSV gives them, without their suffix ("Debian" of "Debian:12").
ORDERS: Final[Mapping[str, Order]] = {
    "PyPI": pep440.key,
    **dict.fromkeys(("npm", "crates.io", "Hex", "SwiftURL", "Bitnami", "GitHub Actions"), semver.key),
    "Go": semver.go_key,
    "Pub": semver.pub_key,
    "Maven": maven.key,
    "RubyGems": gem.key,
    "NuGet": nuget.key,
    "Packagist": packagist.key,
    **dict.fromkeys(("Debian", "Ubuntu", "Echo"), dpkg.key),
    **dict.fromkeys(("Alpine", "Wolfi", "Chainguard", "MinimOS"), apk.key),
    **dict.fromkeys(("Red Hat", "Rocky Linux", "AlmaLinux", "SUSE", "openSUSE", "openEuler"), rpm.key),
    **dict.fromkeys(
        ("Mageia", "Photon OS", "Azure Linux", "Fedora", "Amazon Linux", "Oracle Linux"), rpm.key
    ),
}


def order_of(ecosystem: str) -> Order | None:
    """The order of an ecosystem's versions, whatever its suffix; None where it is not known."""
    return ORDERS.get(ecosystem.partition(":")[0])
