"""The lock of an environment: a lease with owner and fencing number, which ends when its owner dies.

`decide_take` is pure. `Lock` keeps the record in the environment's state and renews it while work goes on.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.records import read_record, write_record
from pipeline.deploy.state import StateChanged
from pipeline.errors import EXIT_RESUMABLE, PipelineError, RefusedByPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipeline.deploy.state import State

NAME: Final = "lease.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease. `host`, `boot` and `process` tell whether they can still be alive."""

    actor: str
    run: str
    host: str
    boot: str
    process: int
    born: str = ""  # when the process started, in the kernel's ticks: numbers of processes are used again

    @classmethod
    def of_this_process(cls, actor: str, run: str) -> Holder:
        """Return ourselves."""
        own = os.getpid()
        return cls(actor=actor, run=run, host=_host(), boot=_boot(), process=own, born=_started_at(own) or "")

    def is_here(self) -> bool:
        """Whether it is a process of this machine, since it was last started."""
        return (self.host, self.boot) == (_host(), _boot())

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; False also where that cannot be seen from here."""
        return self.is_here() and _started_at(self.process) != self.born


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The record. Times are seconds since 1970 by the holder's clock; `fence` grows with every take."""

    environment: str
    fence: int
    ttl_s: float
    holder: Holder | None = None  # None: nobody holds it now; the number is kept
    taken: float = 0.0
    renewed: float = 0.0
    step: str = ""

    @property
    def expires(self) -> float:
        return self.renewed + self.ttl_s


class LockHeld(RefusedByPolicy):
    """Somebody else is at work in the environment."""

    def __init__(self, lease: Lease, holder: Holder, now: float) -> None:
        super().__init__(
            f"cannot lock `{lease.environment}`: {holder.actor} holds it on {holder.host} since "
            f"{_clock(lease.taken)} (run {holder.run}, at step `{lease.step}`); "
            f"it ends in {max(lease.expires - now, 0):.0f} s unless renewed"
        )
        self.lease = lease
        self.hint = (
            f"wait, look with `pipeline env lock show {lease.environment}`, or if its owner is gone: "
            f"`pipeline env lock break {lease.environment}`"
        )


class LockLost(PipelineError):
    """Our lease ended, or somebody took it: nothing may be changed any more."""

    exit_code = EXIT_RESUMABLE

    def __init__(self, environment: str, why: str) -> None:
        super().__init__(f"cannot go on in `{environment}`: {why}")


def decide_take(current: Lease, me: Holder, ttl_s: float, now: float, *, gone: bool) -> Lease:
    """Return the lease that `me` may write in place of `current`.

    Args:
        gone: The holder's process is known to have ended.

    Raises:
        LockHeld: It is held, and neither expired nor left by a process that is gone.
    """
    if current.holder is not None and not gone and now < current.expires:
        raise LockHeld(current, current.holder, now)
    return replace(
        current, holder=me, fence=current.fence + 1, ttl_s=ttl_s, taken=now, renewed=now, step="lock"
    )


@dataclass(kw_only=True)
class Lock:
    """The lease of one environment, for one deployment."""

    state: State
    environment: str
    holder: Holder
    ttl_s: float
    clock: Callable[[], float] = time.time
    step: str = field(default="lock", init=False)
    lost: str = field(default="", init=False)  # why it is not ours any more, while `kept` says that it is

    async def look(self) -> Lease:
        """Return the record as it is; one that nobody holds where there is none."""
        return (await self._read())[0]

    async def take(self, wait_s: float = 0.0, tell: Callable[[Lease], None] = lambda _: None) -> Lease:
        """Take it, waiting at most so long for its holder to end; `tell` hears who is waited for.

        A holder that has not renewed while we waited for its whole term is gone, whatever its clock said.

        Raises:
            LockHeld: It is still held by somebody else.
        """
        began = same_since = anyio.current_time()
        last: Lease | None = None
        while True:
            now = anyio.current_time()
            try:
                return await self._take_now(last if last and now - same_since > last.ttl_s else None)
            except LockHeld as held:
                if now - began >= wait_s:
                    raise
                if held.lease != last:
                    same_since = now
                last = held.lease
                tell(last)
                await anyio.sleep(min(1.0, self.ttl_s / 6))

    async def _take_now(self, stale: Lease | None) -> Lease:
        while True:
            current, version = await self._read()
            gone = current == stale or (current.holder is not None and current.holder.is_gone())
            taken = decide_take(current, self.holder, self.ttl_s, self.clock(), gone=gone)
            try:
                await self.state.write(NAME, write_record(taken), version=version)
            except StateChanged:
                continue  # somebody was faster: look again
            return taken

    @asynccontextmanager
    async def kept(self, lease: Lease) -> AsyncIterator[None]:
        """Renew a taken lease while the block runs; release it at its end.

        Raises:
            LockLost: It was taken by somebody else, or could not be renewed in time: the block is cancelled
                before the lease ends.
        """
        raised: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._renew, lease, group.cancel_scope)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again, out of the group that would wrap it
                raised = error
            finally:
                group.cancel_scope.cancel()
                if not self.lost:
                    with anyio.move_on_after(self.ttl_s / 3, shield=True):
                        await self._write_mine(lease, None)
        if self.lost:
            raise LockLost(self.environment, self.lost) from raised
        if raised is not None:
            raise raised

    async def _renew(self, lease: Lease, scope: anyio.CancelScope) -> None:
        renewed = anyio.current_time()
        while not self.lost:
            await anyio.sleep(self.ttl_s / 6)
            try:
                with anyio.fail_after(self.ttl_s / 6):
                    if not await self._write_mine(lease, self.clock()):
                        self.lost = "somebody else has taken its lock"
                renewed = anyio.current_time()
            except (PipelineError, OSError) as error:  # a TimeoutError is an OSError
                if anyio.current_time() - renewed > self.ttl_s / 2:
                    self.lost = f"its lock could not be renewed: {error or 'no answer'}"
        scope.cancel()

    async def _write_mine(self, lease: Lease, now: float | None) -> bool:
        """Renew, or release with None; False when it is no longer ours."""
        while True:
            current, version = await self._read()
            if (current.fence, current.holder) != (lease.fence, self.holder):
                return False
            renewed = replace(current, renewed=now, step=self.step) if now else replace(current, holder=None)
            try:
                await self.state.write(NAME, write_record(renewed), version=version)
            except StateChanged:
                continue
            return True

    async def break_it(self) -> Lease:
        """Take the lease from whoever holds it and leave it free; returns what was there.

        The number grows, so that a holder that is still alive can change nothing any more.
        """
        while True:
            current, version = await self._read()
            free = replace(current, holder=None, fence=current.fence + 1)
            try:
                await self.state.write(NAME, write_record(free), version=version)
            except StateChanged:
                continue
            return current

    async def _read(self) -> tuple[Lease, str]:
        data, version = await self.state.read(NAME)
        if not data:
            return Lease(environment=self.environment, fence=0, ttl_s=self.ttl_s), ""
        return read_record(data, Lease, NAME), version


def _host() -> str:
    return os.uname().nodename


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _started_at(process: int) -> str | None:
    """When a process of this machine started; None when there is none of that number."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
