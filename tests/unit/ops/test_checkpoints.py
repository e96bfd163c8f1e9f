"""Checkpoints: signed, kept in a folder elsewhere and in git notes that reach a remote."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.deploy.state import LocalState
from pipeline.ops.audit import Act, AuditLog
from pipeline.ops.checkpoints import (
    Checkpoint,
    CheckpointLost,
    FolderPlace,
    NotesPlace,
    Signed,
    make_checkpoint,
)
from pipeline.ops.verify import Report, find_log, verify
from pipeline.sshkeys import SignatureBad
from tests.unit.deploy.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

ACT = Act(action="deploy", environment="production", actor="ann")


def git(root: Path, *args: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    argv = ["git", "-C", str(root), *own, *args]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    folder = tmp_path / "keys"
    folder.mkdir()
    return Keys(folder)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare repository with one commit."""
    bare, work = tmp_path / "remote.git", tmp_path / "seed"
    bare.mkdir()
    work.mkdir()
    git(bare, "init", "-q", "--bare")
    git(work, "init", "-q")
    git(work, "commit", "-q", "--allow-empty", "-m", "first")
    git(work, "push", "-q", str(bare), "HEAD:main")
    return bare


def clone(remote: Path, name: str) -> Path:
    git(remote.parent, "clone", "-q", str(remote), name)
    return remote.parent / name


def signed(seq: int, environment: str = "production") -> Signed:
    return Signed(
        checkpoint=Checkpoint(environment=environment, seq=seq, hash="a" * 64, at="2026-11-24T12:00:00Z")
    )


@pytest.mark.anyio
async def test_a_signed_checkpoint_elsewhere_makes_the_log_complete(tmp_path: Path, keys: Keys) -> None:
    state, place = LocalState(tmp_path / "state"), FolderPlace(folder=tmp_path / "elsewhere")
    log = AuditLog(records=state)
    key = keys.make("ops@example.org")
    assert await make_checkpoint(log, "production", key) is None
    await log.add(ACT)
    made = await make_checkpoint(log, "production", key)
    assert made is not None
    place.put(made)

    report = verify(await find_log(state, "production"), place.all("production"), keys.signers)

    assert report == Report(first=1, last=1, known_until=1, signed_until=1)
    assert made.signer(keys.signers) == "ops@example.org"
    assert place.all("staging") == ()


@pytest.mark.anyio
async def test_a_checkpoint_that_nobody_signed_is_not_trusted(tmp_path: Path, keys: Keys) -> None:
    """Its number was changed, or its key counts no more: the log is told to be broken, not complete."""
    state = LocalState(tmp_path / "state")
    log = AuditLog(records=state)
    keys.make("ops@example.org")
    await log.add(ACT)
    await log.add(ACT)
    forged = await make_checkpoint(log, "production", keys.make("eve@example.org", counts=False))
    assert forged is not None
    with pytest.raises(SignatureBad):
        forged.signer(keys.signers)

    report = verify(await find_log(state, "production"), [forged], keys.signers)

    assert report.known_until == report.signed_until == 0
    assert report.problems[0].what == (
        "the checkpoint of entry 2 is not to be trusted: its key is not among the allowed signers"
    )


def test_notes_reach_the_remote_from_several_clones(remote: Path) -> None:
    """Two that put a checkpoint on the same commit at once lose none."""
    ann = NotesPlace(root=clone(remote, "ann"), remote="origin")
    bob = NotesPlace(root=clone(remote, "bob"), remote="origin")
    ann.put(signed(1))
    bob.put(signed(2))
    ann.put(signed(3))
    ann.put(signed(9, "staging"))

    seen = NotesPlace(root=clone(remote, "carl"), remote="origin").all("production")

    assert sorted(one.checkpoint.seq for one in seen) == [1, 2, 3]
    assert seen[0] == signed(seen[0].checkpoint.seq)


def test_other_peoples_notes_are_passed_over(remote: Path) -> None:
    root = clone(remote, "ann")
    git(root, "notes", "--ref", "refs/notes/pipeline-audit", "add", "-m", "hello {")
    place = NotesPlace(root=root)
    place.put(signed(1))

    assert place.all("production") == (signed(1),)


def test_a_remote_that_takes_no_notes_is_told(remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no notes here >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    place = NotesPlace(root=clone(remote, "ann"), remote="origin")

    with pytest.raises(CheckpointLost) as caught:
        place.put(signed(1))

    assert str(caught.value).startswith("cannot keep the audit checkpoint at remote `origin`: ")
    assert place.all("production") == (signed(1),)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(CheckpointLost, match="cannot keep the audit checkpoint at"):
        FolderPlace(folder=tmp_path / "file" / "folder").put(signed(1))


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b'{"checkpoint":{}}', b'{"checkpoint":{"environment":"production"},"signature":""}'],
)
def test_a_line_that_is_no_checkpoint_is_passed_over(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "production.checkpoints.jsonl"
    place = FolderPlace(folder=tmp_path)
    file.write_bytes(line + b"\n")
    place.put(signed(1))
    place.put(replace(signed(1)))

    assert place.all("production") == (signed(1),)
