"""One package at one version, wherever it was read: a lock file, an environment, an image's layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pipeline.scan.advisories.names import base_of, normal_name, suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterable

# The types of package URLs by ecosystem.
TYPES: Final = {
    "PyPI": "pypi",
    "npm": "npm",
    "Go": "golang",
    "crates.io": "cargo",
    "RubyGems": "gem",
    "Packagist": "composer",
    "Maven": "maven",
    "NuGet": "nuget",
    "Hex": "hex",
    "Pub": "pub",
    **dict.fromkeys(("Debian", "Ubuntu"), "deb"),
    **dict.fromkeys(("Alpine", "Wolfi", "Chainguard"), "apk"),
    **dict.fromkeys(("Red Hat", "Rocky Linux", "AlmaLinux", "SUSE", "openSUSE"), "rpm"),
    **dict.fromkeys(("Fedora", "Amazon Linux", "Oracle Linux", "Mageia", "Azure Linux"), "rpm"),
}
NAMESPACES: Final = {
    "Rocky Linux": "rocky",
    "Red Hat": "redhat",
    "Amazon Linux": "amzn",
    "Oracle Linux": "oracle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package at a version; `source` is what its distribution's advisories speak of."""

    name: str  # as its ecosystem writes it; of Maven "group:artifact"
    version: str  # "" where nothing fixes it
    ecosystem: str  # as OSV spells it, with the release where it has one: "PyPI", "Debian:12"
    path: str = ""  # of the lock file, or of the package's files in the image
    layer: str = ""  # digest of the image layer
    source: str = ""  # name of the source package; "" is `name`
    source_version: str = ""  # "" is `version`
    architecture: str = ""
    direct: bool | None = None  # the project names it itself; None: not known
    dev: bool = False
    imported: bool | None = None  # the project's code imports it; None: not known, which is not "no"
    private: str = ""  # why no public database can know it: "a git repository", "a folder"
    released: str = ""  # ISO 8601 time, where it is known
    licence: str = ""  # an SPDX expression or what the package says
    url: str = ""  # where it was fetched from, without credentials
    hashes: tuple[str, ...] = ()  # "sha256:…", as the lock file has them
    is_installed: bool = False  # seen on a disk, not only in a lock file

    @property
    def judged_name(self) -> str:
        """The name that advisories use."""
        return self.source or self.name

    @property
    def judged_version(self) -> str:
        """The version that advisories compare with."""
        return self.source_version or self.version

    @property
    def key(self) -> tuple[str, str, str]:
        """What is judged: ecosystem, normalised name and version."""
        return (self.ecosystem, normal_name(self.ecosystem, self.judged_name), self.judged_version)

    @property
    def purl(self) -> str:
        """The package URL, with version; "" for an ecosystem that has none."""
        return purl_of(self)

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


def purl_of(package: Package) -> str:
    """The package URL of a package."""
    base = base_of(package.ecosystem)
    kind = TYPES.get(base)
    if kind is None:
        return ""
    name = normal_name(package.ecosystem, package.name) if base == "PyPI" else package.name
    if base == "Maven":
        name = name.replace(":", "/", 1)
    path = "/".join(quote(part, safe="") for part in name.split("/"))
    text = f"pkg:{kind}/"
    qualifiers = {}
    if kind in ("deb", "apk", "rpm"):
        text += NAMESPACES.get(base, base.lower()) + "/"
        distro = suffix_of(package.ecosystem)
        qualifiers = {"arch": package.architecture, "distro": f"{base.lower()}-{distro}" if distro else ""}
    version = f"@{quote(package.version, safe='')}" if package.version else ""
    told = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(qualifiers.items()) if value)
    return text + path + version + (f"?{told}" if told else "")


def distinct(packages: Iterable[Package]) -> list[Package]:
    """Packages without repetition, in the order they were met."""
    return list(dict.fromkeys(packages))
