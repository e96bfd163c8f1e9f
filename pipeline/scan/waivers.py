"""Waivers: findings a team lives with, each with a reason, an owner and a day it ends.

They stand in `pipeline.waivers.toml`, one `[[waiver]]` each. What a waiver covers is decided here; what that
means for the verdict in `policy`.
"""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UsageError
from pipeline.globs import compile_globs
from pipeline.scan.finding import KINDS, Finding, InFile, InPackage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILE: Final = "pipeline.waivers.toml"
LONGEST_DAYS: Final = 180
LONGEST_DAYS_CRITICAL: Final = 30
SHORTEST_REASON: Final = 20
WARNING_DAYS: Final = 14  # told this long before a waiver ends
SHORTEST_ID: Final = 8  # digits of a fingerprint that name a finding
WIDEST: Final = 25  # findings one waiver may cover without `broad = true`


class WaiversInvalid(UsageError):
    """The file of waivers cannot be used; every problem is listed."""

    def __init__(self, file: str, problems: Sequence[str]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{file}: {len(problems)} problem{'s' if len(problems) > 1 else ''}\n{lines}")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One entry: which findings, why, whose, until when (that day included)."""

    reason: str
    owner: str
    expires: datetime.date
    created: datetime.date
    finding: str = ""  # a fingerprint, or its first digits
    rule: str = ""
    path: str = ""  # a glob, with `rule`
    advisory: str = ""  # any of its names
    package: str = ""  # with `advisory`
    kind: str = ""
    broad: bool = False

    @property
    def name(self) -> str:
        """The entry as people refer to it."""
        parts = (self.finding[:12], self.rule, self.path, self.advisory, self.package)
        return " ".join(part for part in parts if part)

    @property
    def only_kind(self) -> str:
        """The one kind of findings it can cover; "" where the entry does not tell."""
        return self.kind or ("vulnerability" if self.advisory else "")

    def days_left(self, today: datetime.date) -> int:
        """Days until it ends; negative once it has."""
        return (self.expires - today).days

    def covers(self, finding: Finding) -> bool:
        """Whether the entry means this finding, whatever the day."""
        if self.kind and finding.kind != self.kind:
            return False
        if self.finding:
            return finding.id.startswith(self.finding) or bool(
                finding.moved_id and finding.moved_id.startswith(self.finding)
            )
        place = finding.place
        if self.advisory:
            named = self.advisory in {finding.rule.id, *finding.aliases}
            return named and isinstance(place, InPackage) and place.name == self.package
        if self.rule not in {finding.rule.id, *(witness.rule for witness in finding.witnesses)}:
            return False
        where = place.path if isinstance(place, InFile | InPackage) else place.route
        return compile_globs((self.path,))(where)


def parse_waivers(text: str, file: str = FILE) -> tuple[Waiver, ...]:
    """The waivers of a file's text.

    Raises:
        WaiversInvalid: Names each entry that cannot be used, and why.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WaiversInvalid(file, [f"not TOML: {error}"]) from error
    problems = [f"{key}: unknown key; waivers are `[[waiver]]` entries" for key in tables if key != "waiver"]
    entries = tables.get("waiver", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WaiversInvalid(file, ["waiver: expected `[[waiver]]` entries"])
    waivers = []
    for index, entry in enumerate(entries, 1):
        own = [f"waiver {index}: {problem}" for problem in _problems(entry)]
        problems += own
        if not own:
            waivers.append(Waiver(**entry))
    if problems:
        raise WaiversInvalid(file, problems)
    return tuple(waivers)


_TEXTS: Final = ("reason", "owner", "finding", "rule", "path", "advisory", "package", "kind")
_SHAPES: Final = "one of `finding`, `rule` and `path`, `advisory` and `package`"


def _problems(entry: Mapping[str, Any]) -> list[str]:
    found = [f"{key}: unknown key" for key in entry if key not in {*_TEXTS, "expires", "created", "broad"}]
    for key in _TEXTS:
        if key in entry and not (isinstance(entry[key], str) and entry[key].strip()):
            found.append(f"{key}: expected a text, got {entry[key]!r}")
    if not isinstance(entry.get("broad", False), bool):
        found.append(f"broad: expected true or false, got {entry['broad']!r}")
    if found:
        return found
    if len(entry.get("reason", "").strip()) < SHORTEST_REASON:
        found.append(f"reason: expected at least {SHORTEST_REASON} characters that say why")
    if "owner" not in entry:
        found.append("owner: expected who answers for it")
    found += _date_problems(entry)
    shape = {key for key in ("finding", "rule", "path", "advisory", "package") if key in entry}
    if shape not in ({"finding"}, {"rule", "path"}, {"advisory", "package"}):
        found.append(f"expected {_SHAPES}, got {' and '.join(f'`{key}`' for key in sorted(shape)) or 'none'}")
    if "finding" in entry and not (len(entry["finding"]) >= SHORTEST_ID and _is_hex(entry["finding"])):
        found.append(f"finding: expected 8 to 32 hexadecimal digits, got {entry['finding']!r}")
    if "kind" in entry and entry["kind"] not in KINDS:
        found.append(f"kind: expected one of {', '.join(KINDS)}, got {entry['kind']!r}")
    return found


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _date_problems(entry: Mapping[str, Any]) -> list[str]:
    found = []
    for key in ("expires", "created"):
        value = entry.get(key)
        if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
            found.append(f"{key}: expected a day such as 2027-01-31, got {value!r}")
    if not found and not 0 <= (entry["expires"] - entry["created"]).days <= LONGEST_DAYS:
        found.append(f"expires: expected at most {LONGEST_DAYS} days after `created`")
    return found


def standing(waiver: Waiver, today: datetime.date) -> str:
    """How a waiver stands on a day: what is told of it changes only when this does, or daily near its end."""
    left = waiver.days_left(today)
    if left < 0:
        return "ended"
    return f"ends in {left} days" if left <= WARNING_DAYS else "holds"


def covering(waivers: Iterable[Waiver], findings: Iterable[Finding]) -> list[list[Waiver]]:
    """The waivers that mean each finding, in order, whatever the day."""
    by_key: dict[str, list[Waiver]] = {}
    for waiver in waivers:
        key = waiver.finding[:SHORTEST_ID] or waiver.rule or waiver.advisory
        by_key.setdefault(key, []).append(waiver)
    return [
        [waiver for key in _keys(finding) for waiver in by_key.get(key, ()) if waiver.covers(finding)]
        for finding in findings
    ]


def _keys(finding: Finding) -> dict[str, None]:
    ids = (finding.id[:SHORTEST_ID], finding.moved_id[:SHORTEST_ID])
    rules = (witness.rule for witness in finding.witnesses)
    return dict.fromkeys((*ids, finding.rule.id, *finding.aliases, *rules))
