"""Which distribution an image is made of, as its `os-release` says, and OSV's name for that."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOT_SAID: Final = "a distribution that is not named"  # in place of an ecosystem


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A distribution and its release."""

    id: str = ""  # "debian", "alpine"; "" where the image does not say
    version: str = ""  # "12", "3.19.1"; "" of a rolling one
    codename: str = ""
    name: str = ""  # as people call it: "Debian GNU/Linux 12 (bookworm)"


NO_SYSTEM: Final = System()


def read_system(text: str) -> System:
    """Read an `os-release` file; lines that are none are passed over."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            continue
        try:
            fields[name] = " ".join(shlex.split(value))
        except ValueError:  # a quote that is not closed
            fields[name] = value.strip("\"'")
    return System(
        id=fields.get("ID", "").lower(),
        version=fields.get("VERSION_ID", ""),
        codename=fields.get("VERSION_CODENAME", ""),
        name=fields.get("PRETTY_NAME", ""),
    )


def _major(version: str) -> str:
    return version.partition(".")[0]


def _alpine(version: str) -> str:
    found = re.match(r"\d+\.\d+", version)
    return "edge" if found is None or "_alpha" in version else f"v{found[0]}"


# OSV's name of a distribution, and what it calls a release.
ECOSYSTEMS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "debian": ("Debian", _major),
    "ubuntu": ("Ubuntu", str),
    "alpine": ("Alpine", _alpine),
    "rocky": ("Rocky Linux", _major),
    "almalinux": ("AlmaLinux", _major),
    "rhel": ("Red Hat", _major),
    "opensuse-leap": ("openSUSE", "Leap {}".format),
    "opensuse-tumbleweed": ("openSUSE", lambda _: "Tumbleweed"),
    "sles": ("SUSE", "Linux Enterprise Server {}".format),
    "fedora": ("Fedora", str),
    "amzn": ("Amazon Linux", str),
    "ol": ("Oracle Linux", _major),
    "azurelinux": ("Azure Linux", _major),
    "wolfi": ("Wolfi", lambda _: ""),
    "chainguard": ("Chainguard", lambda _: ""),
}


def ecosystem_of(system: System) -> str:
    """OSV's name of a distribution with its release, such as "Debian:12"."""
    if not system.id:
        return NOT_SAID
    known = ECOSYSTEMS.get(system.id)
    if known is None:
        return system.id
    name, release = known
    told = release(system.version) if system.version or system.id in ("alpine", "wolfi") else ""
    return f"{name}:{told}" if told else name
