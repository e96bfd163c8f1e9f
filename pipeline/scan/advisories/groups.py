"""Advisories about one package that are one problem under several names, and the finding that makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.orders import BadVersion, order_of
from pipeline.scan.advisories.severity import severity_of_advisory, worst
from pipeline.scan.finding import Finding, InPackage, Rule, Witness
from pipeline.scan.merge import Groups, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.scan.advisories.answer import Match, Settled

PAGES: Final = {
    "CVE-": "https://nvd.nist.gov/vuln/detail/",
    "GHSA-": "https://github.com/advisories/",
    "": "https://osv.dev/vulnerability/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One problem of one package."""

    id: str
    aliases: tuple[str, ...]
    matches: tuple[Match, ...]  # that speak of the installed version; at least one
    silent: tuple[Match, ...] = ()  # that know the problem and do not name this version


def group(matches: Sequence[Match]) -> list[Group]:
    """Join advisories that share a name (id or alias, never `related`); drop what nobody stands by.

    A group stays while one of its records, not withdrawn, speaks of the installed version.
    """
    groups = Groups()
    for one in matches:
        groups.join([one.advisory.id, *one.advisory.aliases])
    members: dict[str, list[Match]] = {}
    for one in matches:
        members.setdefault(groups.find(one.advisory.id), []).append(one)
    found: list[Group] = []
    for several in members.values():
        live = [one for one in several if not one.advisory.is_withdrawn]
        affecting = [one for one in live if one.is_affected]
        if affecting:
            names = {name for one in several for name in (one.advisory.id, *one.advisory.aliases)}
            chosen = canonical(names)
            found.append(
                Group(
                    id=chosen,
                    aliases=tuple(sorted(names - {chosen})),
                    matches=tuple(affecting),
                    silent=tuple(one for one in live if not one.is_affected),
                )
            )
    return sorted(found, key=lambda one: one.id)


def fixes_of(one: Group, ecosystem: str) -> tuple[str, ...]:
    """The versions that mend a problem, the least first; several where advisories disagree."""
    told = {version for match in one.matches for version in match.fixed if version}
    order = order_of(ecosystem)
    if order is None:
        return tuple(sorted(told))
    readable: dict[str, object] = {}
    for version in told:
        try:
            readable[version] = order(version)
        except BadVersion:  # told by a tool of its own; it stays, after those that can be sorted
            continue
    known: list[str] = sorted(readable, key=lambda version: readable[version])  # type: ignore[arg-type,return-value]
    same = [
        version for at, version in enumerate(known) if at and readable[version] == readable[known[at - 1]]
    ]
    return (*(version for version in known if version not in same), *sorted(told - set(readable)))


def disagreement(one: Group) -> str:
    """What the advisories of a group do not agree on, as a sentence; "" where they agree."""
    fixes: dict[tuple[str, ...], list[str]] = {}
    for match in one.matches:
        fixes.setdefault(match.fixed, []).append(match.advisory.id)
    said: list[str] = []
    if len(fixes) > 1:
        told = [f"{', '.join(fix) or 'none'} ({', '.join(ids)})" for fix, ids in sorted(fixes.items())]
        said.append(f"sources disagree on the fix: {'; '.join(told)}")
    silent = sorted({match.advisory.id for match in one.silent} - {m.advisory.id for m in one.matches})
    if silent:
        said.append(f"sources disagree on the versions: {', '.join(silent)} does not name this one")
    return "; ".join(said)


def findings_of(settled: Iterable[Settled]) -> list[Finding]:
    """The findings of all packages, one for each problem; ids are given later."""
    return [_finding(one, each) for one in settled for each in group(one.matches)]


def _finding(settled: Settled, one: Group) -> Finding:
    package = settled.package
    fixed = fixes_of(one, package.ecosystem)
    summary = next((match.advisory.summary for match in one.matches if match.advisory.summary), "")
    mend = f"update {package.name} to {fixed[0]}" if fixed else ""
    parts = [summary, disagreement(one), "" if fixed else "no version that mends it is known"]
    return Finding(
        id="",
        kind="vulnerability",
        rule=Rule(id=one.id, name=one.id, url=_page(one)),
        title=f"{one.id} in {package.name}",
        message="; ".join(part.rstrip(".") for part in parts if part),
        severity=worst(severity_of_advisory(match.advisory) for match in one.matches),
        place=InPackage(
            purl=package.purl,
            name=package.name,
            version=package.version,
            ecosystem=package.ecosystem,
            fixed=fixed,
            path=package.path,
            layer=package.layer,
            direct=package.direct,
            dev=package.dev,
            imported=package.imported,
        ),
        confidence="high",
        cwe=tuple(sorted({number for match in one.matches for number in match.advisory.cwe})),
        aliases=one.aliases,
        fix=mend,
        witnesses=tuple(
            dict.fromkeys(
                Witness(tool=match.source.name, version="", rule=match.advisory.id) for match in one.matches
            )
        ),
        data=tuple(dict.fromkeys(match.source.data for match in one.matches)),
    )


def _page(one: Group) -> str:
    told = next((match.advisory.url for match in one.matches if match.advisory.url), "")
    start = next(start for start in PAGES if one.id.startswith(start))
    return told or PAGES[start] + one.id
