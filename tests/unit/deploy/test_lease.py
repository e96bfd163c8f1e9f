"""Leases: who may take one, when it ends, and what becomes of a holder that lost it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from pipeline.deploy.lease import NAME, Holder, Lease, Lock, LockHeld, LockLost, decide_take
from pipeline.deploy.records import read_record, write_record
from pipeline.deploy.state import LocalState

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

ANN = Holder(actor="ann", run="run-1", host="elsewhere", boot="b", process=7, born="1")
BOB = replace(ANN, actor="bob", run="run-2")
HELD = Lease(environment="production", fence=4, ttl_s=60, holder=ANN, taken=1000, renewed=1100, step="bake")


def test_a_free_lease_can_be_taken() -> None:
    """The number grows."""
    taken = decide_take(replace(HELD, holder=None), BOB, 30, 2000, gone=False)

    assert taken == Lease(
        environment="production", fence=5, ttl_s=30, holder=BOB, taken=2000, renewed=2000, step="lock"
    )


def test_a_held_lease_names_its_holder() -> None:
    """With the step, since when, until when, and what to do."""
    with pytest.raises(LockHeld) as told:
        decide_take(HELD, BOB, 60, 1130, gone=False)

    assert str(told.value) == (
        "cannot lock `production`: ann holds it on elsewhere since 1970-01-01 00:16:40 UTC "
        "(run run-1, at step `bake`); it ends in 30 s unless renewed"
    )
    assert told.value.hint == (
        "wait, look with `pipeline env lock show production`, or if its owner is gone: "
        "`pipeline env lock break production`"
    )
    assert told.value.exit_code == 3


@pytest.mark.parametrize(("now", "gone"), [(1160, False), (1101, True)], ids=["expired", "its owner is gone"])
def test_a_lease_that_is_left_can_be_taken(now: float, gone: bool) -> None:
    """By time, or because its process is known to have ended."""
    taken = decide_take(HELD, BOB, 60, now, gone=gone)

    assert (taken.holder, taken.fence) == (BOB, 5)


def _lock(folder: Path, actor: str, ttl_s: float = 60.0) -> Lock:
    holder = Holder.of_this_process(actor, "run-1")
    return Lock(state=LocalState(folder), environment="production", holder=holder, ttl_s=ttl_s)


async def test_a_process_that_ended_holds_nothing(tmp_path: Path) -> None:
    """Its number may be another process by now: when that started tells them apart."""
    child = subprocess.Popen(["sleep", "60"])
    alive = replace(Holder.of_this_process("ann", "run-1"), process=child.pid)
    child.kill()
    child.wait()

    assert (alive.is_gone(), replace(alive, process=os.getpid(), born="1").is_gone()) == (True, True)
    assert not Holder.of_this_process("ann", "run-1").is_gone()
    assert not replace(alive, host="elsewhere").is_gone()


async def test_only_one_of_two_gets_it(tmp_path: Path) -> None:
    """The other is refused by name, or waits until it is free."""
    first, second = _lock(tmp_path, "ann"), _lock(tmp_path, "bob")
    lease = await first.take()
    told: list[str] = []

    async with first.kept(lease):
        with pytest.raises(LockHeld, match="ann holds it"):
            await second.take()
        with pytest.raises(LockHeld):
            await second.take(0.05, lambda held: told.append(held.step))
    taken = await second.take()

    assert taken.fence == lease.fence + 1
    assert told


async def test_a_holder_that_renews_nothing_is_gone_whatever_its_clock_said(tmp_path: Path) -> None:
    """A record from the future holds nobody for ever: it is watched for one term."""
    lock = _lock(tmp_path, "bob", ttl_s=0.3)
    future = replace(HELD, ttl_s=0.3, taken=9e9, renewed=9e9)
    await lock.state.write(NAME, write_record(future), version="")

    with pytest.raises(LockHeld):
        await lock.take()
    taken = await lock.take(wait_s=60)

    assert (taken.holder, taken.fence) == (lock.holder, future.fence + 1)


async def test_it_is_renewed_while_work_goes_on_and_free_after(tmp_path: Path) -> None:
    """With the step that is at work."""
    lock = _lock(tmp_path, "ann", ttl_s=1.8)
    lease = await lock.take()

    async with lock.kept(lease):
        lock.step = "bake"
        await anyio.sleep(0.8)
        seen = await lock.look()
    after = await lock.look()

    assert (seen.holder, seen.step, seen.fence) == (lock.holder, "bake", lease.fence)
    assert seen.renewed > lease.renewed
    assert (after.holder, after.fence) == (None, lease.fence)


async def test_who_lost_it_stops_at_once(tmp_path: Path) -> None:
    """And the new holder's record stays as it is."""
    lock = _lock(tmp_path, "ann", ttl_s=0.6)
    lease = await lock.take()
    other = _lock(tmp_path, "bob")

    async def work() -> None:
        async with lock.kept(lease):
            await other.break_it()
            await other.take()
            await anyio.sleep(60)

    with pytest.raises(LockLost, match="somebody else has taken its lock") as lost:
        await work()

    assert lost.value.exit_code == 7
    assert (await other.look()).holder == other.holder


async def test_it_stops_before_a_lease_ends_that_cannot_be_renewed(tmp_path: Path) -> None:
    """Where the record cannot be reached."""

    class Gone(LocalState):
        async def read(self, name: str) -> tuple[bytes, str]:
            raise OSError("no route to host")

    lock = _lock(tmp_path, "ann", ttl_s=0.6)
    lease = await lock.take()
    lock.state = Gone(tmp_path)

    with pytest.raises(LockLost, match="could not be renewed: no route to host"):
        async with lock.kept(lease):
            await anyio.sleep(60)


async def test_an_error_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    """And the lease is released."""
    lock = _lock(tmp_path, "ann")
    lease = await lock.take()

    with pytest.raises(ValueError, match="wrong"):
        async with lock.kept(lease):
            raise ValueError("wrong")

    data, _ = await lock.state.read(NAME)
    assert read_record(data, Lease, NAME).holder is None
