"""The audit log: who did what to which environment, on which evidence. Each entry names the hash of the last.

Entries are lines of canonical JSON (RFC 8785), in segments that lie with the environment's records. `verify`
reads them; `checkpoints` makes it known outside how far the log has come.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Mapping  # noqa: TC003 - read at run time when an entry is read
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import anyio
import rfc8785

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD: Final = "audit/head.json"
CHECKPOINTS: Final = "audit/checkpoints.jsonl"
SEGMENT: Final = "audit/log-"
SEGMENT_ENTRIES: Final = 1000
GENESIS: Final = "0" * 64
TRIES: Final = 100

Auth: TypeAlias = Literal["claimed", "token", "key"]
"""How it is known who it was: said so, or by a CI's identity token, or by an ssh key."""


class Records(Protocol):
    """What keeps an environment's records, see `deploy.state`."""

    async def read(self, name: str) -> tuple[bytes, str]:
        """Return a document and its version; (b"", "") when there is none."""

    async def write(self, name: str, data: bytes, *, version: str) -> str:
        """Replace the document of that version; a PipelineError when it has another by now."""

    async def append(self, name: str, line: bytes) -> None:
        """Add one line, with its newline, durably; several writers never mix."""

    async def names(self, prefix: str) -> tuple[str, ...]:
        """Return the names that begin with `prefix`, sorted."""


class AuditBroken(PipelineError):
    """The log cannot be added to as it is: something of it is gone or damaged."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot add to the audit log: {what}")
        self.hint = "`pipeline audit verify` says what is wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody did or was refused. `inputs` is the digest of what was decided on."""

    action: str  # "deploy", "rollback", "approve", "break glass", "break lock"
    environment: str
    actor: str
    auth: Auth = "claimed"
    subject: str = ""  # a release id or a digest
    decision: str = ""  # "allowed", "refused", or how it ended
    inputs: str = ""
    run: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: its number from 1, when (RFC 3339), what, and the hash of the entry before."""

    seq: int
    at: str
    act: Act
    prev: str

    @property
    def hash(self) -> str:
        """SHA-256 of the entry, which holds `prev`: 64 hexadecimal digits."""
        return hash_of(self._plain())

    def line(self) -> bytes:
        """The entry as a line of the log, with its hash, without a newline."""
        return rfc8785.dumps({**self._plain(), "hash": self.hash})

    def _plain(self) -> dict[str, Any]:
        act = {**asdict(self.act), "detail": dict(self.act.detail)}
        return {"seq": self.seq, "at": self.at, "prev": self.prev, **act}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last entry. It is written before its line is added to the log: that keeps writers in order."""

    seq: int = 0
    hash: str = GENESIS
    line: str = ""


def hash_of(plain: Mapping[str, Any]) -> str:
    """Hash an entry, given without its own hash."""
    return hashlib.sha256(rfc8785.dumps(dict(plain))).hexdigest()


def segment_of(seq: int) -> str:
    """The record an entry's line is kept in: one for each thousand."""
    return f"{SEGMENT}{(seq - 1) // SEGMENT_ENTRIES + 1:06d}.jsonl"


def parse_head(data: bytes) -> Head | None:
    """Read the record of the last entry; None when it cannot be."""
    try:
        plain = json.loads(data)
        return Head(seq=int(plain["seq"]), hash=str(plain["hash"]), line=str(plain["line"]))
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, kw_only=True)
class AuditLog:
    """The log of one environment. Several writers may be at it; a writer that is killed leaves no gap."""

    records: Records
    clock: Callable[[], float] = time.time

    async def add(self, act: Act) -> Entry:
        """Add an entry durably, and return it.

        Raises:
            AuditBroken: The log is not whole, or others add to it all the time.
            PipelineError: The records cannot be written.
        """
        for _ in range(TRIES):
            head, version = await self.head()
            await self._settle(head)
            at = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds")
            entry = Entry(seq=head.seq + 1, at=at.replace("+00:00", "Z"), act=act, prev=head.hash)
            fresh = Head(seq=entry.seq, hash=entry.hash, line=entry.line().decode())
            try:
                await self.records.write(HEAD, rfc8785.dumps(asdict(fresh)) + b"\n", version=version)
            except PipelineError:
                if (await self.records.read(HEAD))[1] == version:
                    raise
                await anyio.sleep(random.uniform(0, 0.02))  # noqa: S311 - somebody else was first
                continue
            await self.records.append(segment_of(entry.seq), entry.line() + b"\n")
            return entry
        raise AuditBroken(f"others were faster {TRIES} times")

    async def head(self) -> tuple[Head, str]:
        """Return the last entry's record and its version.

        Raises:
            AuditBroken: It is gone, though there is a log, or it is damaged.
        """
        data, version = await self.records.read(HEAD)
        if not data and await self.records.names(SEGMENT):
            # Somebody may just have begun the log: the head is written before the first line.
            data, version = await self.records.read(HEAD)
            if not data:
                raise AuditBroken(f"there are entries, and no `{HEAD}`")
        if not data:
            return Head(), version
        head = parse_head(data)
        if head is None:
            raise AuditBroken(f"`{HEAD}` is damaged")
        return head, version

    async def _settle(self, head: Head) -> None:
        """Add the last entry's line where its writer was killed before it could; twice is as good as once."""
        if head.seq == 0:
            return
        name = segment_of(head.seq)
        data, _ = await self.records.read(name)
        if head.line.encode() not in data.splitlines()[-2 * TRIES :]:
            await self.records.append(name, head.line.encode() + b"\n")
