"""The next version: from the commits since the last one, or as somebody asked.

`feat` raises the minor number, `fix`, `perf` and what undoes a released change the patch, `!` or `BREAKING
CHANGE` the major. Below 1.0.0 what breaks raises the minor number: that the time of 1.0.0 has come is for
people to say. Commits of other types release nothing. Where no commit follows the convention, they are fixes.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.release import Prerelease
    from pipeline.release.commits import Change
    from pipeline.release.repository import Tag

NUMBER: Final = r"(?:0|[1-9]\d{0,9})"
SEMVER: Final = re.compile(
    rf"(?P<major>{NUMBER})\.(?P<minor>{NUMBER})\.(?P<patch>{NUMBER})"
    rf"(?:-(?P<kind>alpha|beta|rc|dev)\.(?P<n>{NUMBER}))?"
)
PEP440: Final = re.compile(
    rf"(?P<major>{NUMBER})\.(?P<minor>{NUMBER})\.(?P<patch>{NUMBER})(?P<kind>a|b|rc|\.dev)(?P<n>{NUMBER})"
)
SHORT: Final[Mapping[str, str]] = {"alpha": "a", "beta": "b", "rc": "rc", "dev": ".dev"}
LONG: Final[Mapping[str, Prerelease]] = {"a": "alpha", "b": "beta", "rc": "rc", ".dev": "dev"}
ORDER: Final = ("dev", "alpha", "beta", "rc", "")
Level: TypeAlias = Literal["major", "minor", "patch"]
LEVELS: Final[Mapping[str, Level]] = {"feat": "minor", "fix": "patch", "perf": "patch", "revert": "patch"}


class NotAVersion(UsageError):
    """A text that should be a version is none, or none that could come next."""

    def __init__(self, text: str, why: str = "it is no version such as 1.2.3 or 1.2.3-rc.1") -> None:
        super().__init__(f"cannot release `{text}`: {why}")


class BranchUnknown(UsageError):
    """Pre-releases depend on the branch, and none is checked out."""

    def __init__(self) -> None:
        super().__init__("cannot tell the kind of release: no branch is checked out")
        self.hint = "name it with --branch: `[tool.pipeline.release.prerelease]` goes by its name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of three numbers, and of what kind and number it is before that version."""

    major: int
    minor: int
    patch: int
    kind: Literal["", "alpha", "beta", "rc", "dev"] = ""
    n: int = 0

    def __str__(self) -> str:
        """As Semantic Versioning writes it."""
        numbers = f"{self.major}.{self.minor}.{self.patch}"
        return f"{numbers}-{self.kind}.{self.n}" if self.kind else numbers

    @property
    def pep440(self) -> str:
        """As Python packages write it."""
        numbers = f"{self.major}.{self.minor}.{self.patch}"
        return f"{numbers}{SHORT[self.kind]}{self.n}" if self.kind else numbers

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """What versions are sorted by; `dev` comes before `alpha`, as in PEP 440."""
        return (self.major, self.minor, self.patch, ORDER.index(self.kind), self.n)

    @property
    def base(self) -> Version:
        """The version this is one before, or itself."""
        return replace(self, kind="", n=0)

    def raised(self, level: Level) -> Version:
        """The version after a change of this level."""
        if level == "major" and self.major > 0:
            return Version(major=self.major + 1, minor=0, patch=0)
        if level in ("major", "minor"):
            return Version(major=self.major, minor=self.minor + 1, patch=0)
        return Version(major=self.major, minor=self.minor, patch=self.patch + 1)


FIRST: Final = Version(major=0, minor=1, patch=0)


def find_version(text: str) -> Version | None:
    """Read `1.2.3`, `1.2.3-rc.1` or `1.2.3rc1`; None for anything else, also for other forms of versions."""
    if match := SEMVER.fullmatch(text):
        kind = match["kind"] or ""
    elif match := PEP440.fullmatch(text):
        kind = LONG[match["kind"]]
    else:
        return None
    return Version(
        major=int(match["major"]),
        minor=int(match["minor"]),
        patch=int(match["patch"]),
        kind=kind,  # type: ignore[arg-type]  # the patterns have these words alone
        n=int(match["n"] or 0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A version and its tag."""

    version: Version
    tag: Tag


def versions_of(tags: Sequence[Tag], prefix: str) -> tuple[Tagged, ...]:
    """Return the tags that are versions, the newest version first; floating ones such as `v1` are none."""
    found = []
    for tag in tags:
        version = find_version(tag.name.removeprefix(prefix)) if tag.name.startswith(prefix) else None
        if version is not None and tag.commit:
            found.append(Tagged(version=version, tag=tag))
    return tuple(sorted(found, key=lambda one: one.version.order, reverse=True))


def prerelease_of(branch: str, patterns: Mapping[str, Prerelease]) -> Prerelease | None:
    """Return which kind of pre-release a branch makes, by the first pattern that fits; None for releases.

    Raises:
        BranchUnknown: There are patterns, and no branch.
    """
    if patterns and not branch:
        raise BranchUnknown
    return next((kind for pattern, kind in patterns.items() if fnmatch.fnmatchcase(branch, pattern)), None)


def level_of(changes: Sequence[Change]) -> Level | None:
    """Return the greatest level among changes; None when they release nothing."""
    if any(one.breaking for one in changes):
        return "major"
    if changes and not any(one.type for one in changes):
        return "patch"
    found = {LEVELS[one.type] for one in changes if one.type in LEVELS}
    return "minor" if "minor" in found else "patch" if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What comes next, and why; `version` is None when nothing is to be released."""

    version: Version | None
    why: str


def next_version(
    last: Version | None,
    changes: Sequence[Change],
    *,
    kind: Prerelease | None = None,
    taken: Sequence[Version] = (),
    wanted: str | None = None,
    wanted_by: str = "--version",
) -> Next:
    """Decide the next version.

    Args:
        last: The last release that is no pre-release, and reachable.
        changes: Those since `last`.
        kind: Of a pre-release; None for a release.
        taken: Every version that has a tag anywhere.
        wanted: A version asked for, in either form; goes before all else.

    Raises:
        NotAVersion: `wanted` is none, is taken, or does not come after `last`.
    """
    if wanted is not None:
        version = _wanted(wanted, last, taken, wanted_by)
        if kind is not None and not version.kind:
            version = _numbered(version, kind, taken)
        return Next(version=version, why=f"{wanted_by} asks for it")
    if last is None and not changes:
        return Next(version=None, why="no commit changes anything")
    level = level_of(changes)
    if last is None:
        base, why = FIRST, "it is the first release"
    elif level is None:
        return Next(version=None, why=_nothing(last, changes))
    else:
        base, why = last.raised(level), _because(level, changes)
    if kind is None:
        return Next(version=base, why=why)
    return Next(version=_numbered(base, kind, taken), why=why)


def _numbered(base: Version, kind: Prerelease, taken: Sequence[Version]) -> Version:
    """Return the next version of this kind before `base`."""
    numbers = [one.n for one in taken if one.base == base and one.kind == kind]
    return replace(base, kind=kind, n=max(numbers, default=0) + 1)


def _wanted(text: str, last: Version | None, taken: Sequence[Version], by: str) -> Version:
    version = find_version(text.removeprefix("v"))
    if version is None:
        raise NotAVersion(text)
    if version in taken:
        raise NotAVersion(text, f"{by} asks for it, and it has a tag already")
    if last is not None and version.order <= last.order:
        raise NotAVersion(text, f"{by} asks for it, and it does not come after {last}")
    return version


def _because(level: Level, changes: Sequence[Change]) -> str:
    if level == "major":
        return f"{_count(sum(bool(one.breaking) for one in changes), 'breaking change')}"
    if not any(one.type for one in changes):
        return f"{_count(len(changes), 'change')} that follow no convention"
    count = sum(LEVELS.get(one.type) == level for one in changes)
    return _count(count, "feature" if level == "minor" else "fix", "fixes" if level == "patch" else "")


def _nothing(last: Version, changes: Sequence[Change]) -> str:
    if not changes:
        return f"nothing changed since {last}"
    types = ", ".join(sorted({one.type or "other" for one in changes}))
    return f"since {last} there are only changes that release nothing: {types}"


def _count(count: int, word: str, plural: str = "") -> str:
    return f"{count} {word if count == 1 else plural or word + 's'}"
