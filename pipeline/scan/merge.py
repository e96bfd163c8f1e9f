"""One problem that several tools saw is one finding with several witnesses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.finding import (
    CONFIDENCES,
    LEVELS,
    Finding,
    InFile,
    InPackage,
    InRequest,
    Severity,
    Witness,
    rank,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Names of advisories, the one people know best first.
FAMILIES: Final = ("CVE-", "GHSA-", "PYSEC-", "GO-", "RUSTSEC-", "DSA-", "DLA-", "USN-", "ALSA-", "RHSA-")

LONGEST_SPAN: Final = 50  # lines of one finding that are compared


def canonical(names: Iterable[str]) -> str:
    """The one name of an advisory that has several."""
    return min(names, key=lambda name: (_family(name), name))


def _family(name: str) -> int:
    return next((index for index, start in enumerate(FAMILIES) if name.startswith(start)), len(FAMILIES))


class Groups:
    """Things that are the same by way of names they share."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for the group of `name`."""
        parent = self._parent.setdefault(name, name)
        while parent != self._parent[parent]:
            self._parent[name] = parent = self._parent[parent]
        return parent

    def join(self, names: Sequence[str]) -> None:
        """Say that these are names of one thing."""
        for name in names[1:]:
            self._parent[self.find(name)] = self.find(names[0])
        for name in names[:1]:
            self.find(name)


def told_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One tool's findings in order, the first of each rule at each place."""
    found: dict[tuple[str, str], Finding] = {}
    for one in findings:
        found.setdefault((one.rule.id, one.where), one)
    return tuple(found.values())


def merge(findings: Iterable[Finding]) -> list[Finding]:
    """Make one finding of those that are the same problem, the worst first.

    Same advisory (by any of its names) of the same package at the same path; in code the same fingerprint, or
    the same weakness (CWE) on the same lines seen by different tools; in the running application the same
    weakness of the same input of a route. The finding that came first names the problem, so the scanners'
    order has to be fixed.
    """
    found = list(findings)
    groups = Groups()
    for one in found:
        if one.kind == "vulnerability":
            groups.join([one.rule.id, *one.aliases])
    merged: dict[tuple[str, ...], list[Finding]] = {}
    for one in found:
        merged.setdefault(_key(one, groups), []).append(one)
    whole = [_one(same) for same in merged.values()]
    return sorted(_overlaid(whole), key=rank)


def _key(one: Finding, groups: Groups) -> tuple[str, ...]:
    place = one.place
    if one.kind == "vulnerability" and isinstance(place, InPackage):
        ecosystem = place.ecosystem.partition(":")[0]
        return ("vulnerability", groups.find(one.rule.id), ecosystem, place.name, place.version, place.path)
    if one.kind == "sast" and one.id:  # of one call on several lines, tools name different lines
        return (one.kind, one.id)
    return (one.kind, one.id, one.where)


def _one(same: Sequence[Finding]) -> Finding:
    """All that the findings know, told once."""
    if len(same) == 1:
        return same[0]
    first = same[0]
    names = sorted({name for one in same for name in one.aliases})
    if first.kind == "vulnerability":
        names = sorted({*names, *(one.rule.id for one in same)})
        best = canonical(names)
        first = next((one for one in same if one.rule.id == best), first)
    place = first.place
    if isinstance(place, InPackage):
        fixed = dict.fromkeys(f for one in same if isinstance(one.place, InPackage) for f in one.place.fixed)
        place = replace(place, fixed=tuple(fixed))
    witnesses = _unique(witness for one in same for witness in one.witnesses)
    tools = {witness.tool for witness in witnesses}
    surest = min((one.confidence for one in same), key=CONFIDENCES.index)
    return replace(
        first,
        place=place,
        severity=worst(one.severity for one in same),
        confidence="high" if len(tools) > 1 else surest,
        cwe=tuple(sorted({cwe for one in same for cwe in one.cwe})),
        aliases=tuple(name for name in names if name != first.rule.id),
        fix=first.fix or next((one.fix for one in same if one.fix), ""),
        evidence=tuple(dict.fromkeys(line for one in same for line in one.evidence)),
        witnesses=witnesses,
        data=tuple(dict.fromkeys(source for one in same for source in one.data)),
    )


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of some severities; one that is known goes before one that is not."""
    return min(severities, key=lambda one: LEVELS.index(one.level))


def _unique(witnesses: Iterable[Witness]) -> tuple[Witness, ...]:
    return tuple(dict.fromkeys(witnesses))


def _overlaid(findings: Sequence[Finding]) -> list[Finding]:
    """Merge what different tools say of the same weakness on the same lines."""
    kept: list[Finding] = []
    by_line: dict[tuple[str, int], list[int]] = {}
    by_route: dict[tuple[str, str], list[int]] = {}
    for one in findings:
        place = one.place
        if one.kind == "dast" and isinstance(place, InRequest) and one.cwe:
            _overlay(kept, by_route.setdefault((place.method, place.route), []), one)
            continue
        if one.kind != "sast" or not isinstance(place, InFile) or not one.cwe:
            kept.append(one)
            continue
        last = min(max(place.line, place.end_line), place.line + LONGEST_SPAN)
        spots = [(place.path, line) for line in range(place.line, last + 1)]
        near = dict.fromkeys(index for spot in spots for index in by_line.get(spot, ()))
        index = next((index for index in near if _is_twin(kept[index], one)), len(kept))
        if index == len(kept):
            kept.append(one)
        else:
            kept[index] = _one([kept[index], one])
        for spot in spots:
            by_line.setdefault(spot, []).append(index)
    return kept


def _overlay(kept: list[Finding], near: list[int], one: Finding) -> None:
    """Keep what is said of a route, or add it to what another tool said of the same input.

    A tool that does not name the input means the one that another names.
    """
    for index in near:
        place, other = kept[index].place, one.place
        if not (isinstance(place, InRequest) and isinstance(other, InRequest) and _is_twin(kept[index], one)):
            continue
        if place.parameter == other.parameter or not (place.parameter and other.parameter):
            parameter = place.parameter or other.parameter
            kept[index] = _one([replace(kept[index], place=replace(place, parameter=parameter)), one])
            return
    near.append(len(kept))
    kept.append(one)


def _is_twin(one: Finding, other: Finding) -> bool:
    tools = {witness.tool for witness in one.witnesses}
    seen_by_same = any(witness.tool in tools for witness in other.witnesses)
    return not seen_by_same and not set(one.cwe).isdisjoint(other.cwe)
