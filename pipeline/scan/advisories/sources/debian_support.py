"""Debian packages without security support, by the lists of `debian-security-support`.

They are read from the newest .deb of the mirror: nothing is installed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.orders import BadVersion
from pipeline.scan.advisories.orders.dpkg import key as dpkg_key
from pipeline.scan.finding import Finding, InPackage, Rule, Severity, Witness
from pipeline.scan.scanner import Command

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Sequence

    from pipeline.scan.packages.package import Package

TOOL: Final = "debian-security-support"
MARK: Final = "@@pipeline"
LIMIT_S: Final = 120.0
# The lists of the image's own release: what has ended, and what is supported in part.
SCRIPT: Final = f"""set -e
apt-get update -qq -o APT::Update::Error-Mode=any -o Acquire::http::Timeout=20
cd "$(mktemp -d)"
apt-get download -qq {TOOL} >&2
release=$(. /etc/os-release && echo "$VERSION_ID")
dpkg-deb --fsys-tarfile ./*.deb | tar -x ./usr/share/{TOOL}
echo '{MARK} ended'
cat "usr/share/{TOOL}/security-support-ended.deb$release"
echo '{MARK} end'
"""
_ROW: Final = re.compile(r"^(\S+)\s+(\S+)\s+(\d{4}-\d{2}-\d{2})\s*(.*)$")


def command() -> Command:
    """What prints the list of a Debian image's own release; run in that image."""
    return Command(argv=("sh", "-c", SCRIPT), timeout_s=LIMIT_S)


def parse_ended(text: str) -> list[tuple[str, str, str, str]] | None:
    """The rows of the list: source package, last supported version, day, reason.

    None where the text is not what the command prints: then nothing is known.
    """
    _, begin, rest = text.partition(f"{MARK} ended\n")
    told, end, _ = rest.partition(f"{MARK} end")
    if not begin or not end:
        return None
    rows = (_ROW.match(line) for line in told.splitlines())
    return [(row[1], row[2], row[3], row[4].strip()) for row in rows if row]


def findings_of(
    packages: Sequence[Package], ended: Sequence[tuple[str, str, str, str]], today: datetime.date
) -> Iterator[Finding]:
    """A finding for each installed package whose support has ended by that day, at its version."""
    rows = {name: (version, day, why) for name, version, day, why in ended if day <= today.isoformat()}
    for one in packages:
        if one.judged_name not in rows or not one.ecosystem.startswith("Debian"):
            continue
        version, day, why = rows[one.judged_name]
        try:
            if dpkg_key(one.judged_version) > dpkg_key(version):
                continue  # newer than the last version that the list speaks of
        except BadVersion:
            continue  # what is no version is told by the scan of advisories
        yield Finding(
            id="",
            kind="end-of-life",
            rule=Rule(id="debian-support-ended", name="security support ended"),
            title=f"{one.judged_name} has no security support any more",
            message=f"ended {day}: {why}" if why else f"ended {day}",
            severity=Severity(level="high", basis="end of support"),
            place=InPackage(
                purl=one.purl,
                name=one.name,
                version=one.version,
                ecosystem=one.ecosystem,
                path=one.path,
                layer=one.layer,
            ),
            confidence="high",
            fix=f"remove {one.name}, or take it from a source that supports it",
            witnesses=(Witness(tool=TOOL, version="", rule="ended"),),
        )
