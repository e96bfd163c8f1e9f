"""From what sources say to how each package ends, and to one scan that proves what was looked at.

Pure: the time is handed in. A package is clean only by a source that covers its ecosystem, proved that it
knows vulnerabilities there, and holds data newer than the release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.scan.advisories.answer import Settled
from pipeline.scan.advisories.groups import findings_of, group
from pipeline.scan.advisories.names import base_of
from pipeline.scan.advisories.times import is_later
from pipeline.scan.scanner import Coverage, Missed, Scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.scan.advisories.answer import Key, Match, SourceAnswer
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import State

SCANNER: Final = "advisories"
NEWER: Final = "newer than the data"
HINT: Final = "import newer advisories: `pipeline prefetch --import FILE`, or allow the run to ask a service"


def settle(packages: Sequence[Package], answers: Sequence[SourceAnswer]) -> list[Settled]:
    """Say for each package whether it is vulnerable, clean or unknown, by whom or why."""
    matches = matches_by_package(answers)
    return [_settle(one, matches.get(one.key, ()), answers) for one in packages]


def matches_by_package(answers: Sequence[SourceAnswer]) -> Mapping[Key, tuple[Match, ...]]:
    """All that all sources say of each package."""
    found: dict[Key, tuple[Match, ...]] = {}
    for answer in answers:
        for key, told in answer.matches.items():
            found[key] = (*found.get(key, ()), *told)
    return found


def _settle(package: Package, matches: tuple[Match, ...], answers: Sequence[SourceAnswer]) -> Settled:
    judges = [one for one in answers if package.key in one.judged and not one.is_partial]
    if group(matches):
        told = {match.source for match in matches if match.is_affected}
        by = tuple(one.source for one in answers if one in judges or one.source in told)
        return Settled(package=package, state="vulnerable", by=by, matches=matches)
    if package.private:
        why = f"it is private ({package.private}): no public data can know it"
        return Settled(package=package, state="unknown", why=why, matches=matches)
    fit = [one for one in judges if not is_later(package.released, one.source.as_of)]
    if fit:
        by = tuple(one.source for one in fit)
        return Settled(package=package, state="clean", by=by, matches=matches)
    why = f"no source for {base_of(package.ecosystem)}"
    if judges:
        newest = max(one.source.as_of for one in judges)
        why = f"it is {NEWER}: released {package.released[:10]}, data as of {newest[:10]}"
    else:
        told_why = [one.unknown[package.key] for one in answers if package.key in one.unknown]
        why = "; ".join(dict.fromkeys(told_why)) or why
    return Settled(package=package, state="unknown", why=why, matches=matches)


def scan_of(settled: Sequence[Settled], answers: Sequence[SourceAnswer]) -> Scan:
    """One scan over all packages: its state is the worst thing that kept a package from being judged."""
    unknown = [one for one in settled if one.state == "unknown"]
    state, reason = _state(settled, answers)
    return Scan(
        scanner=SCANNER,
        state=state,
        coverage=Coverage(
            unit="packages",
            expected=len(settled),
            seen=len(settled) - len(unknown),
            missed=tuple(Missed(what=_name(one), why=one.why) for one in unknown),
        ),
        findings=tuple(findings_of(settled)),
        reason=reason,
        hint="" if state == "complete" else _hint(answers),
        data=tuple(dict.fromkeys(one.source.data for one in answers if one.judged or one.matches)),
    )


def scans_of_failed(answers: Sequence[SourceAnswer], wanted: frozenset[str]) -> list[Scan]:
    """A scan without findings for each source the user named that could not do its part.

    Args:
        wanted: Names of the sources that the settings name.
    """
    return [
        Scan(
            scanner=f"{SCANNER} of {one.source.name}",
            state=one.state,
            coverage=Coverage(
                unit="packages",
                expected=len(one.judged) + len(one.unknown),
                seen=len(one.judged),
                missed=tuple(Missed(what=" ".join(key[1:]), why=why) for key, why in one.unknown.items()),
            ),
            reason=one.reason,
            hint=one.hint,
            data=(one.source.data,),
        )
        for one in answers
        if one.source.name in wanted and one.state != "complete"
    ]


def _state(settled: Sequence[Settled], answers: Sequence[SourceAnswer]) -> tuple[State, str]:
    """The state of the whole, and the sentence that says why."""
    stale = {one.source for one in answers if one.state == "stale"}
    unknown = [one for one in settled if one.state == "unknown"]
    newer = [one for one in unknown if NEWER in one.why]
    old = [one for one in settled if one.state != "unknown" and one.by and set(one.by) <= stale]
    said: list[str] = []
    if old:
        why = "; ".join(one.reason for one in answers if one.source in stale)
        said.append(f"{len(old)} of {len(settled)} packages are judged by old data: {why}")
    if newer:
        said.append(f"{len(newer)} of {len(settled)} packages are {NEWER}, such as {newer[0].package}")
    rest = [one for one in unknown if one not in newer]
    if rest:
        first = rest[0]
        said.append(
            f"{len(rest)} of {len(settled)} packages are unknown, such as {first.package}: {first.why}"
        )
    broken = [one for one in answers if one.state == "incomplete"]
    said += [f"{one.source.name}: {one.reason}" for one in broken]
    reason = "; ".join(said)
    if old or newer:
        return "stale", reason
    if rest and len(rest) == len(settled):
        return "unavailable", reason
    return ("incomplete" if rest or broken else "complete"), reason


def _hint(answers: Sequence[SourceAnswer]) -> str:
    told = [one.hint for one in answers if one.hint and one.state != "complete"]
    return "; ".join(dict.fromkeys(told)) or HINT


def _name(one: Settled) -> str:
    return f"{one.package} ({one.package.ecosystem})"
