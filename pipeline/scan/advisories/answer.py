"""What sources say of packages, and what follows: vulnerable, clean or unknown, each with who says so.

A source answers for the packages it could judge; what several sources say becomes one verdict in `settle`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline.scan.finding import DataSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.scan.advisories.osv import Advisory
    from pipeline.scan.packages.package import Package
    from pipeline.scan.scanner import State

Key: TypeAlias = tuple[str, str, str]  # of a package: ecosystem, normalised name, version


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """Where advisories come from, and how old they are."""

    name: str
    ecosystems: tuple[str, ...] = ()  # without suffix; none: it must be asked
    as_of: str = ""  # ISO 8601 time of the newest record; "" is unknown, as of a service that is asked live
    fetched_at: str = ""  # when the data were brought here, or the service was asked
    digest: str = ""
    licence: str = ""
    address: str = ""  # without credentials
    is_live: bool = False  # asked over the network now

    @property
    def data(self) -> DataSource:
        """What findings say of it."""
        as_of = self.as_of or (self.fetched_at if self.is_live else "")
        return DataSource(name=self.name, as_of=as_of, licence=self.licence, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One advisory of one source about one package: it speaks of its version, or only of others."""

    advisory: Advisory
    source: SourceInfo
    is_affected: bool
    fixed: tuple[str, ...] = ()  # by this advisory, the least first


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAnswer:
    """What one source says."""

    source: SourceInfo
    state: State = (
        "complete"  # of the source itself: "complete", "incomplete", "stale", "unavailable", "error"
    )
    reason: str = ""
    hint: str = ""
    matches: Mapping[Key, tuple[Match, ...]] = field(default_factory=dict)
    unknown: Mapping[Key, str] = field(default_factory=dict)  # packages it was asked for and cannot judge
    judged: frozenset[Key] = frozenset()
    is_partial: bool = False  # it knows some problems only: its silence says nothing


PackageState: TypeAlias = Literal["vulnerable", "clean", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How one package ends."""

    package: Package
    state: PackageState
    why: str = ""  # of "unknown"
    by: tuple[SourceInfo, ...] = ()  # who judged it
    matches: tuple[Match, ...] = ()  # also those that do not speak of its version: they hold aliases
