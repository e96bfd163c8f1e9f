"""What is sent to a Trivy server: one blob a layer, named by its content.

The names have a start of our own: the server's cache is shared with other clients, whose names mean something
else. No secrets are sent.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.names import base_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.packages.package import Package

NAMES: Final = "dagger-pipeline.sha256:"
BLOB_SCHEMA: Final = 2  # without it a blob is taken, and later said to be missing
ARTIFACT_SCHEMA: Final = 1
DISTRIBUTIONS: Final = ("deb", "apk", "rpm")
# The types of installed packages by ecosystem.
TYPES: Final[Mapping[str, str]] = {
    "PyPI": "python-pkg",
    "npm": "node-pkg",
    "Go": "gobinary",
    "Maven": "jar",
    "RubyGems": "gemspec",
    "crates.io": "rustbinary",
    "Packagist": "composer",
    "NuGet": "nuget",
}
# Distributions that the server knows under another name than they call themselves.
FAMILIES: Final[Mapping[str, str]] = {
    "almalinux": "alma",
    "amzn": "amazon",
    "ol": "oracle",
    "rhel": "redhat",
    "opensuse-leap": "opensuse.leap",
    "opensuse-tumbleweed": "opensuse.tumbleweed",
    "mariner": "cbl-mariner",
}
_DPKG: Final = re.compile(r"(?:(?P<epoch>\d+):)?(?P<version>.+?)(?:-(?P<revision>[^-]*))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """What one layer adds and takes away."""

    diff_id: str
    family: str = ""  # of the distribution, as it calls itself; "" where this layer does not say
    release: str = ""
    packages: tuple[Package, ...] = ()
    databases: tuple[str, ...] = ()  # paths of the package databases it has, also of those without a package
    whiteouts: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()


def is_of_system(package: Package) -> bool:
    """Whether a package belongs to a distribution."""
    return base_of(package.ecosystem) not in TYPES


def blob_info(blob: Blob) -> dict[str, Any]:
    """A blob as the server takes it."""
    info: dict[str, Any] = {"schema_version": BLOB_SCHEMA, "diff_id": blob.diff_id}
    if blob.family:
        info["os"] = {"family": FAMILIES.get(blob.family, blob.family), "name": blob.release}
    lists: dict[str, list[dict[str, Any]]] = {path: [] for path in blob.databases}
    applications: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in blob.packages:
        if is_of_system(one):
            lists.setdefault(one.path, []).append(system_package(one))
        else:
            kind = TYPES[base_of(one.ecosystem)]
            applications.setdefault((kind, one.path), []).append(language_package(one))
    if lists:
        info["package_infos"] = [{"file_path": path, "packages": told} for path, told in lists.items()]
    if applications:
        info["applications"] = [
            {"type": kind, "file_path": path, "packages": told} for (kind, path), told in applications.items()
        ]
    if blob.whiteouts:
        info["whiteout_files"] = list(blob.whiteouts)
    if blob.opaque:
        info["opaque_dirs"] = list(blob.opaque)
    return info


def blob_id(info: Mapping[str, Any]) -> str:
    """The name of a blob: equal content, equal name."""
    text = json.dumps(info, sort_keys=True, separators=(",", ":"))
    return NAMES + hashlib.sha256(text.encode()).hexdigest()


def artifact_id(blob_ids: Sequence[str]) -> str:
    """The name of an image: of its blobs in their order."""
    return NAMES + hashlib.sha256("\n".join(blob_ids).encode()).hexdigest()


def artifact_info(*, architecture: str, os: str) -> dict[str, Any]:
    """What an image says of itself."""
    return {"schema_version": ARTIFACT_SCHEMA, "architecture": architecture, "os": os}


def system_package(package: Package) -> dict[str, Any]:
    """A distribution's package; its source is always told, for without it findings are lost."""
    own = _split(package, package.version)
    source = _split(package, package.judged_version)
    return {
        "id": f"{package.name}@{package.version}",
        "name": package.name,
        **own,
        "arch": package.architecture,
        "src_name": package.judged_name,
        **{f"src_{name}": value for name, value in source.items()},
    }


def _split(package: Package, text: str) -> dict[str, Any]:
    """A version in the parts the server wants: apk's stay whole."""
    if base_of(package.ecosystem) in ("Alpine", "Wolfi", "Chainguard"):
        return {"version": text}
    found = _DPKG.match(text)
    if found is None:
        return {"version": text}
    parts: dict[str, Any] = {"version": found["version"]}
    if found["revision"]:
        parts["release"] = found["revision"]
    if found["epoch"] and found["epoch"] != "0":
        parts["epoch"] = int(found["epoch"])
    return parts


def language_package(package: Package) -> dict[str, Any]:
    """A package of a language."""
    return {
        "id": f"{package.name}@{package.version}",
        "name": package.name,
        "version": package.version,
        "file_path": package.path,
    }
