"""The baseline: findings that were there when a team began to look, so that only new ones count.

`pipeline.baseline.json` holds one line a finding, sorted, so that a review sees what was added or removed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.scan.finding import Finding

FILE: Final = "pipeline.baseline.json"
SCHEMA: Final = 1


class BaselineUnreadable(UsageError):
    """The baseline is there but is not one."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(f"cannot read the baseline `{file}`: {what}")
        self.hint = "write it anew with `pipeline baseline update --add --reason ...`, or take it from git"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One finding of the baseline, as people review it."""

    id: str
    moved_id: str
    kind: str
    rule: str
    where: str
    reason: str
    count: int = 1  # places of one identity, such as a secret that stands in two files


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is known, by fingerprint."""

    known: tuple[Known, ...] = ()

    def split(self, findings: Iterable[Finding]) -> tuple[list[bool], list[Known]]:
        """Whether each finding is known, in order, and the known ones that are gone.

        A finding in a renamed file is known by its fingerprint without the path, but only in exchange for one
        that is gone: two files with the same problem are two problems.
        """
        found = list(findings)
        left: Counter[str] = Counter()
        for entry in self.known:
            left[entry.id] += entry.count
        marks = []
        for one in found:
            marks.append(left[one.id] > 0)
            left[one.id] -= 1
        moved = Counter[str]()
        for entry in self.known:
            if entry.moved_id and left[entry.id] > 0:
                moved[entry.moved_id] += left[entry.id]
        taken = Counter[str]()
        for index, one in enumerate(found):
            if not marks[index] and one.moved_id and moved[one.moved_id] > 0:
                marks[index] = True
                moved[one.moved_id] -= 1
                taken[one.moved_id] += 1
        stale = []
        for entry in self.known:
            if left[entry.id] <= 0:
                continue
            if entry.moved_id and taken[entry.moved_id] > 0:
                taken[entry.moved_id] -= 1
                continue
            stale.append(entry)
        return marks, stale


def known_of(findings: Iterable[Finding], reason: str) -> tuple[Known, ...]:
    """The entries for some findings, sorted."""
    counts: Counter[str] = Counter()
    entries: dict[str, Finding] = {}
    for one in findings:
        counts[one.id] += 1
        entries.setdefault(one.id, one)
    return tuple(
        Known(
            id=one.id,
            moved_id=one.moved_id,
            kind=one.kind,
            rule=one.rule.id,
            where=one.where,
            reason=reason,
            count=counts[one.id],
        )
        for one in sorted(entries.values(), key=lambda one: (one.kind, one.where, one.rule.id, one.id))
    )


def dump_baseline(baseline: Baseline) -> str:
    """The file's text: the same for the same content."""
    rows = [
        json.dumps({key: getattr(one, key) for key in Known.__slots__}, ensure_ascii=False)
        for one in sorted(baseline.known, key=lambda one: (one.kind, one.where, one.rule, one.id))
    ]
    body = ",\n".join(f"  {row}" for row in rows)
    return (
        f'{{"schema": {SCHEMA}, "known": [\n{body}\n]}}\n'
        if rows
        else f'{{"schema": {SCHEMA}, "known": []}}\n'
    )


def parse_baseline(text: str, file: str = FILE) -> Baseline:
    """What `dump_baseline` wrote.

    Raises:
        BaselineUnreadable: It is not JSON, of another schema, or a row is not an entry.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BaselineUnreadable(file, f"it is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("known"), list):
        raise BaselineUnreadable(file, f"expected `schema` {SCHEMA} and a list `known`")
    return Baseline(known=tuple(_entry(row, index, file) for index, row in enumerate(data["known"], 1)))


def _entry(row: Any, index: int, file: str) -> Known:
    kinds: Mapping[str, type] = {name: int if name == "count" else str for name in Known.__slots__}
    if not isinstance(row, dict) or row.keys() != kinds.keys():
        raise BaselineUnreadable(file, f"entry {index} has not exactly the keys {', '.join(kinds)}")
    wrong = [key for key, kind in kinds.items() if type(row[key]) is not kind]
    if wrong or row["count"] < 1:
        raise BaselineUnreadable(file, f"entry {index}: `{(wrong or ['count'])[0]}` has no usable value")
    return Known(**row)
