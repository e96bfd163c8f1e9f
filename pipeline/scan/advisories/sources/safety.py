"""Safety, for users with a key of their own: its data may not be used commercially without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.names import normal_name
from pipeline.scan.advisories.osv import Advisory
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.advisories.sources.pypi_json import SUMMARY, least_above
from pipeline.scan.advisories.sources.tools import json_of, tool_answer
from pipeline.scan.scanner import Command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Ran

PINS: Final = "/tmp/pins.txt"  # noqa: S108 - in the tool's own container
KEY: Final = "SAFETY_API_KEY"
LICENCE: Final = "CC-BY-NC-SA-4.0 or the user's own"
CONTROL: Final = ("django", "2.2")
LIMIT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """Judges pinned Python packages by the tool; the variable `SAFETY_API_KEY` must be set where it runs."""

    name: str = "safety"

    def commands(self, packages: Sequence[Package]) -> list[Command]:
        """One run over all pins, and over one that is known to be vulnerable."""
        pins = {key[1:] for key in _keys(packages)} | {CONTROL}
        text = "".join(f"{name}=={version}\n" for name, version in sorted(pins))
        argv = ("safety", "check", "--output", "json", "--file", PINS)
        return [Command(argv=argv, files={PINS: text}, timeout_s=LIMIT_S)]

    def read(self, packages: Sequence[Package], ran: Sequence[Ran], *, version: str = "") -> SourceAnswer:
        """What the run says; it crashes where it reaches nothing, and then nothing was looked at."""
        name = f"{self.name} {version}".strip()
        source = SourceInfo(name=name, ecosystems=("PyPI",), licence=LICENCE, is_live=True)
        table = json_of(ran[0])
        if not isinstance(table, dict) or not isinstance(table.get("vulnerabilities"), list):
            why = f"safety gave no answer: {ran[0].last_words}"
            return unavailable(source, packages, why, hint=f"it needs the network and a key in {KEY}")
        scanned = table.get("scanned_packages")
        told = [one for one in table["vulnerabilities"] if isinstance(one, dict)]
        if not any(normal_name("PyPI", str(one.get("package_name"))) == CONTROL[0] for one in told):
            return unavailable(source, packages, f"safety finds nothing wrong with {' '.join(CONTROL)}")
        names = {normal_name("PyPI", str(one)) for one in scanned} if isinstance(scanned, dict) else set()
        judged = frozenset(key for key in _keys(packages) if key[1] in names)
        matches = {
            key: tuple(_match(one, key, source) for one in told if _is_about(one, key)) for key in judged
        }
        return tool_answer(source, packages, matches, {}, judged)


def _keys(packages: Sequence[Package]) -> list[Key]:
    return list(dict.fromkeys(one.key for one in packages if one.ecosystem == "PyPI" and one.version))


def _is_about(told: Mapping[str, Any], key: Key) -> bool:
    return (normal_name("PyPI", str(told.get("package_name"))), str(told.get("analyzed_version"))) == key[1:]


def _match(told: Mapping[str, Any], key: Key, source: SourceInfo) -> Match:
    cve = str(told.get("CVE") or "")
    advisory = Advisory(
        id=f"SAFETY-{told.get('vulnerability_id')}",
        aliases=(cve,) if cve.startswith("CVE-") else (),
        summary=" ".join(str(told.get("advisory") or "").split())[:SUMMARY],
        url=str(told.get("more_info_url") or ""),
    )
    fixes = [str(one) for one in told.get("fixed_versions") or ()]
    return Match(advisory=advisory, source=source, is_affected=True, fixed=least_above("PyPI", key[2], fixes))
