"""Names of packages and ecosystems, brought to the one form that advisories are looked up by."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

LOWER_CASE: Final = frozenset(
    {"NuGet", "Packagist", "Hex", "Pub", "GitHub Actions", "Debian", "Ubuntu", "SwiftURL", "Bitnami"}
)
# Distributions whose advisories are for a major version: "12" of "12.5".
MAJOR_ONLY: Final = frozenset({"Debian", "Red Hat", "Rocky Linux", "AlmaLinux"})
DEBIAN_KIN: Final = frozenset({"Debian", "Ubuntu", "Echo"})
SEMVER_KIN: Final = frozenset({"npm", "crates.io", "Hex", "SwiftURL", "Bitnami", "Go"})  # "+…" does not count
_ENTERPRISE: Final = re.compile(r"enterprise_linux:(\d+)(?:\.\d+)?(?:::.*)?$")  # of a CPE


def base_of(ecosystem: str) -> str:
    """An ecosystem without its suffix: "Debian" of "Debian:12"."""
    return ecosystem.partition(":")[0]


def suffix_of(ecosystem: str) -> str:
    """The release or repository of an ecosystem, as it is compared: "12", "3.19", "22.04", ""."""
    base, _, suffix = ecosystem.partition(":")
    if base in ("Alpine", "Ubuntu"):
        suffix = suffix.removeprefix("v").removesuffix(":LTS")
        return ".".join(suffix.split(".")[:2])
    if base == "Red Hat" and (found := _ENTERPRISE.match(suffix)):
        return found[1]
    if base in MAJOR_ONLY and suffix[:1].isdigit():
        return suffix.partition(".")[0]
    return suffix


def is_same_release(told: str, wanted: str) -> bool:
    """Whether advisories for the ecosystem `told` speak of packages of `wanted`; one without suffix does."""
    if base_of(told) != base_of(wanted):
        return False
    ours, theirs = suffix_of(told), suffix_of(wanted)
    return not ours or not theirs or ours == theirs


def normal_name(ecosystem: str, name: str) -> str:
    """A package's name as its registry compares names."""
    base = base_of(ecosystem)
    if base == "PyPI":
        return re.sub(r"[-_.]+", "-", name).lower()
    if base == "crates.io":
        return name.lower().replace("_", "-")
    if base == "SwiftURL":
        return re.sub(r"^\w+://|\.git$", "", name).lower()
    return name.lower() if base in LOWER_CASE else name


@lru_cache(maxsize=65536)  # databases name the same versions over and over
def plain_version(ecosystem: str, version: str) -> str:
    """A version as it is looked for in lists of versions: one text for all that the order calls equal."""
    base, text = base_of(ecosystem), version.strip()
    if base == "PyPI":
        from packaging.utils import canonicalize_version

        return canonicalize_version(text)
    if base in DEBIAN_KIN:
        text = re.sub(r"(?<!\d)0+(?=\d)", "", text)
        return re.sub(r"^0:|-0$", "", text)
    if base in SEMVER_KIN:
        text = text.partition("+")[0]
    elif base == "NuGet":
        text = re.sub(r"^(\d+\.\d+\.\d+)\.0+(?!\d|\.)", r"\1", text.partition("+")[0].lower())
    elif re.match(r"0:\d", text):  # an epoch of rpm
        return text.removeprefix("0:")
    return re.sub(r"^v(?=\d)", "", text)


def release_of(version: str) -> str:
    """The release that a Python version is of, in plain form: "1" of "1.0+cu121"."""
    return plain_version("PyPI", version.partition("+")[0])
