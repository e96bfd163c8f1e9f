"""What a Debian mirror itself shows: newer packages from the security archive, and the CVEs they mend.

Needs no data but the mirror. It sees only what is mended already, so its silence proves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.orders import BadVersion
from pipeline.scan.advisories.orders.dpkg import key as dpkg_key
from pipeline.scan.advisories.osv import Advisory
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.scanner import Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Ran

LIMIT_S: Final = 600.0
MARK: Final = "@@pipeline"
# For each package with an update: its name, both versions, where the update is from, and its changelog.
SCRIPT: Final = f"""set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq -o APT::Update::Error-Mode=any -o Acquire::http::Timeout=20
echo '{MARK} begin'
cd "$(mktemp -d)"
apt-get --just-print upgrade >plan
sed -nE 's/^Inst ([^ ]*) \\[([^]]*)\\] \\(([^ ]*) ([^)]*)\\).*/\\1 \\2 \\3 \\4/p' plan >updates
while read -r name old new origin; do
    echo "{MARK} package $name $old $new $origin"
    case $origin in *Security*) ;; *) continue ;; esac
    apt-get download -qq "$name=$new" >&2 || {{ echo "{MARK} failed"; continue; }}
    dpkg-deb --fsys-tarfile ./*.deb | tar -xO --wildcards './usr/share/doc/*/changelog.Debian*' 2>/dev/null |
        (gzip -dcf || true) | head -c 400000
    rm -f ./*.deb
done <updates
echo '{MARK} end'
"""
_STANZA: Final = re.compile(r"^(\S+) \(([^)\s]+)\) \S", re.MULTILINE)
_CVE: Final = re.compile(r"CVE-\d{4}-\d{4,7}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianEvidence:
    """Judges the Debian packages of a container by its own mirror."""

    name: str = "debian mirror"

    def commands(self) -> list[Command]:
        """One script, run in the image that is looked at."""
        return [Command(argv=("sh", "-c", SCRIPT), timeout_s=LIMIT_S)]

    def read(self, packages: Sequence[Package], ran: Sequence[Ran]) -> SourceAnswer:
        """Which CVEs installed packages lack the fix of.

        Args:
            packages: The packages of the image; those of Debian are looked for by their binary name.
        """
        source = SourceInfo(
            name=self.name, ecosystems=("Debian",), address="the image's mirror", is_live=True
        )
        text = ran[0].stdout.decode("utf-8", "replace")
        if f"{MARK} begin" not in text or f"{MARK} end" not in text:
            why = f"the mirror could not be asked: {ran[0].last_words}"
            return unavailable(source, packages, why, is_partial=True)
        by_name = {one.name: one for one in packages if one.ecosystem.startswith(("Debian", "Ubuntu"))}
        matches: dict[Key, tuple[Match, ...]] = {}
        failed: list[str] = []
        for name, old, changelog in updates_of(text):
            package = by_name.get(name)
            if f"{MARK} failed" in changelog:
                failed.append(name)
            elif package is not None:
                told = tuple(_match(cve, version, source) for cve, version in lacking(changelog, old))
                matches[package.key] = (*matches.get(package.key, ()), *told)
        reason = f"the update of {', '.join(failed[:5])} could not be fetched" if failed else ""
        return SourceAnswer(
            source=source,
            state="incomplete" if failed else "complete",
            reason=reason,
            matches={key: told for key, told in matches.items() if told},
            is_partial=True,
        )


def updates_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Name, installed version and changelog of each package with an update."""
    for part in text.split(f"{MARK} package ")[1:]:
        head, _, changelog = part.partition("\n")
        name, old, *_ = head.split(" ")
        yield name.partition(":")[0], old, changelog


def lacking(changelog: str, installed: str) -> list[tuple[str, str]]:
    """The CVEs that versions above the installed one mend, each with the first such version."""
    found: dict[str, str] = {}
    stanzas = list(_STANZA.finditer(changelog))
    for at, stanza in enumerate(stanzas):
        end = stanzas[at + 1].start() if at + 1 < len(stanzas) else len(changelog)
        try:
            if dpkg_key(stanza.group(2)) <= dpkg_key(installed):
                break
        except BadVersion:
            continue  # a line that only looks like the head of a stanza
        for cve in _CVE.findall(changelog, stanza.start(), end):
            found[cve] = stanza.group(2)  # from the newest down: the last is the first that mends
    return sorted(found.items())


def _match(cve: str, version: str, source: SourceInfo) -> Match:
    summary = f"the installed version lacks the fix that {version} brings"
    return Match(
        advisory=Advisory(id=cve, summary=summary), source=source, is_affected=True, fixed=(version,)
    )
