"""npm audit, when the user asks for it.

A registry without the endpoint for advisories makes it end as if there were some: only its JSON tells.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.canary import CANARIES
from pipeline.scan.advisories.osv import Advisory
from pipeline.scan.advisories.sources.local import unavailable
from pipeline.scan.advisories.sources.tools import json_of, tool_answer
from pipeline.scan.scanner import Command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import Ran

CONTROL: Final = "/tmp/control"  # noqa: S108 - in the tool's own container
LIMIT_S: Final = 120.0
_GHSA: Final = re.compile(r"GHSA(?:-[0-9a-z]{4}){3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmAudit:
    """Judges what a `package-lock.json` names by the tool."""

    folder: str  # absolute path, in the container, of the folder with the lock file
    name: str = "npm audit"

    def commands(self) -> list[Command]:
        """A control that must come out vulnerable, then the project's lock file."""
        name, version = CANARIES["npm"][0]
        wanted = {"name": "control", "version": "1.0.0", "dependencies": {name: version}}
        lock = {
            "name": "control",
            "version": "1.0.0",
            "lockfileVersion": 3,
            "packages": {"": wanted, f"node_modules/{name}": {"version": version}},
        }
        files = {
            f"{CONTROL}/package.json": json.dumps(wanted),
            f"{CONTROL}/package-lock.json": json.dumps(lock),
        }
        audit = ("npm", "audit", "--json", "--package-lock-only", "--prefix")
        return [
            Command(argv=(*audit, CONTROL), files=files, timeout_s=LIMIT_S),
            Command(argv=(*audit, self.folder), timeout_s=LIMIT_S),
        ]

    def read(self, packages: Sequence[Package], ran: Sequence[Ran], *, version: str = "") -> SourceAnswer:
        """What the runs say; without its list of vulnerabilities nothing was looked at."""
        source = SourceInfo(
            name=f"{self.name} {version}".strip(),
            ecosystems=("npm",),
            address="the npm registry",
            is_live=True,
        )
        control, project = (json_of(one) for one in ran)
        for run, told in zip(ran, (control, project), strict=True):
            if not isinstance(told, dict) or not isinstance(told.get("vulnerabilities"), dict):
                said = told.get("message") if isinstance(told, dict) else None
                return unavailable(source, packages, f"npm audit gave no answer: {said or run.last_words}")
        if not control["vulnerabilities"]:
            name, wanted = CANARIES["npm"][0]
            return unavailable(source, packages, f"npm audit finds nothing wrong with {name} {wanted}")
        found: dict[Key, tuple[Match, ...]] = {}
        ours = [one for one in packages if one.ecosystem == "npm" and one.version]
        for one in ours:
            entry = project["vulnerabilities"].get(one.name)
            found[one.key] = tuple(_matches(entry, source)) if isinstance(entry, dict) else ()
        return tool_answer(source, packages, found, {}, frozenset(one.key for one in ours))


def joined(answers: Sequence[SourceAnswer]) -> SourceAnswer:
    """One answer of those about several lock files; the worst of them tells the state."""
    worst = next((one for one in answers if one.state != "complete"), answers[0])
    judged = frozenset(key for one in answers for key in one.judged)
    return replace(
        worst,
        state="incomplete" if judged and worst.state == "unavailable" else worst.state,
        matches={key: told for one in answers for key, told in one.matches.items()},
        unknown={key: why for one in answers for key, why in one.unknown.items() if key not in judged},
        judged=judged,
    )


def _matches(entry: Mapping[str, Any], source: SourceInfo) -> list[Match]:
    """The advisories about a package itself; names of packages it needs are told with those."""
    return [
        Match(advisory=_advisory(via), source=source, is_affected=True)
        for via in entry.get("via") or ()
        if isinstance(via, dict)
    ]


def _advisory(via: Mapping[str, Any]) -> Advisory:
    url = str(via.get("url") or "")
    ghsa = _GHSA.search(url)
    vector = str((via.get("cvss") or {}).get("vectorString") or "")
    weaknesses = [re.match(r"CWE-(\d+)$", str(one)) for one in via.get("cwe") or ()]
    return Advisory(
        id=ghsa.group() if ghsa else f"NPM-{via.get('source')}",
        summary=str(via.get("title") or ""),
        url=url,
        severity=(("CVSS_V3", vector),) if vector else (),
        rating=str(via.get("severity") or ""),
        cwe=tuple(sorted(int(one.group(1)) for one in weaknesses if one)),
    )
