"""Checkpoints of the audit log: how far it had come, signed, and kept where who writes the log cannot.

A chain of hashes alone shows no truncation, nor that all of it was written anew: a checkpoint elsewhere does.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import rfc8785

from pipeline.errors import PipelineError
from pipeline.ops.audit import CHECKPOINTS
from pipeline.sshkeys import check, sign
from pipeline.text import clean

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.ops.audit import AuditLog

NAMESPACE: Final = "pipeline-audit"
NOTES: Final = "refs/notes/pipeline-audit"
THEIRS: Final = "refs/notes/pipeline-audit-theirs"
GIT_LIMIT_S: Final = 60.0
PUSHES: Final = 5


class CheckpointLost(PipelineError):
    """A checkpoint could not be brought where it belongs. The log itself is whole."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"cannot keep the audit checkpoint at {place}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The log of `environment` had `seq` entries, the last with `hash`, at that time (RFC 3339)."""

    environment: str
    seq: int
    hash: str
    at: str

    def text(self) -> bytes:
        """The bytes that are signed: canonical JSON."""
        return rfc8785.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A checkpoint and its signature; "" where nobody signs."""

    checkpoint: Checkpoint
    signature: str = ""

    def line(self) -> bytes:
        """Both as one line, without a newline."""
        return rfc8785.dumps({"checkpoint": asdict(self.checkpoint), "signature": self.signature})

    def signer(self, signers: Path) -> str:
        """Return who signed it.

        Raises:
            SignatureBad: Nobody whose key counted at that time.
            KeyUnusable: That cannot be checked here.
        """
        at = datetime.fromisoformat(self.checkpoint.at).astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
        text = self.checkpoint.text()
        return check(text, self.signature, signers=signers, namespace=NAMESPACE, at=at)


class Place(Protocol):
    """Somewhere outside the environment."""

    def put(self, signed: Signed) -> None:
        """Keep a checkpoint.

        Raises:
            CheckpointLost: It cannot be kept there.
        """

    def all(self, environment: str) -> tuple[Signed, ...]:
        """Return the checkpoints of an environment's log that are there."""


async def make_checkpoint(log: AuditLog, environment: str, key: Path | None) -> Signed | None:
    """Say how far the log has come, and keep that beside it; None while it is empty.

    Raises:
        KeyUnusable: The key cannot sign.
    """
    head, _ = await log.head()
    if head.seq == 0:
        return None
    at = datetime.fromtimestamp(log.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    checkpoint = Checkpoint(environment=environment, seq=head.seq, hash=head.hash, at=at)
    signature = sign(checkpoint.text(), key=key, namespace=NAMESPACE) if key is not None else ""
    signed = Signed(checkpoint=checkpoint, signature=signature)
    await log.records.append(CHECKPOINTS, signed.line() + b"\n")
    return signed


def parse_checkpoints(data: bytes, environment: str) -> tuple[Signed, ...]:
    """Read the lines of an environment's checkpoints; what is none, or another's, is passed over."""
    found = {}
    for line in data.splitlines():
        try:
            plain = json.loads(line)
            checkpoint = Checkpoint(**plain["checkpoint"])
            datetime.fromisoformat(checkpoint.at)
            signed = Signed(checkpoint=checkpoint, signature=str(plain["signature"]))
            if checkpoint.environment == environment and type(checkpoint.seq) is int:
                found[line] = signed
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a note of somebody else, or a line that was cut off
    return tuple(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPlace:
    """A folder that lies elsewhere: of another machine, of a medium that is written once."""

    folder: Path

    def put(self, signed: Signed) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._file(signed.checkpoint.environment), "ab") as file:
                file.write(signed.line() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointLost(f"`{self.folder}`", (error.strerror or str(error)).lower()) from error

    def all(self, environment: str) -> tuple[Signed, ...]:
        try:
            return parse_checkpoints(self._file(environment).read_bytes(), environment)
        except FileNotFoundError:
            return ()

    def _file(self, environment: str) -> Path:
        return self.folder / f"{environment}.checkpoints.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotesPlace:
    """Notes of a git repository, on the commit that was deployed; pushed to `remote` where one is named."""

    root: Path
    commit: str = "HEAD"
    remote: str = ""

    def put(self, signed: Signed) -> None:
        self._git("notes", "--ref", NOTES, "append", "-m", signed.line().decode(), self.commit)
        if not self.remote:
            return
        why = ""
        for _ in range(PUSHES):
            self._take_theirs()
            try:
                self._git("push", "--quiet", self.remote, f"{NOTES}:{NOTES}")
            except CheckpointLost as error:
                why = str(error)  # somebody else was faster, or the remote takes none
                continue
            return
        raise CheckpointLost(f"remote `{self.remote}`", why.rpartition(": ")[2])

    def all(self, environment: str) -> tuple[Signed, ...]:
        if self.remote:
            self._take_theirs()
        listed = self._git("notes", "--ref", NOTES, "list").decode().split()[::2]
        data = b"\n".join(self._git("cat-file", "blob", blob) for blob in listed)
        return parse_checkpoints(data, environment)

    def _take_theirs(self) -> None:
        """Lay the notes of the remote beside ours; notes on one commit are joined line by line."""
        theirs = self._git("ls-remote", self.remote, NOTES)
        if not theirs.strip():
            return
        self._git("fetch", "--quiet", self.remote, f"+{NOTES}:{THEIRS}")
        self._git("notes", "--ref", NOTES, "merge", "--quiet", "-s", "cat_sort_uniq", THEIRS)

    def _git(self, *args: str) -> bytes:
        own = ["-c", "user.name=pipeline", "-c", "user.email=pipeline@localhost"]
        argv = ["git", "-C", os.fspath(self.root), *own, *args]
        environ = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        place = f"the notes of `{self.root.name}`"
        try:
            done = subprocess.run(argv, capture_output=True, timeout=GIT_LIMIT_S, env=environ, check=False)
        except FileNotFoundError as error:
            raise CheckpointLost(place, "there is no `git` on this machine") from error
        except subprocess.TimeoutExpired as error:
            raise CheckpointLost(place, f"git did nothing within {GIT_LIMIT_S:.0f} s") from error
        if done.returncode != 0:
            lines = clean(done.stderr.decode(errors="replace")).strip().splitlines()
            raise CheckpointLost(place, lines[0] if lines else f"git ended with {done.returncode}")
        return done.stdout
