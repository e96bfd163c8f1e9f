"""What an answer of Trivy means for each package: vulnerable, clean, or not judged and why. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.names import base_of, normal_name
from pipeline.scan.advisories.osv import Advisory
from pipeline.scan.advisories.times import age_s, in_days
from pipeline.scan.trivy.answer import NO_FAMILY, OS_PACKAGES
from pipeline.scan.trivy.blobs import is_of_system
from pipeline.scan.trivy.canary import ecosystem_in, is_canary, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import State
    from pipeline.scan.trivy.answer import ScanAnswer, TrivyPackage, TrivyVulnerability
    from pipeline.scan.trivy.canary import Canaries

NOT_AFFECTED: Final = 1
STATUSES: Final[Mapping[int, str]] = {
    4: "the distribution still looks into it",
    5: "the distribution will not mend it",
    6: "the distribution puts the fix off",
    7: "the distribution's release has ended",
}
HINT: Final = "update the server's database, or start it with one"


def judge_packages(
    packages: Sequence[Package],
    answer: ScanAnswer,
    canaries: Canaries,
    source: SourceInfo,
    *,
    now: datetime,
    max_age_s: float,
) -> SourceAnswer:
    """Settle what the server said of each package.

    A package counts as judged only where the server listed it, knows its distribution, and knew a canary.
    """
    ours: dict[tuple[str, str, str], list[Package]] = {}
    for one in packages:
        ours.setdefault(place_of(kind_of(one), one.name, one.version), []).append(one)
    listed = {
        place_of(ecosystem_in(result), one.name, one.version)
        for result in answer.results
        for one in result.packages
        if not is_canary(one)
    }
    silent = canaries.silent(answer)
    system = _no_system(answer)
    unknown: dict[Key, str] = {}
    for place, several in ours.items():
        absent = "" if place in listed else "Trivy did not list it"
        for one in several:
            why = system[1] if is_of_system(one) else ""
            if one.ecosystem not in canaries.by_ecosystem:
                why = why or f"Trivy was not tried with a package of {one.ecosystem}"
            if why := why or silent.get(one.ecosystem, "") or absent:
                unknown[one.key] = why
    matches, strange = _matches(ours, answer, source)
    judged = frozenset(one.key for one in packages if one.key not in unknown)
    found = SourceAnswer(source=source, matches=matches, unknown=unknown, judged=judged)
    if strange:
        why = f"it found problems in packages that the image does not have, such as {strange[0]}"
        return replace(found, state="error", reason=why)
    why = next(iter(unknown.values()), "")
    if unknown and not judged:
        state: State = system[0] if system[1] in unknown.values() else "unavailable"
        return replace(found, state=state, reason=why, hint=HINT)
    if old := _why_old(source.as_of, now, max_age_s):
        return replace(found, state="stale", reason="; ".join(filter(None, (old, why))), hint=HINT)
    return replace(found, state="incomplete", reason=why, hint=HINT) if unknown else found


def _no_system(answer: ScanAnswer) -> tuple[State, str]:
    """Why the server could not judge the distribution's packages; "" where it did."""
    if answer.family in NO_FAMILY:
        return "error", "Trivy was not told which distribution the packages are of"
    if not any(one.kind == OS_PACKAGES for one in answer.results):
        told = f"{answer.family} {answer.release}".strip()
        return "unsupported", f"Trivy does not know the distribution `{told}`"
    return "complete", ""


def place_of(kind: str, name: str, version: str) -> tuple[str, str, str]:
    """What a package is found by again."""
    return kind, normal_name(kind, name).lower(), version.removeprefix("0:")


def _matches(
    ours: Mapping[tuple[str, str, str], Sequence[Package]], answer: ScanAnswer, source: SourceInfo
) -> tuple[dict[Key, tuple[Match, ...]], list[str]]:
    """The matches by package, and packages with problems that are none of ours."""
    found: dict[Key, dict[str, Match]] = {}
    strange: list[str] = []
    for result in answer.results:
        kind = ecosystem_in(result)
        for one in result.vulnerabilities:
            if is_canary(one.package):
                continue
            several = ours.get(place_of(kind, one.package.name, one.package.version), ())
            strange += [] if several else [_shown(one.package)]
            for package in several:
                found.setdefault(package.key, {}).setdefault(one.id, _match(one, source))
    return {key: tuple(several.values()) for key, several in found.items()}, strange


def _shown(package: TrivyPackage) -> str:
    return f"{package.name[:100]} {package.version[:100]}"


def _match(one: TrivyVulnerability, source: SourceInfo) -> Match:
    summary = "; ".join(part for part in (one.title, STATUSES.get(one.status, "")) if part)
    advisory = Advisory(
        id=one.id,
        summary=summary[:300],
        url=one.url,
        severity=(("Trivy", one.severity),),
        cwe=one.cwe,
    )
    return Match(advisory=advisory, source=source, is_affected=one.status != NOT_AFFECTED, fixed=one.fixed)


def _why_old(as_of: str, now: datetime, max_age_s: float) -> str:
    """Why the server's database is too old to be believed; "" where it is not."""
    age = age_s(as_of, now)
    if age is not None and age <= max_age_s:
        return ""
    old = f"is {in_days(age)} old" if age is not None else "does not say how old it is"
    return f"Trivy's database {old}; at most {in_days(max_age_s)} are allowed"


def ecosystems_of(packages: Sequence[Package]) -> tuple[str, ...]:
    """The ecosystems of packages, without their releases."""
    return tuple(sorted({base_of(one.ecosystem) for one in packages}))
