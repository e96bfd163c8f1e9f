"""The audit log: written by several, killed at any moment, and what becomes of it in wrong hands."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.deploy.state import LocalState
from pipeline.errors import PipelineError
from pipeline.ops.audit import (
    GENESIS,
    HEAD,
    SEGMENT_ENTRIES,
    Act,
    AuditBroken,
    AuditLog,
    Entry,
    Head,
    segment_of,
)
from pipeline.ops.checkpoints import Checkpoint, Signed
from pipeline.ops.verify import Found, Report, find_log, verify

if TYPE_CHECKING:
    from pathlib import Path

ACT = Act(
    action="deploy",
    environment="production",
    actor="ann@example.org",
    subject="r-1",
    decision="allowed",
    detail={"note": "grün ✓"},
)


class Killed(Exception):
    """The writer was killed."""


@dataclass
class KilledAt:
    """Records that end their writer before, or just after, its n-th change."""

    records: LocalState
    at: int
    changes: int = field(default=0, init=False)

    async def read(self, name: str) -> tuple[bytes, str]:
        return await self.records.read(name)

    async def names(self, prefix: str) -> tuple[str, ...]:
        return await self.records.names(prefix)

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        self._count()
        result = await self.records.write(name, data, version=version)
        self._count()
        return result

    async def append(self, name: str, line: bytes) -> None:
        self._count()
        await self.records.append(name, line)
        self._count()

    def _count(self) -> None:
        self.changes += 1
        if self.changes == self.at:
            raise Killed


def chain(count: int, *, first: int = 1, prev: str = GENESIS) -> list[Entry]:
    """Return that many entries, each after the other."""
    entries = []
    for seq in range(first, first + count):
        act = replace(ACT, subject=f"r-{seq}")
        entry = Entry(seq=seq, at=f"2026-11-24T12:00:{seq % 60:02d}.000Z", act=act, prev=prev)
        entries.append(entry)
        prev = entry.hash
    return entries


def lines_of(entries: list[Entry]) -> list[bytes]:
    return [entry.line() for entry in entries]


def found_of(lines: list[bytes], head: Head, checkpoints: tuple[Signed, ...] = ()) -> Found:
    """Return a log of one segment."""
    data = b"".join(line + b"\n" for line in lines)
    record = {"seq": head.seq, "hash": head.hash, "line": head.line}
    return Found(segments={segment_of(1): data}, head=json.dumps(record).encode(), checkpoints=checkpoints)


def head_of(entry: Entry) -> Head:
    return Head(seq=entry.seq, hash=entry.hash, line=entry.line().decode())


def checkpoint_of(entry: Entry) -> Signed:
    return Signed(
        checkpoint=Checkpoint(
            environment="production", seq=entry.seq, hash=entry.hash, at="2026-11-24T12:00:00Z"
        )
    )


def problems(report: Report) -> list[tuple[int, str]]:
    return [(one.seq, one.what) for one in report.problems]


@pytest.mark.anyio
async def test_entries_follow_each_other_and_are_canonical(tmp_path: Path) -> None:
    """A line can be written in one way only, so that its hash can be made again by anybody."""
    state = LocalState(tmp_path)
    clock = itertools.count(1795521600)
    log = AuditLog(records=state, clock=lambda: float(next(clock)))

    first = await log.add(ACT)
    second = await log.add(replace(ACT, decision="refused"))

    data, _ = await state.read("audit/log-000001.jsonl")
    assert data == first.line() + b"\n" + second.line() + b"\n"
    assert (first.prev, second.prev, second.at) == (GENESIS, first.hash, "2026-11-24T12:00:01.000Z")
    assert rfc8785.dumps(json.loads(first.line())) == first.line()
    assert verify(await find_log(state, "production")) == Report(first=1, last=2)


@pytest.mark.anyio
async def test_several_writers_make_one_chain(tmp_path: Path) -> None:
    """Each entry is there once, and every writer's own are in its order."""
    state = LocalState(tmp_path)

    async def write(name: str) -> None:
        log = AuditLog(records=LocalState(tmp_path))
        for number in range(8):
            await log.add(replace(ACT, actor=name, subject=str(number)))

    async with anyio.create_task_group() as group:
        for name in ("ann", "bob", "carl"):
            group.start_soon(anyio.to_thread.run_sync, anyio.run, write, name)

    found = await find_log(state, "production")
    entries = {e["seq"]: e for e in map(json.loads, found.segments[segment_of(1)].splitlines())}
    assert verify(found) == Report(first=1, last=24)
    for name in ("ann", "bob", "carl"):
        own = [entries[seq]["subject"] for seq in sorted(entries) if entries[seq]["actor"] == name]
        assert own == [str(number) for number in range(8)]


@pytest.mark.anyio
@pytest.mark.parametrize("at", range(1, 5))
async def test_a_writer_killed_at_any_moment_leaves_no_gap(tmp_path: Path, at: int) -> None:
    """The next writer adds the line that was promised; the log is whole in between too."""
    state = LocalState(tmp_path)
    await AuditLog(records=state).add(ACT)
    with pytest.raises(Killed):
        await AuditLog(records=KilledAt(state, at)).add(replace(ACT, subject="r-2"))
    between = verify(await find_log(state, "production"))

    await AuditLog(records=state).add(replace(ACT, subject="r-3"))

    after = verify(await find_log(state, "production"))
    assert (between.problems, after.problems) == ((), ())
    assert (between.last, after.last) == ((1, 2) if at == 1 else (2, 3))


@pytest.mark.anyio
async def test_after_a_thousand_entries_the_next_segment_goes_on_with_the_chain(tmp_path: Path) -> None:
    state = LocalState(tmp_path)
    entries = chain(SEGMENT_ENTRIES)
    for line in lines_of(entries[:-1]):
        (tmp_path / "audit").mkdir(exist_ok=True)
        with open(tmp_path / segment_of(1), "ab") as file:
            file.write(line + b"\n")
    head = head_of(entries[-1])
    record = {"seq": head.seq, "hash": head.hash, "line": head.line}
    await state.write(HEAD, json.dumps(record).encode(), version="")

    await AuditLog(records=state).add(ACT)

    found = await find_log(state, "production")
    assert sorted(found.segments) == ["audit/log-000001.jsonl", "audit/log-000002.jsonl"]
    assert verify(found) == Report(first=1, last=SEGMENT_ENTRIES + 1)


@pytest.mark.anyio
async def test_a_segment_may_be_put_away_where_a_checkpoint_knows_its_end(tmp_path: Path) -> None:
    old, new = chain(SEGMENT_ENTRIES), []
    new = chain(2, first=SEGMENT_ENTRIES + 1, prev=old[-1].hash)
    left = found_of(lines_of(new), head_of(new[-1]))
    left = replace(left, segments={segment_of(SEGMENT_ENTRIES + 1): left.segments[segment_of(1)]})

    unknown = verify(left)
    known = verify(left, outside=[checkpoint_of(old[-1]), checkpoint_of(new[-1])])

    assert problems(unknown) == [(1, "entries 1 to 1000 are missing")]
    assert known == Report(first=1001, last=1002, known_until=1002)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("head", "said"),
    [(b"", "there are entries, and no `audit/head.json`"), (b"{", "`audit/head.json` is damaged")],
)
async def test_nothing_is_added_to_a_log_without_its_head(tmp_path: Path, head: bytes, said: str) -> None:
    state = LocalState(tmp_path)
    await AuditLog(records=state).add(ACT)
    (tmp_path / HEAD).write_bytes(head)

    with pytest.raises(AuditBroken) as caught:
        await AuditLog(records=state).add(ACT)

    assert str(caught.value) == f"cannot add to the audit log: {said}"


@pytest.mark.anyio
async def test_records_that_cannot_be_written_are_told_and_not_tried_for_ever(tmp_path: Path) -> None:
    class Full(KilledAt):
        async def write(self, name: str, data: bytes, *, version: str) -> str:
            raise PipelineError("cannot write: no space left")

    with pytest.raises(PipelineError, match="no space left"):
        await AuditLog(records=Full(LocalState(tmp_path), 0)).add(ACT)


def forge(line: bytes, **values: Any) -> bytes:
    """Change a line, and leave its hash."""
    return rfc8785.dumps({**json.loads(line), **values})


ENTRIES = chain(6)
LINES = lines_of(ENTRIES)
LAST = head_of(ENTRIES[-1])
CASES: dict[str, tuple[list[bytes], Head, list[tuple[int, str]]]] = {
    "changed": (
        [*LINES[:2], forge(LINES[2], actor="eve"), *LINES[3:]],
        LAST,
        [(3, "entry 3 was changed")],
    ),
    "written in another way": (
        [*LINES[:2], LINES[2].replace(b":", b": ", 1), *LINES[3:]],
        LAST,
        [(3, "entry 3 was changed")],
    ),
    "a key twice": (
        [*LINES[:2], LINES[2].replace(b"{", b'{"actor":"eve",', 1), *LINES[3:]],
        LAST,
        [(3, "entry 3 was changed")],
    ),
    "dropped": ([*LINES[:2], *LINES[3:]], LAST, [(3, "entry 3 is missing")]),
    "made unreadable": ([*LINES[:2], b"{", *LINES[3:]], LAST, [(3, "entry 3 is missing")]),
    "swapped": (
        [*LINES[:2], LINES[3], LINES[2], *LINES[4:]],
        LAST,
        [(3, "entry 3 is not at its place")],
    ),
    "put in": (
        [*LINES[:3], forge(LINES[2], actor="eve"), *LINES[3:]],
        LAST,
        [(3, "entry 3 is there in two versions")],
    ),
    "cut off": (LINES[:4], LAST, [(5, "entries 5 to 6 are missing")]),
    "put back but for the head": (LINES[:3], LAST, [(4, "entries 4 to 6 are missing")]),
    "head put back": (LINES, head_of(ENTRIES[2]), [(4, "`audit/head.json` was put back to entry 3")]),
    "from the start": (LINES[2:], LAST, [(1, "entries 1 to 2 are missing")]),
}


@pytest.mark.parametrize(("lines", "head", "said"), CASES.values(), ids=CASES.keys())
def test_what_was_done_to_the_log_is_told_with_the_first_entry(
    lines: list[bytes], head: Head, said: list[tuple[int, str]]
) -> None:
    report = verify(found_of(lines, head))

    assert problems(report) == said
    assert report.verdict == f"broken from entry {said[0][0]} on"


def test_a_chain_made_anew_is_told_by_what_is_known_outside() -> None:
    """Who can write the records can make a sound log of other acts, but no checkpoint elsewhere."""
    begin = ENTRIES[:2]
    other = Entry(seq=3, at=ENTRIES[2].at, act=replace(ACT, actor="eve"), prev=begin[-1].hash)
    forged = [*begin, other, *chain(3, first=4, prev=other.hash)]
    found = found_of(lines_of(forged), head_of(forged[-1]))

    alone = verify(found)
    known = verify(found, outside=[checkpoint_of(ENTRIES[1]), checkpoint_of(ENTRIES[4])])

    assert alone.verdict == "consistent: 6 entries, completeness unknown"
    assert problems(known) == [(3, "entry 5 is another than its checkpoint says")]


def test_a_log_put_back_whole_is_told_by_what_is_known_outside() -> None:
    old = found_of(LINES[:3], head_of(ENTRIES[2]))

    alone = verify(old)
    known = verify(old, outside=[checkpoint_of(ENTRIES[5])])

    assert alone.verdict == "consistent: 3 entries, completeness unknown"
    assert problems(known) == [(4, "entries 4 to 6 are missing")]


def test_a_checkpoint_outside_says_how_far_the_log_is_complete() -> None:
    found = found_of(LINES, LAST)

    verdicts = [verify(found, outside=[checkpoint_of(ENTRIES[n])]).verdict for n in (5, 3)]

    assert verdicts == [
        "complete: 6 entries",
        "complete up to entry 4, consistent up to entry 6",
    ]
    assert verify(Found(segments={}, head=b"")).verdict == "empty"


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_change_of_the_lines_goes_unseen(data: st.DataObject) -> None:
    """Lines dropped, swapped, changed in one byte, doubled: either it is the same log, or it is told.

    With a checkpoint outside, a new head does not help.
    """
    count = data.draw(st.integers(1, 8))
    entries = chain(count)
    lines = lines_of(entries)
    place = data.draw(st.integers(0, count - 1))
    what = data.draw(st.sampled_from(["drop", "byte", "swap", "cut", "double"]))
    changed = list(lines)
    if what == "drop":
        del changed[place]
    elif what == "cut":
        del changed[place:]
    elif what == "swap":
        other = data.draw(st.integers(0, count - 1))
        changed[place], changed[other] = changed[other], changed[place]
    elif what == "double":
        changed.insert(data.draw(st.integers(0, count)), changed[place])
    else:
        at = data.draw(st.integers(0, len(lines[place]) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda new: new != lines[place][at]))
        changed[place] = lines[place][:at] + bytes([byte]) + lines[place][at + 1 :]
    left = [entry for entry in entries if entry.line() in changed]
    honest = data.draw(st.booleans()) or not left
    head = head_of(entries[-1] if honest else left[-1])

    report = verify(found_of(changed, head), outside=[checkpoint_of(entries[-1])])

    # A line that is there twice changes nothing; nor does the loss of the last one: the head holds it.
    first_met = list(dict.fromkeys(line for line in changed if line in lines))
    is_same = first_met == lines or (honest and first_met == lines[:-1])
    assert report.problems or is_same
    assert not (report.problems and changed == lines)
