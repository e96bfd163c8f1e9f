"""Advisories in the OSV schema, version 1: what we keep of a record, read from its JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pipeline.errors import PipelineError
from pipeline.scan.advisories.names import plain_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EventKind: TypeAlias = Literal["introduced", "last_affected", "fixed", "limit"]
EVENT_KINDS: Final[tuple[EventKind, ...]] = ("introduced", "last_affected", "fixed", "limit")
_CWE: Final = re.compile(r"CWE-(\d{1,6})$")
LONGEST_SUMMARY: Final = 300


class BadAdvisory(PipelineError):
    """A record that is not in the OSV schema."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot read the advisory `{name}`: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Where a range of versions begins or ends; "0" is before every version."""

    kind: EventKind
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Versions between events, of one kind of order."""

    type: str  # "ECOSYSTEM", "SEMVER" or "GIT"
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """What an advisory says of one package."""

    ecosystem: str  # with its suffix, such as "Debian:12"
    name: str
    ranges: tuple[Range, ...] = ()
    versions: frozenset[str] = frozenset()  # in the form of `plain_version`
    severity: tuple[tuple[str, str], ...] = ()  # pairs of type and vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Advisory:
    """One record, as one database has it."""

    id: str
    aliases: tuple[str, ...] = ()
    modified: str = ""
    published: str = ""
    is_withdrawn: bool = False
    summary: str = ""
    url: str = ""  # the advisory's own page
    severity: tuple[tuple[str, str], ...] = ()  # pairs of type and vector
    rating: str = ""  # a word for the severity, where the database has one
    cwe: tuple[int, ...] = ()
    affected: tuple[Affected, ...] = ()


def parse_advisory(table: object) -> Advisory:
    """Read one record; keys that are not known are passed over.

    Raises:
        BadAdvisory: It has no id, is of another major version of the schema, or holds other types.
    """
    if not isinstance(table, dict) or not isinstance(table.get("id"), str) or not table["id"]:
        raise BadAdvisory("?", "it has no id")
    schema = str(table.get("schema_version") or "1")
    if schema.partition(".")[0] != "1":
        raise BadAdvisory(table["id"], f"its schema is version {schema[:20]}, and 1 is known")
    try:
        return _parse(table)
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise BadAdvisory(table["id"], f"{type(error).__name__}: {error}") from error


def _parse(table: Mapping[str, Any]) -> Advisory:
    special = table.get("database_specific") or {}
    summary = str(table.get("summary") or table.get("details") or "").strip()
    weaknesses = [_CWE.match(str(one)) for one in special.get("cwe_ids") or special.get("cwes") or ()]
    return Advisory(
        id=table["id"],
        aliases=tuple(str(one) for one in table.get("aliases") or ()),
        modified=str(table.get("modified") or ""),
        published=str(table.get("published") or ""),
        is_withdrawn=bool(table.get("withdrawn")),
        summary=re.sub(r"\s+", " ", summary)[:LONGEST_SUMMARY],
        url=_url(table.get("references") or ()),
        severity=_severity(table),
        rating=str(special.get("severity") or "") if isinstance(special.get("severity"), str) else "",
        cwe=tuple(sorted({int(one.group(1)) for one in weaknesses if one})),
        affected=tuple(_affected(table)),
    )


def _url(references: Any) -> str:
    """The page of the advisory, else the first that the record names."""
    told = [(str(one.get("type")), str(one.get("url"))) for one in references if one.get("url")]
    return next((url for kind, url in told if kind == "ADVISORY"), told[0][1] if told else "")


def _severity(table: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(one.get("type")), str(one.get("score"))) for one in table.get("severity") or ())


def _affected(table: Mapping[str, Any]) -> Iterator[Affected]:
    for one in table.get("affected") or ():
        package = one.get("package") or {}
        if not package.get("name") or not package.get("ecosystem"):
            continue  # a repository's commits, without a package
        ecosystem = str(package["ecosystem"])
        yield Affected(
            ecosystem=ecosystem,
            name=str(package["name"]),
            ranges=tuple(_range(item) for item in one.get("ranges") or ()),
            versions=frozenset(plain_version(ecosystem, str(each)) for each in one.get("versions") or ()),
            severity=_severity(one),
        )


def _range(table: Mapping[str, Any]) -> Range:
    """A range; an event with two keys, which the schema forbids, counts as two events."""
    events = [
        Event(kind=kind, version=str(event[kind]))
        for event in table.get("events") or ()
        for kind in EVENT_KINDS
        if kind in event
    ]
    return Range(type=str(table.get("type") or ""), events=tuple(events))
