"""Verifies the audit log: pure, from what is there and from what is known outside.

Detected are entries that were changed, dropped, put in, swapped, written anew, and a log that was cut off or
put back; each with the number of the first entry that is not as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence  # noqa: TC003 - Mapping is read at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rfc8785

from pipeline.errors import PipelineError
from pipeline.ops.audit import CHECKPOINTS, GENESIS, HEAD, SEGMENT, hash_of, parse_head, segment_of
from pipeline.ops.checkpoints import parse_checkpoints
from pipeline.sshkeys import SignatureBad

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.ops.audit import Head, Records
    from pipeline.ops.checkpoints import Signed


class AuditUnsound(PipelineError):
    """The audit log is not as it was written."""

    def __init__(self, report: Report) -> None:
        first = report.problems[0]
        more = f" (and {len(report.problems) - 1} more)" if len(report.problems) > 1 else ""
        super().__init__(f"cannot trust the audit log: {first.what}{more}")
        self.report = report


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there: segments by name, the head's record, and the checkpoints beside the log."""

    segments: Mapping[str, bytes]
    head: bytes
    checkpoints: tuple[Signed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, from entry `seq` on."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the log is worth. `known_until` is the last entry that a checkpoint outside knows of; 0 is none.

    `signed_until` is the last one that a signature of somebody who counts covers.
    """

    first: int
    last: int
    problems: tuple[Problem, ...] = ()
    known_until: int = 0
    signed_until: int = 0

    @property
    def verdict(self) -> str:
        """What is said of it: of a log nobody outside knows, nothing can tell whether it is all there."""
        if self.problems:
            return f"broken from entry {self.problems[0].seq} on"
        if self.last == 0:
            return "empty"
        if self.known_until == self.last:
            return f"complete: {self.last} entries"
        if self.known_until:
            return f"complete up to entry {self.known_until}, consistent up to entry {self.last}"
        return f"consistent: {self.last} entries, completeness unknown"


async def find_log(records: Records, environment: str) -> Found:
    """Read all there is of an environment's log."""
    segments = {name: (await records.read(name))[0] for name in await records.names(SEGMENT)}
    head, _ = await records.read(HEAD)
    checkpoints, _ = await records.read(CHECKPOINTS)
    return Found(segments=segments, head=head, checkpoints=parse_checkpoints(checkpoints, environment))


def verify(found: Found, outside: Sequence[Signed] = (), signers: Path | None = None) -> Report:
    """Say what a log is worth.

    Args:
        outside: Checkpoints that were kept elsewhere.
        signers: The keys that count; None: signatures are not looked at.

    Raises:
        KeyUnusable: Signatures cannot be checked here.
    """
    work = _Work()
    work.read(found.segments)
    head = parse_head(found.head) if found.head else None
    work.take_head(head, is_there=bool(found.head))
    signed = work.check_signatures([*found.checkpoints, *outside], signers)
    trusted = [one for one in (*outside, *signed) if one not in work.bad]
    work.check_chain(trusted)
    work.check_checkpoints([*found.checkpoints, *outside])
    good = [one.checkpoint.seq for one in outside if one not in work.bad]
    covered = [one.checkpoint.seq for one in signed]
    return Report(
        first=min(work.entries, default=0),
        last=work.last,
        problems=tuple(sorted(work.problems, key=lambda one: one.seq)),
        known_until=max(good, default=0),
        signed_until=max(covered, default=0),
    )


@dataclass(kw_only=True)
class _Work:
    """One look at a log: entries by number, as they were first met."""

    entries: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    bad: list[Signed] = field(default_factory=list)
    last: int = 0

    def say(self, seq: int, what: str) -> None:
        self.problems.append(Problem(seq=seq, what=what))

    def read(self, segments: Mapping[str, bytes]) -> None:
        """Take the lines. What is no entry is passed over: the number that then is missing tells of it."""
        for name in sorted(segments):
            for line in segments[name].splitlines():
                entry = _entry_of(line)
                if entry is not None:
                    self._take(entry, line, name)

    def _take(self, entry: Mapping[str, Any], line: bytes, name: str) -> None:
        seq = entry["seq"]
        before = self.entries.get(seq)
        if before is not None:
            # A writer that was killed and the next one may both have added the same line.
            if before != entry:
                self.say(seq, f"entry {seq} is there in two versions")
            return
        if self.last > seq or segment_of(seq) != name:
            self.say(seq, f"entry {seq} is not at its place")
        self.entries[seq] = entry
        self.last = max(self.last, seq)
        if not _is_sound(entry, line):
            self.say(seq, f"entry {seq} was changed")

    def take_head(self, head: Head | None, *, is_there: bool) -> None:
        """Compare the log with the record of its last entry, whose line may not have come to the log yet."""
        if head is None:
            if is_there or self.entries:
                self.say(self.last or 1, f"`{HEAD}` is {'damaged' if is_there else 'missing'}")
            return
        entry = _entry_of(head.line.encode())
        if entry is not None and entry["seq"] == head.seq == self.last + 1:
            self._take(entry, head.line.encode(), segment_of(head.seq))
        if head.seq > self.last:
            self._say_missing(self.last + 1, head.seq)
        elif head.seq < self.last:
            self.say(head.seq + 1, f"`{HEAD}` was put back to entry {head.seq}")
        elif self.entries[head.seq]["hash"] != head.hash:
            self.say(head.seq, f"entry {head.seq} is another than `{HEAD}` says")

    def check_chain(self, trusted: Sequence[Signed]) -> None:
        """Look whether every entry is there and follows the one before; the oldest may have been put away."""
        if not self.entries:
            return
        first = min(self.entries)
        known = {one.checkpoint.seq: one.checkpoint.hash for one in trusted}
        before = GENESIS if first == 1 else known.get(first - 1, "")
        if not before:
            self._say_missing(1, first - 1)
        missing = [seq for seq in range(first, self.last + 1) if seq not in self.entries]
        for seq in missing:
            self.say(seq, f"entry {seq} is missing")
        for seq in range(first, self.last + 1):
            entry = self.entries.get(seq)
            if entry is None:
                before = ""
                continue
            if before and entry["prev"] != before:
                self.say(seq, f"entry {seq} does not follow entry {seq - 1}")
            before = entry["hash"]

    def check_signatures(self, checkpoints: Sequence[Signed], signers: Path | None) -> list[Signed]:
        """Return the checkpoints whose signature counts."""
        if signers is None:
            return []
        good = []
        for one in checkpoints:
            if not one.signature:
                continue
            try:
                one.signer(signers)
            except SignatureBad as error:
                self.bad.append(one)
                seq = one.checkpoint.seq
                self.say(seq, f"the checkpoint of entry {seq} is not to be trusted: {error.why}")
            else:
                good.append(one)
        return good

    def check_checkpoints(self, checkpoints: Sequence[Signed]) -> None:
        for one in dict.fromkeys(checkpoints):
            seq = one.checkpoint.seq
            if seq > self.last:
                self._say_missing(self.last + 1, seq)
            elif seq in self.entries and self.entries[seq]["hash"] != one.checkpoint.hash:
                self.say(self._first_other(checkpoints), f"entry {seq} is another than its checkpoint says")

    def _first_other(self, checkpoints: Sequence[Signed]) -> int:
        """The first entry that may have been written anew: after the last checkpoint that still fits."""
        fits = [
            one.checkpoint.seq
            for one in checkpoints
            if self.entries.get(one.checkpoint.seq, {}).get("hash") == one.checkpoint.hash
        ]
        return max(fits, default=0) + 1

    def _say_missing(self, first: int, last: int) -> None:
        what = f"entries {first} to {last} are missing" if last > first else f"entry {first} is missing"
        if Problem(seq=first, what=what) not in self.problems:
            self.say(first, what)


def _entry_of(line: bytes) -> Mapping[str, Any] | None:
    """Return an entry as a table; None for what is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_entry = isinstance(entry, dict) and type(entry.get("seq")) is int and entry["seq"] > 0
    return entry if is_entry and {"prev", "hash"} <= entry.keys() else None


def _is_sound(entry: Mapping[str, Any], line: bytes) -> bool:
    """Whether a line is written in the one way it can be, and its hash is that of the rest."""
    plain = {key: value for key, value in entry.items() if key != "hash"}
    try:
        return rfc8785.dumps(dict(entry)) == line and hash_of(plain) == entry["hash"]
    except rfc8785.CanonicalizationError:
        return False
