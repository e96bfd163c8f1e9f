"""Platforms as `os/arch[/variant]`: reading, normal form, the host's own, and which image fits which."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Final

from pipeline.errors import EngineError

_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "386": "386",
    "armhf": "arm",
    "armel": "arm",
    "armv6l": "arm",
    "armv7l": "arm",
    "arm": "arm",
    "ppc64": "ppc64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "mips": "mips",
    "mipsle": "mipsle",
    "mips64": "mips64",
    "mips64le": "mips64le",
    "mips64el": "mips64le",
    "loong64": "loong64",
    "loongarch64": "loong64",
    "wasm": "wasm",
}
_IMPLIED_VARIANTS: Final = {"armhf": "v7", "armel": "v6", "armv6l": "v6", "armv7l": "v7"}
_SYSTEMS: Final = {"macos": "darwin"}
_KNOWN_SYSTEMS: Final = frozenset({"linux", "darwin", "windows", "freebsd", "netbsd", "openbsd", "wasip1"})
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_.-]+\Z")
_DEFAULT_VARIANTS: Final = {("arm64", "v8"), ("amd64", "v1")}  # the ones that a bare name means


class InvalidPlatform(EngineError):
    """A text that names no platform."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__(f"cannot read platform `{text}`: {what}")
        self.text = text
        self.hint = "write it as os/arch or os/arch/variant, for example linux/amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """An operating system, a processor architecture (Go's names) and its variant ("" = any)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """Return `os/arch[/variant]`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Read `os/arch[/variant]`; one component alone takes the other from the host.

    Raises:
        InvalidPlatform: The text has empty, odd or too many components, or its only one is unknown.
    """
    parts = text.strip().split("/")
    if not 1 <= len(parts) <= 3:
        raise InvalidPlatform(text, f"it has {len(parts)} components")
    for part in parts:
        if not _COMPONENT.match(part):
            raise InvalidPlatform(text, f"`{part}` is no name")
    if len(parts) == 1:
        return _parse_single(text, parts[0].lower())
    return make_platform(parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def make_platform(system: str, architecture: str, variant: str = "") -> Platform:
    """Normalise the three parts as they stand in an image's JSON."""
    arch = architecture.lower()
    name = _ARCHITECTURES.get(arch, arch)
    kind = variant.lower() or _IMPLIED_VARIANTS.get(arch, "")
    if kind.isdigit():
        kind = f"v{kind}"
    if (name, kind) in _DEFAULT_VARIANTS:
        kind = ""
    lowered = system.lower()
    return Platform(os=_SYSTEMS.get(lowered, lowered), architecture=name, variant=kind)


def normalise_platform(text: str) -> str:
    """Return the one way to write the platform `text` names.

    Raises:
        InvalidPlatform: It names none.
    """
    return str(parse_platform(text))


def host_platform() -> str:
    """Return the platform containers run on here: always Linux, with this processor."""
    return str(make_platform("linux", os.uname().machine))


def find_best(wanted: str, offered: list[str]) -> int | None:
    """Return the position in `offered` of what suits `wanted` best; None when nothing does.

    The same variant is best; of an older family of the same architecture the newest is taken.
    """
    target = parse_platform(wanted)
    best: tuple[int, int] | None = None
    for position, text in enumerate(offered):
        score = _score(target, parse_platform(text))
        if score is not None and (best is None or score > best[0]):
            best = (score, position)
    return None if best is None else best[1]


def _parse_single(text: str, part: str) -> Platform:
    system = _SYSTEMS.get(part, part)
    if system in _KNOWN_SYSTEMS:
        return make_platform(system, os.uname().machine)
    if part in _ARCHITECTURES:
        return make_platform("linux" if sys.platform == "linux" else sys.platform, part)
    raise InvalidPlatform(text, "it is neither an operating system nor an architecture that is known")


def _score(wanted: Platform, offered: Platform) -> int | None:
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return 1000
    limit = _family(wanted)
    family = _family(offered)
    return family if family <= limit else None


def _family(platform: Platform) -> int:
    digits = platform.variant.removeprefix("v")
    if digits.isdigit():
        return int(digits)
    return {"arm": 7, "arm64": 8}.get(platform.architecture, 1)
