"""Where a distribution's packages come from on this machine, and which keys vouch for them.

The machine's own apt sources name the mirrors; the settings win over them. Nothing is fetched here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.recipes.keys import find_keyring
from pipeline.engine.recipes.releases import ALIASES, DEBIAN, Distribution, has_updates, releases_of
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an administrator decided about reaching mirrors; never options that switch signatures off.
_CARRIED: Final = re.compile(
    r"Acquire::(?:https?(?:::[^:\s]+)?::Proxy|https::CaInfo|Check-Valid-Until|Check-Date|Max-FutureTime)\s",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """Where Debian packages come from. An empty text: as the machine's apt has it, else Debian's own."""

    main: str = ""  # address of the archive, such as http://deb.debian.org/debian
    security: str = ""
    keyring: str = ""  # file of the keys that sign the archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The archive a recipe is built from. An empty `security` means that there is none."""

    main: str
    security: str
    keyring: Path
    components: str = DEBIAN.components
    apt_options: tuple[str, ...] = ()  # lines of apt configuration

    def sources(self, suite: str) -> str:
        """Return the lines for apt's sources."""
        signed = f"[signed-by={self.keyring}]"
        pockets = [(self.main, suite)]
        if has_updates(suite):
            pockets.append((self.main, f"{suite}-updates"))
            if self.security:
                pockets.append((self.security, f"{suite}-security"))
        return "".join(f"deb {signed} {address} {name} {self.components}\n" for address, name in pockets)


class NoKeyring(EngineError):
    """The keys that a distribution signs its archive with are not on this machine."""

    def __init__(self, keyring: Path, distribution: Distribution = DEBIAN) -> None:
        super().__init__(
            f"cannot verify {distribution.name} packages: the keyring `{keyring}` does not exist"
        )
        self.hint = f"apt-get install {distribution.keyring_package}"


def find_archive(
    settings: MirrorSettings,
    *,
    root: Path = Path("/"),
    distribution: Distribution = DEBIAN,
    kept: Path | None = None,
) -> Archive:
    """Read the machine's apt sources and options below `root`, and let `settings` win over them.

    Args:
        settings: What is Debian's alone.
        kept: Where to keep keys of another distribution that Debian's archive has; None: get none there.

    Raises:
        NoKeyring: The keyring does not exist.
    """
    if distribution != DEBIAN:
        settings = replace(settings, main="", security="", keyring="")
    main, security, keyring = _from_machine(root, distribution)
    archive = Archive(
        main=settings.main or main or distribution.main,
        # A machine with a mirror and no security mirror has none to offer.
        security=settings.security or security or ("" if main or settings.main else distribution.security),
        keyring=Path(settings.keyring or keyring or distribution.keyring),
        components=distribution.components,
        apt_options=_apt_options(),
    )
    if archive.keyring.is_file():
        return archive
    if distribution != DEBIAN and kept is not None:
        found = find_keyring(distribution, find_archive(settings, root=root), kept)
        if found is not None:
            return replace(archive, keyring=found)
    raise NoKeyring(archive.keyring, distribution)


def _from_machine(root: Path, distribution: Distribution) -> tuple[str, str, str]:
    """Return the main address, the security address and the keyring; "" for each that apt does not name."""
    main = security = keyring = ""
    suites = {release.suite for release in releases_of(distribution)}
    suites |= {alias for alias, suite in ALIASES.items() if suite in suites}
    for address, suite, signed_by in _apt_sources(root / "etc/apt"):
        if not address.startswith(("http://", "https://")):
            continue
        if suite in suites and not main:
            main, keyring = address, signed_by
        elif suite.removesuffix("-security") in suites and suite.endswith("-security") and not security:
            security = address
    return main, security, keyring


def _apt_sources(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield address, suite and keyring ("" where not told) of every enabled source."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".list":
            yield from _one_line_sources(text)
        elif file.suffix == ".sources":
            yield from _deb822_sources(text)


def _one_line_sources(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)", line)
        if found is not None:
            signed_by = re.search(r"signed-by=(\S+)", found[1] or "")
            yield found[2].rstrip("/"), found[3], signed_by[1] if signed_by else ""


def _deb822_sources(text: str) -> Iterator[tuple[str, str, str]]:
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", uncommented):
        fields = {
            name.lower(): value.strip()
            for name, value in re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if (
            fields.get("enabled", "yes").lower() in ("no", "false", "0")
            or "deb" not in fields.get("types", "").split()
        ):
            continue
        signed_by = fields.get("signed-by", "")
        for address in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield address.rstrip("/"), suite, signed_by if signed_by.startswith("/") else ""


def _apt_options() -> tuple[str, ...]:
    if shutil.which("apt-config") is None:
        return ()
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=30)
    return tuple(line for line in dump.stdout.splitlines() if _CARRIED.match(line))
