"""Whether an advisory speaks of an installed version: OSV's rules over the ecosystem's own order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from packaging.version import Version

from pipeline.scan.advisories.names import is_same_release, normal_name, plain_version, release_of
from pipeline.scan.advisories.orders import BadVersion, order_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.scan.advisories.osv import Advisory, Affected, Event

FIRST: Final = "0"  # before every version
BEFORE_ALL: Final = (0,)
NO_LIMIT: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one advisory means for one version of a package."""

    is_affected: bool
    fixed: str = ""  # the least version above the installed one that this advisory calls mended
    undecided: str = ""  # why it cannot be said


NOT_AFFECTED: Final = Verdict(is_affected=False)


class Installed:
    """One version of a package, ready to be compared."""

    def __init__(self, ecosystem: str, version: str) -> None:
        """Read a version.

        Raises:
            BadVersion: It is none in its ecosystem.
        """
        self.ecosystem = ecosystem
        self.order = order_of(ecosystem)
        self.key: Any = self.order(version) if self.order is not None else None
        # "1.0+cu121" is the release 1.0 with a label: an advisory for 1.0 means it too.
        self.release: Any = self.key
        self.texts = {plain_version(ecosystem, version)}  # as lists of versions may have it
        if isinstance(self.key, Version) and self.key.local is not None:
            self.release = Version(self.key.public)
            self.texts.add(release_of(version))
        self._known: dict[str, Any] = {}

    def key_of(self, text: str) -> Any:
        """The place of another version in the order.

        Raises:
            BadVersion: It is none, or the ecosystem has no order that we know.
        """
        if self.order is None:
            raise BadVersion(text, self.ecosystem)
        if text not in self._known:
            self._known[text] = self.order(text)
        return self._known[text]

    def compare(self, text: str) -> int:
        """Compare this version with that of an event: below, equal or above 0.

        Raises:
            BadVersion: The event's version is none.
        """
        return self.compare_key(self.key_of(text))

    def compare_key(self, other: Any) -> int:
        """Compare this version with a place in the order: below, equal or above 0."""
        mine = self.key if isinstance(other, Version) and other.local else self.release
        return int(mine > other) - int(mine < other)


def about(advisory: Advisory, ecosystem: str, package: str) -> Advisory:
    """What an advisory says of one package, and nothing else."""
    wanted = normal_name(ecosystem, package)
    ours = tuple(
        one
        for one in advisory.affected
        if is_same_release(one.ecosystem, ecosystem) and normal_name(one.ecosystem, one.name) == wanted
    )
    return advisory if ours == advisory.affected else replace(advisory, affected=ours)


def is_listed(advisory: Advisory, ecosystem: str, version: str) -> bool:
    """Whether an advisory that is `about` a package lists a version by name: no order is needed for that."""
    text = plain_version(ecosystem, version)
    return any(text in one.versions for one in advisory.affected)


def judge(advisory: Advisory, installed: Installed) -> Verdict:
    """Say whether an advisory that is `about` a package speaks of its installed version."""
    undecided = ""
    is_affected = False
    for one in advisory.affected:
        told = _is_affected(one, installed)
        is_affected = is_affected or told is True
        undecided = undecided or (told if isinstance(told, str) else "")
    if is_affected:
        return Verdict(is_affected=True, fixed=_fix(advisory.affected, installed))
    return Verdict(is_affected=False, undecided=undecided) if undecided else NOT_AFFECTED


def _is_affected(affected: Affected, installed: Installed) -> bool | str:
    """Yes, no, or why it cannot be said."""
    if not installed.texts.isdisjoint(affected.versions):
        return True
    ranges = [one for one in affected.ranges if one.type != "GIT"]
    if not ranges and not affected.versions:
        return "it names git commits only" if affected.ranges else "it does not say which versions"
    undecided = ""
    for one in ranges:
        try:
            if _is_in_range(one.events, installed):
                return True
        except BadVersion as error:
            undecided = f"its version `{error.text[:40]}` does not parse"
    return undecided or False


def _is_in_range(events: Sequence[Event], installed: Installed) -> bool:
    """OSV's own rule: go through the events in their order, those of one version as they are written."""
    limits = [one.version for one in events if one.kind == "limit"]
    marks = [(one.kind, _place(one, installed)) for one in events if one.kind != "limit"]
    marks.sort(key=itemgetter(1))
    is_affected = False
    for kind, place in marks:
        if kind == "introduced":
            is_affected = is_affected or place == BEFORE_ALL or installed.compare_key(place[1]) >= 0
        elif is_affected and installed.compare_key(place[1]) >= (0 if kind == "fixed" else 1):
            is_affected = False
    is_unlimited = not limits or NO_LIMIT in limits
    return is_affected and (is_unlimited or any(installed.compare(limit) < 0 for limit in limits))


def _place(event: Event, installed: Installed) -> tuple[Any, ...]:
    if event.version == FIRST and event.kind == "introduced":
        return BEFORE_ALL
    return (1, installed.key_of(event.version))


def _fix(ours: Sequence[Affected], installed: Installed) -> str:
    """The least version that is above the installed one and that none of these ranges names.

    "" where there is none.
    """
    told = {
        event.version
        for one in ours
        for told in one.ranges
        for event in told.events
        if told.type != "GIT" and event.kind == "fixed"
    }
    above: list[str] = []
    for version in told:
        try:
            if installed.compare(version) < 0:
                above.append(version)
        except BadVersion:  # a version that does not parse mends nothing that could be told
            continue
    for version in sorted(above, key=installed.key_of):
        later = Installed(installed.ecosystem, version)
        if not any(_is_affected(one, later) is True for one in ours):
            return version
    return ""
