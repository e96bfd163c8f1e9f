"""The releases that recipes are made of, what they carry, and where their packages come from. Only tables."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Final

_UBUNTU_HOST: Final = (
    "http://archive.ubuntu.com/ubuntu"
    if platform.machine() in ("x86_64", "i686")
    else "http://ports.ubuntu.com/ubuntu-ports"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution: its own addresses, for where the machine names no others, and who signs its archive."""

    name: str
    main: str  # address of the archive
    security: str
    keyring: str  # file of the keys that sign it
    keyring_package: str
    components: str
    extra_packages: tuple[str, ...] = ()  # that an image needs and the minimal base lacks


DEBIAN: Final = Distribution(
    name="Debian",
    main="http://deb.debian.org/debian",
    security="http://deb.debian.org/debian-security",
    keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
    keyring_package="debian-archive-keyring",
    components="main",
)
UBUNTU: Final = Distribution(
    name="Ubuntu",
    main=_UBUNTU_HOST,
    security=_UBUNTU_HOST,
    keyring="/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keyring_package="ubuntu-keyring",
    components="main universe",
    extra_packages=("apt", "ubuntu-keyring"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release: its suite and the versions of what it carries."""

    suite: str
    number: str
    python: str
    node: str
    distribution: Distribution = DEBIAN
    has_updates: bool = True  # in suites of their own, `-updates` and `-security`


RELEASES: Final = (
    Release(suite="trixie", number="13", python="3.13.5", node="20.19.2"),
    Release(suite="bookworm", number="12", python="3.11.2", node="18.20.4"),
    Release(suite="bullseye", number="11", python="3.9.2", node="12.22.12"),
    Release(suite="forky", number="14", python="3.14.8", node="24.21.0"),
    Release(suite="sid", number="unstable", python="3.14.10", node="24.22.2", has_updates=False),
    Release(suite="resolute", number="26.04", python="3.14.3", node="22.22.1", distribution=UBUNTU),
    Release(suite="noble", number="24.04", python="3.12.3", node="18.19.1", distribution=UBUNTU),
    Release(suite="jammy", number="22.04", python="3.10.12", node="12.22.9", distribution=UBUNTU),
)
"""In the order of preference: Debian's releases, the newest first, what it tests and makes, then Ubuntu's."""

ALIASES: Final = {
    "stable": "trixie",
    "oldstable": "bookworm",
    "oldoldstable": "bullseye",
    "testing": "forky",
    **{release.number: release.suite for release in RELEASES},
}


def has_updates(suite: str) -> bool:
    """Say whether a suite's updates are in suites of their own."""
    return all(release.has_updates for release in RELEASES if release.suite == suite)


def releases_of(distribution: Distribution) -> tuple[Release, ...]:
    """Return a distribution's releases, the preferred one first."""
    return tuple(release for release in RELEASES if release.distribution == distribution)
