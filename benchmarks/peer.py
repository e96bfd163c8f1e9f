"""What a Dagger engine and the embedded engine cost for the same work, measured in one run, taking turns.

    .venv/bin/python -m benchmarks.peer [--engine dagger=ADDRESS] [--rounds N] [--pid PID]

Without an address the SDK finds the Dagger engine as it always does: by `DAGGER_SESSION_PORT` and
`DAGGER_SESSION_TOKEN` (as under `dagger run`), else by its own command line program. Both engines get the
same root file system, made of Debian's static busybox, so that no registry is asked. Each round is a new
session on both; with a session in the environment the Dagger engine keeps that one, and "connect" and
"in a new session" are then about a new connection only. The first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import dagger  # noqa: TC002 - imported here, so that it is not part of what is timed

from benchmarks.engine import CHAIN, base, engine_pids, make_rootfs, memory_mib
from benchmarks.host_directory import SETTLE_S, make_tree
from pipeline.connect import Target, open_session, parse_target
from pipeline.engine.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT = "connect"
ONE_QUERY = f"uncached exec in a chain of {CHAIN}, one query"
STEPS = f"uncached exec in a chain of {CHAIN}, awaited one by one"
CACHED = f"cached chain of {CHAIN}, in a new session"
FIRST = "host directory, first"
UNCHANGED = "host directory, unchanged, in a new session"


@dataclass(kw_only=True)
class Side:
    """One of the two engines, with its seconds by what was measured."""

    name: str
    target: Target
    pid: int | None  # of a Dagger engine on this machine; the embedded one is found
    store: Path
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: float | None = None  # MiB

    def note(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(seconds)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[dagger.Client]:
        settings = EngineSettings(store=str(self.store), offline=True)
        opened = open_session(self.target, settings, workdir=Path.cwd(), observer=lambda _event: None)
        async with opened as client:
            await client.version()
            yield client

    def resident_mib(self) -> float | None:
        """Return what the engine's process holds now; None when its process is not known."""
        if self.target.kind == "embedded":
            [pid] = engine_pids()
            return memory_mib(pid)
        return None if self.pid is None else memory_mib(self.pid)


async def one_round(side: Side, rootfs: Path, files: Path, mark: str) -> None:
    """Measure everything once on one engine: a session with new work, and one with the same work again."""
    began = time.perf_counter()
    async with side.session() as client:
        side.note(CONNECT, time.perf_counter() - began)
        container = await base(client, rootfs).sync()
        side.note(ONE_QUERY, await chain(container, mark) / CHAIN)
        side.note(STEPS, await step_by_step(container, mark) / CHAIN)
        side.note(FIRST, await load(client, files))
    await asyncio.sleep(SETTLE_S)
    async with side.session() as client:
        container = await base(client, rootfs).sync()
        side.note(CACHED, await chain(container, mark))
        side.note(UNCHANGED, await load(client, files))
        side.memory = side.resident_mib()


async def chain(container: dagger.Container, mark: str) -> float:
    """Return the seconds of a chain of execs that is one query."""
    began = time.perf_counter()
    for number in range(CHAIN):
        container = container.with_exec(["/bin/true", mark, str(number)])
    await container.sync()
    return time.perf_counter() - began


async def step_by_step(container: dagger.Container, mark: str) -> float:
    """Return the seconds of a chain of execs, each awaited before the next is described."""
    began = time.perf_counter()
    for number in range(CHAIN):
        container = await container.with_exec(["/bin/true", f"{mark} step", str(number)]).sync()
    return time.perf_counter() - began


async def load(client: dagger.Client, folder: Path) -> float:
    """Return the seconds until the engine has a host directory."""
    began = time.perf_counter()
    await client.host().directory(str(folder), exclude=[".git"]).sync()
    return time.perf_counter() - began


def report(embedded: Side, peer: Side, files: int) -> None:
    """Print medians and smallest values in ms, and the ratio of the medians."""
    print(f"{'ms: median (min)':<56}{'embedded':>20}{'dagger':>20}{'dagger/embedded':>17}")
    for what, ours in embedded.seconds.items():
        theirs = peer.seconds[what]
        ratio = statistics.median(theirs) / statistics.median(ours)
        name = f"{what} ({files} files)" if what in (FIRST, UNCHANGED) else what
        print(f"{name:<56}{figure(ours):>20}{figure(theirs):>20}{ratio:>17.2f}")
    memory = [f"{side.memory:.0f} MiB" if side.memory is not None else "-" for side in (embedded, peer)]
    print(f"{'resident memory of the engine at the end':<56}{memory[0]:>20}{memory[1]:>20}")


def figure(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ({min(seconds) * 1000:.1f})"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engine", default="dagger", help="dagger or dagger=ADDRESS")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after one that is not")
    parser.add_argument("--files", type=int, default=4000, help="files of the host directory")
    parser.add_argument("--pid", type=int, help="process of the Dagger engine, to read its memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="peer-", dir="/var/tmp") as name:
        folder = Path(name)
        rootfs, unique = make_rootfs(folder), os.urandom(6).hex()
        store = folder / "store"
        embedded = Side(name="embedded", target=parse_target("embedded"), pid=None, store=store)
        peer = Side(name="dagger", target=parse_target(options.engine), pid=options.pid, store=store)
        for number in range(options.rounds + 1):
            sides = (embedded, peer) if number % 2 else (peer, embedded)
            for side in sides:
                files = folder / f"files-{number}-{side.name}"
                make_tree(files, options.files)
                os.sync()  # or whoever syncs the disk next pays for these files as well
                await one_round(side, rootfs, files, f"{unique} {number} {side.name}")
                if number == 0:
                    side.seconds.clear()
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {options.rounds} rounds")
        report(embedded, peer, options.files)


if __name__ == "__main__":
    asyncio.run(main())
