"""Where Debian packages come from on this machine, and which keys vouch for them.

The machine's own apt sources name the mirrors; the settings win over them. Nothing is fetched here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.recipes.recipe import RELEASES
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAIN: Final = "http://deb.debian.org/debian"
_SECURITY: Final = "http://deb.debian.org/debian-security"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES: Final = tuple(
    name for release in RELEASES for name in (release.suite, "stable", "oldstable", "oldoldstable")
)
# What an administrator decided about reaching mirrors; never options that switch signatures off.
_CARRIED: Final = re.compile(
    r"Acquire::(?:https?(?:::[^:\s]+)?::Proxy|https::CaInfo|Check-Valid-Until|Check-Date|Max-FutureTime)\s",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """Where packages come from. An empty text means: as the machine's apt has it, else Debian's own."""

    main: str = ""  # address of the archive, such as http://deb.debian.org/debian
    security: str = ""
    keyring: str = ""  # file of the keys that sign the archive


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The archive a recipe is built from. An empty `security` means that there is none."""

    main: str
    security: str
    keyring: Path
    apt_options: tuple[str, ...] = ()  # lines of apt configuration

    def sources(self, suite: str) -> str:
        """Return the lines for apt's sources."""
        signed = f"[signed-by={self.keyring}]"
        lines = [f"deb {signed} {self.main} {suite} main", f"deb {signed} {self.main} {suite}-updates main"]
        if self.security:
            lines.append(f"deb {signed} {self.security} {suite}-security main")
        return "\n".join(lines) + "\n"


class NoKeyring(EngineError):
    """The keys that Debian signs its archive with are not on this machine."""

    def __init__(self, keyring: Path) -> None:
        super().__init__(f"cannot verify Debian packages: the keyring `{keyring}` does not exist")
        self.hint = "apt-get install debian-archive-keyring"


def find_archive(settings: MirrorSettings, *, root: Path = Path("/")) -> Archive:
    """Read the machine's apt sources and options below `root`, and let `settings` win over them.

    Raises:
        NoKeyring: The keyring does not exist.
    """
    main, security, keyring = _from_machine(root)
    archive = Archive(
        main=settings.main or main or _MAIN,
        # A machine with a Debian mirror and no security mirror has none to offer.
        security=settings.security or security or ("" if main or settings.main else _SECURITY),
        keyring=Path(settings.keyring or keyring or _KEYRING),
        apt_options=_apt_options(),
    )
    if not archive.keyring.is_file():
        raise NoKeyring(archive.keyring)
    return archive


def _from_machine(root: Path) -> tuple[str, str, str]:
    """Return the main address, the security address and the keyring; "" for each that apt does not name."""
    main = security = keyring = ""
    for address, suite, signed_by in _apt_sources(root / "etc/apt"):
        if not address.startswith(("http://", "https://")):
            continue
        if suite in _SUITES and not main:
            main, keyring = address, signed_by
        elif suite.removesuffix("-security") in _SUITES and suite.endswith("-security") and not security:
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
