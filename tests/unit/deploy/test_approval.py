"""Approvals are signed by ssh keys that count, kept, and worth nothing once anything in them is changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipeline.deploy.approval import Approval, ApprovalUnsound, Given, Record, give_approval, read_approvals
from pipeline.deploy.records import RecordUnreadable, read_record, write_record
from pipeline.deploy.state import LocalState
from pipeline.sshkeys import KeyUnusable, SignatureBad, sign
from tests.unit.deploy.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

APPROVAL = Approval(
    environment="production",
    release="r-1",
    images={"api": "sha256:" + "1" * 64},
    plan="sha256:plan",
    approver="bob@example.org",
    given=1000.0,
    expires=2000.5,
    note="looks good ✓",
)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    folder = tmp_path / "keys"
    folder.mkdir()
    return Keys(folder)


@pytest.fixture
def state(tmp_path: Path) -> LocalState:
    return LocalState(tmp_path / "state")


@pytest.mark.anyio
async def test_an_approval_is_kept_with_the_release_it_is_for(keys: Keys, state: LocalState) -> None:
    """One given again takes the place of the former; that of another release is not among them."""
    bob = keys.make("bob@example.org")
    first = await give_approval(state, APPROVAL, key=bob, signers=keys.signers)

    again = await give_approval(state, APPROVAL, key=bob, signers=keys.signers)

    assert again == first
    assert await read_approvals(state, "r-1", signers=keys.signers) == (Given(approval=APPROVAL),)
    assert await read_approvals(state, "r-2", signers=keys.signers) == ()


@pytest.mark.anyio
async def test_nobody_approves_by_another_name(keys: Keys, state: LocalState) -> None:
    keys.make("bob@example.org")
    eve = keys.make("eve@example.org")

    with pytest.raises(
        ApprovalUnsound, match=r"cannot approve as `bob@example\.org`: the key is that of `eve"
    ):
        await give_approval(state, APPROVAL, key=eve, signers=keys.signers)

    assert await read_approvals(state, "r-1", signers=keys.signers) == ()


@pytest.mark.anyio
async def test_a_key_that_does_not_count_approves_nothing(keys: Keys, state: LocalState) -> None:
    keys.make("bob@example.org")
    eve = keys.make("eve@example.org", counts=False)

    with pytest.raises(SignatureBad, match="its key is not among the allowed signers"):
        await give_approval(state, APPROVAL, key=eve, signers=keys.signers)


@pytest.mark.anyio
async def test_without_a_file_of_signers_nothing_counts(keys: Keys, state: LocalState) -> None:
    bob = keys.make("bob@example.org", counts=False)

    with pytest.raises(KeyUnusable, match="nothing says whose signatures count"):
        await give_approval(state, APPROVAL, key=bob, signers=keys.signers)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "value"),
    [("plan", "sha256:other"), ("expires", 9000000000), ("approver", "ann@example.org"), ("note", "fine")],
)
async def test_a_changed_approval_does_not_count(
    keys: Keys, state: LocalState, key: str, value: object
) -> None:
    """Whoever can write the environment's records cannot approve by that."""
    bob = keys.make("bob@example.org")
    name = await give_approval(state, APPROVAL, key=bob, signers=keys.signers)
    data, version = await state.read(name)
    record = read_record(data, Record, name)
    text = json.dumps({**json.loads(record.approval), key: value}, sort_keys=True, separators=(",", ":"))
    changed = Record(approval=text.replace(r"\u2713", "✓"), signature=record.signature)
    await state.write(name, write_record(changed), version=version)

    (found,) = await read_approvals(state, "r-1", signers=keys.signers)

    assert getattr(found.approval, key) == value
    assert found.flaw.startswith("its signature does not count: ")


@pytest.mark.anyio
async def test_an_approval_signed_for_something_else_does_not_count(keys: Keys, state: LocalState) -> None:
    """The same statement, signed by somebody else who counts, is not that of who it names."""
    bob, eve = keys.make("bob@example.org"), keys.make("eve@example.org")
    name = await give_approval(state, APPROVAL, key=bob, signers=keys.signers)
    _, version = await state.read(name)
    forged = {
        "eve": sign(APPROVAL.text(), key=eve, namespace="pipeline-approval"),
        "file": sign(APPROVAL.text(), key=bob, namespace="file"),
    }
    flaws = {}
    for what, signature in forged.items():
        record = Record(approval=APPROVAL.text().decode(), signature=signature)
        version = await state.write(name, write_record(record), version=version)
        (found,) = await read_approvals(state, "r-1", signers=keys.signers)
        flaws[what] = found.flaw

    assert flaws["eve"] == "it is signed by `eve@example.org`"
    assert flaws["file"].startswith("its signature does not count: ")


@pytest.mark.anyio
async def test_a_damaged_record_is_an_error_and_no_approval(keys: Keys, state: LocalState) -> None:
    bob = keys.make("bob@example.org")
    name = await give_approval(state, APPROVAL, key=bob, signers=keys.signers)
    _, version = await state.read(name)
    await state.write(name, b"{}", version=version)

    with pytest.raises(RecordUnreadable, match="it is no Record"):
        await read_approvals(state, "r-1", signers=keys.signers)
