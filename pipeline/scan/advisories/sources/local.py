"""Advisories in an index on this machine: fetched, imported or the user's own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.answer import Match, SourceAnswer, SourceInfo
from pipeline.scan.advisories.canary import canaries_of
from pipeline.scan.advisories.index import Index, IndexBroken
from pipeline.scan.advisories.match import Installed, is_listed, judge
from pipeline.scan.advisories.names import base_of, normal_name
from pipeline.scan.advisories.orders import BadVersion
from pipeline.scan.advisories.times import DAY_S, age_s, in_days

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from pipeline.scan.advisories.answer import Key
    from pipeline.scan.advisories.osv import Advisory
    from pipeline.scan.packages.package import Package

ONLINE_AGE_S: Final = 3 * DAY_S
BUNDLE_AGE_S: Final = 30 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Judges packages by an index."""

    path: Path
    max_age_s: float = BUNDLE_AGE_S
    is_partial: bool = False  # it knows some problems only: silence says nothing, and no canary is looked for
    canaries: Mapping[str, str] = field(default_factory=dict)

    def ask(self, packages: Sequence[Package], now: datetime) -> SourceAnswer:
        """Say what the index knows of packages; never raises for data that cannot be used."""
        try:
            with Index(self.path) as index:
                return self._ask(index, packages, now)
        except IndexBroken as error:
            why = str(error)
            info = SourceInfo(name=self.path.stem)
            return unavailable(info, packages, why, hint=error.hint or "", is_partial=self.is_partial)

    def _ask(self, index: Index, packages: Sequence[Package], now: datetime) -> SourceAnswer:
        source = index.contents.source
        silent = {} if self.is_partial else self._silent(index, {one.ecosystem for one in packages})
        matches: dict[Key, tuple[Match, ...]] = {}
        unknown: dict[Key, str] = {}
        judged: set[Key] = set()
        for one in packages:
            if one.key in judged or one.key in unknown:
                continue
            why = silent.get(one.ecosystem, "")
            found, undecided = ((), why) if why else match_package(index.about(*one.key[:2]), one, source)
            if found:
                matches[one.key] = found
            if undecided:
                unknown[one.key] = undecided
            else:
                judged.add(one.key)
        answer = SourceAnswer(
            source=source,
            matches=matches,
            unknown=unknown,
            judged=frozenset(judged),
            is_partial=self.is_partial,
        )
        return self._with_state(answer, index, now)

    def _silent(self, index: Index, ecosystems: set[str]) -> dict[str, str]:
        """The ecosystems whose packages this data cannot judge, and why."""
        told: dict[str, str] = {}
        for ecosystem in ecosystems:
            if not index.contents.counts.get(base_of(ecosystem)):
                told[ecosystem] = f"{index.contents.source.name} has no advisories for {ecosystem}"
            elif not self._knows_canary(index, ecosystem):
                names = " or ".join(" ".join(one) for one in canaries_of(ecosystem, self.canaries)) or "any"
                told[ecosystem] = (
                    f"{index.contents.source.name} does not know that {names} of {ecosystem} is vulnerable"
                )
        return told

    def _knows_canary(self, index: Index, ecosystem: str) -> bool:
        for name, version in canaries_of(ecosystem, self.canaries):
            installed = Installed(ecosystem, version)
            about = index.about(ecosystem, normal_name(ecosystem, name))
            if any(judge(one, installed).is_affected for one in about if not one.is_withdrawn):
                return True
        return False

    def _with_state(self, answer: SourceAnswer, index: Index, now: datetime) -> SourceAnswer:
        age = age_s(answer.source.as_of, now)
        if answer.unknown and not answer.judged and not self.is_partial:
            return replace(answer, state="unavailable", reason=next(iter(answer.unknown.values())))
        if age is None or age > self.max_age_s:
            old = f"is {in_days(age)} old" if age is not None else "does not say how old it is"
            reason = f"{answer.source.name} {old}; at most {in_days(self.max_age_s)} are allowed"
            return replace(answer, state="stale", reason=reason, hint="fetch it again")
        if index.contents.bad:
            reason = f"{index.contents.bad} records could not be read; first: {index.contents.first_bad}"
            return replace(answer, state="incomplete", reason=reason)
        return answer


def match_package(
    advisories: Sequence[Advisory], package: Package, source: SourceInfo
) -> tuple[tuple[Match, ...], str]:
    """Match the advisories about a package; also says why it cannot be judged, "" where it can."""
    if not package.judged_version:
        return (), "no version is fixed"
    try:
        installed = Installed(package.ecosystem, package.judged_version)
    except BadVersion as error:
        listed = [one for one in advisories if is_listed(one, package.ecosystem, package.judged_version)]
        return tuple(Match(advisory=one, source=source, is_affected=True) for one in listed), str(error)
    if installed.order is None:
        return (), f"the order of versions of {package.ecosystem} is not known"
    found: list[Match] = []
    undecided = ""
    for advisory in advisories:
        verdict = judge(advisory, installed)
        fixed = (verdict.fixed,) if verdict.fixed else ()
        found.append(Match(advisory=advisory, source=source, is_affected=verdict.is_affected, fixed=fixed))
        if verdict.undecided and not advisory.is_withdrawn:
            undecided = undecided or f"{advisory.id} cannot be judged: {verdict.undecided}"
    return tuple(found), undecided


def unavailable(
    source: SourceInfo, packages: Sequence[Package], why: str, *, hint: str = "", is_partial: bool = False
) -> SourceAnswer:
    """The answer of a source that cannot be asked."""
    return SourceAnswer(
        source=source,
        state="unavailable",
        reason=why,
        hint=hint,
        unknown={one.key: why for one in packages},
        is_partial=is_partial,
    )
