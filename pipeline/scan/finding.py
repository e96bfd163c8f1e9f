"""What scanners find, as values: one `Finding` for one problem, whichever tools saw it.

Fingerprints are made in `fingerprint`, findings of several tools become one in `merge`, and what they mean
for the run is decided in `policy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Level: TypeAlias = Literal["critical", "high", "medium", "low", "info", "unknown"]
Confidence: TypeAlias = Literal["high", "medium", "low"]
Kind: TypeAlias = Literal[
    "sast", "secret", "vulnerability", "misconfiguration", "licence", "dast", "quality", "end-of-life"
]

LEVELS: Final[tuple[Level, ...]] = get_args(Level)  # the worst first
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CONFIDENCES: Final[tuple[Confidence, ...]] = get_args(Confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """How bad it is, and which row of the severity table decided that."""

    level: Level
    basis: str  # such as "bandit HIGH/MEDIUM" or "CVSS 9.8"
    score: float | None = None  # CVSS, 0 to 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What was checked; `id` is the tool's own, without the path of a configuration file."""

    id: str
    name: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A tool that reported the problem, under its own rule."""

    tool: str
    version: str
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InFile:
    """A place in a file of the project or of an image; lines and columns count from 1, 0 is unknown."""

    path: str  # relative to the project (or to the image's root), with `/`
    line: int = 0
    end_line: int = 0
    column: int = 0
    end_column: int = 0
    symbol: str = ""  # the function or class around it, such as "Store.load"
    snippet: str = ""  # names the statement or line there, whatever its layout: 16 hex digits
    layer: str = ""  # digest of the image layer, where it is one


@dataclass(frozen=True, slots=True, kw_only=True)
class InPackage:
    """An installed or locked package."""

    purl: str  # with version
    name: str
    version: str
    ecosystem: str  # as OSV spells it: "PyPI", "npm", "Debian:12"
    fixed: tuple[str, ...] = ()  # versions that mend it, the least first
    path: str = ""  # of the lock file, or of the package's files in the image
    layer: str = ""  # digest of the image layer
    direct: bool | None = None  # the project names it itself; None: not known
    dev: bool = False
    imported: bool | None = None  # the project's code imports it; None: not known, which is not "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class InRequest:
    """A request to the running application, without anything secret."""

    method: str
    url: str
    route: str  # the template, such as "/items/{id}"
    parameter: str = ""


Place: TypeAlias = InFile | InPackage | InRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Where advisories or rules come from, and how old they are."""

    name: str
    as_of: str = ""  # ISO 8601 time of the newest record, not of the download; "" is unknown
    licence: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem; equal problems of one run have one `id`."""

    id: str  # the fingerprint: 32 hex digits, the same while the problem is the same
    kind: Kind
    rule: Rule
    title: str
    message: str
    severity: Severity
    place: Place
    confidence: Confidence = "medium"
    cwe: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()  # other names of an advisory, sorted
    fix: str = ""  # what to do, one sentence or command
    evidence: tuple[str, ...] = ()  # redacted
    witnesses: tuple[Witness, ...] = ()
    data: tuple[DataSource, ...] = ()
    moved_id: str = ""  # the fingerprint without the path: what a renamed file keeps

    @property
    def where(self) -> str:
        """The place as people read it: `path:line`, `name version`, or `GET /route`."""
        place = self.place
        if isinstance(place, InFile):
            return f"{place.path}:{place.line}" if place.line else place.path
        if isinstance(place, InPackage):
            return f"{place.name} {place.version}"
        parameter = f" ({place.parameter})" if place.parameter else ""
        return f"{place.method} {place.route}{parameter}"


def rank(finding: Finding) -> tuple[int, int, str, str]:
    """The order findings are told in: the worst first, then the surest, then by place."""
    return (
        LEVELS.index(finding.severity.level),
        CONFIDENCES.index(finding.confidence),
        finding.where,
        finding.id,
    )
