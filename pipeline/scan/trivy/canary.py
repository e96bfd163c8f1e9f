"""A positive control for the server: packages whose vulnerabilities are old and certain, sent with each scan.

A server without data for a release or a language answers like one that knows of no vulnerability. A canary
that does not come back tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.canary import canaries_of
from pipeline.scan.advisories.names import base_of
from pipeline.scan.packages.package import Package
from pipeline.scan.trivy.answer import OS_PACKAGES
from pipeline.scan.trivy.blobs import TYPES, Blob, is_of_system

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.scan.trivy.answer import ScanAnswer, TrivyPackage, TrivyResult

LAYER: Final = "dagger-pipeline-canary"  # in place of a layer's digest: what says so is stripped
PATHS: Final[Mapping[str, str]] = {
    "deb": "var/lib/dpkg/status.d/dagger-pipeline-canary",
    "": "dagger-pipeline-canary/{name}-{version}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Canaries:
    """The control packages of one scan."""

    by_ecosystem: Mapping[str, tuple[Package, ...]]

    @property
    def blob(self) -> Blob:
        """The blob that holds them, apart from everything real."""
        packages = tuple(one for several in self.by_ecosystem.values() for one in several)
        return Blob(diff_id=LAYER, packages=packages)

    def silent(self, answer: ScanAnswer) -> dict[str, str]:
        """The ecosystems whose canaries did not come back, and why that says nothing is known there."""
        sung = {
            (ecosystem_in(result), one.package.name.lower())
            for result in answer.results
            for one in result.vulnerabilities
            if is_canary(one.package)
        }
        told = {}
        for ecosystem, packages in self.by_ecosystem.items():
            if not any((kind_of(one), one.name.lower()) in sung for one in packages):
                names = " or ".join(str(one) for one in packages)
                told[ecosystem] = (
                    f"Trivy does not know that {names} of {ecosystem} is vulnerable: it has no data for that"
                    if names
                    else f"no package of {ecosystem} is known by which Trivy could be tried"
                )
        return told


def canaries_for(packages: Iterable[Package], own: Mapping[str, str]) -> Canaries:
    """The canaries for the ecosystems of some packages.

    Args:
        own: The settings' canaries: "name version" by ecosystem.
    """
    ecosystems = sorted({one.ecosystem for one in packages})
    return Canaries(
        by_ecosystem={
            ecosystem: tuple(_package(ecosystem, *one) for one in canaries_of(ecosystem, own))
            for ecosystem in ecosystems
        }
    )


def _package(ecosystem: str, name: str, version: str) -> Package:
    one = Package(name=name, version=version, ecosystem=ecosystem)
    path = PATHS["deb"] if is_of_system(one) else PATHS[""].format(name=name, version=version)
    return Package(name=name, version=version, ecosystem=ecosystem, path=path)


def kind_of(package: Package) -> str:
    """What the server sorts a package under: a language's ecosystem, "" for all of a distribution."""
    return "" if is_of_system(package) else base_of(package.ecosystem)


def ecosystem_in(result: TrivyResult) -> str:
    """The same of a result."""
    if result.kind == OS_PACKAGES:
        return ""
    return next((name for name, kind in TYPES.items() if kind == result.type), result.type)


def is_canary(package: TrivyPackage) -> bool:
    """Whether what the server names is one of ours."""
    return package.layer == LAYER or LAYER in package.path
