"""pip-audit, when the user asks for it.

It ends well, and says that nothing is wrong, also where it could look up no package: only its JSON tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.canary import canaries_of
from pipeline.scan.advisories.names import normal_name, release_of
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
LIMIT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipAudit:
    """Judges pinned Python packages by the tool; builds and installs nothing."""

    name: str = "pip-audit"
    service: str = "pypi"
    canaries: Mapping[str, str] = field(default_factory=dict)

    def commands(self, packages: Sequence[Package]) -> list[Command]:
        """One run over all pins, and over one that is known to be vulnerable."""
        name, version = canaries_of("PyPI", self.canaries)[0]
        pins = {key[1:] for key in _keys(packages)} | {(normal_name("PyPI", name), version)}
        argv = ("pip-audit", "--format", "json", "--progress-spinner", "off", "--vulnerability-service")
        return [
            Command(
                argv=(*argv, self.service, "--no-deps", "--disable-pip", "-r", PINS),
                files={PINS: "".join(f"{pin}=={told}\n" for pin, told in sorted(pins))},
                timeout_s=LIMIT_S,
            )
        ]

    def read(self, packages: Sequence[Package], ran: Sequence[Ran], *, version: str = "") -> SourceAnswer:
        """What the run says; a package it skipped is unknown, and no JSON is no answer."""
        source = SourceInfo(
            name=f"{self.name} {version}".strip(), ecosystems=("PyPI",), address=self.service, is_live=True
        )
        table = json_of(ran[0])
        listed = table.get("dependencies") if isinstance(table, dict) else None
        if not isinstance(listed, list):
            return unavailable(source, packages, f"pip-audit gave no answer: {ran[0].last_words}")
        told = {str(one.get("name")): one for one in listed if isinstance(one, dict)}
        told = {normal_name("PyPI", name): one for name, one in told.items()}
        canary, canary_version = canaries_of("PyPI", self.canaries)[0]
        control = told.get(normal_name("PyPI", canary), {})
        if not control.get("vulns") and not control.get("skip_reason"):
            return unavailable(
                source, packages, f"pip-audit finds nothing wrong with {canary} {canary_version}"
            )
        matches: dict[Key, tuple[Match, ...]] = {}
        unknown: dict[Key, str] = {}
        judged: set[Key] = set()
        for key in _keys(packages):
            one = told.get(key[1])
            if one is None or not isinstance(one.get("vulns"), list) or not _is_same(one, key):
                unknown[key] = str((one or {}).get("skip_reason") or "pip-audit did not speak of it")
                continue
            judged.add(key)
            matches[key] = tuple(_match(each, key, source) for each in one["vulns"])
        return tool_answer(source, packages, matches, unknown, frozenset(judged))


def _is_same(told: Mapping[str, Any], key: Key) -> bool:
    return release_of(str(told.get("version"))) == release_of(key[2])


def _keys(packages: Sequence[Package]) -> list[Key]:
    """The Python packages that can be named as pins."""
    return list(dict.fromkeys(one.key for one in packages if one.ecosystem == "PyPI" and one.version))


def _match(told: Mapping[str, Any], key: Key, source: SourceInfo) -> Match:
    summary = " ".join(str(told.get("description") or "").split())[:SUMMARY]
    aliases = tuple(str(one) for one in told.get("aliases") or ())
    advisory = Advisory(id=str(told.get("id") or "?"), aliases=aliases, summary=summary)
    fixes = [str(one) for one in told.get("fix_versions") or ()]
    return Match(advisory=advisory, source=source, is_affected=True, fixed=least_above("PyPI", key[2], fixes))
