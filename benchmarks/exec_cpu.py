"""Which process the time of an exec goes to: CPU of the SDK's client, of the engine, and of what it starts.

    .venv/bin/python benchmarks/exec_cpu.py [--rounds N]

Prints the least of all rounds, each figure by itself, in milliseconds for an exec or, with a cached chain,
for its one request. CPU time says more than wall time where others work on the machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engine import CHAIN, base, engine_pids, make_rootfs, session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import dagger

LABELS = ("uncached exec, 20 in parallel", "uncached exec, chain of 20", "cached chain of 20", "cached call")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds so far: on the clock, and on the processor by client, engine, and the engine's children."""

    wall: float
    client: float
    engine: float
    children: float


def spent(engine: int) -> Spent:
    fields = Path(f"/proc/{engine}/stat").read_text().rpartition(")")[2].split()
    clock = (~engine << 3) | 2  # the kernel's number for the CPU clock of another process
    return Spent(
        wall=time.perf_counter(),
        client=time.process_time(),
        engine=time.clock_gettime(clock),
        children=(int(fields[13]) + int(fields[14])) / 100,
    )


async def measured(engine: int, work: Callable[[], Awaitable[object]], parts: int) -> list[float]:
    """Return milliseconds of `work`, for one of its `parts`."""
    before = astuple(spent(engine))
    await work()
    after = astuple(spent(engine))
    return [(new - old) * 1000 / parts for old, new in zip(before, after, strict=True)]


def chain(start: dagger.Container, mark: str) -> dagger.Container:
    for number in range(CHAIN):
        start = start.with_exec(["/bin/true", mark, str(number)])
    return start


async def one_round(store: Path, rootfs: Path, number: int) -> list[list[float]]:
    """Return the figures of all rows, each in a session of its own as in `engine.py`."""
    rows = []
    async with session(store) as client:
        start = await base(client, rootfs).sync()
        [engine] = engine_pids()

        async def parallel() -> None:
            marked = (["/bin/true", f"parallel {number}", str(n)] for n in range(CHAIN))
            await asyncio.gather(*(start.with_exec(argv).sync() for argv in marked))

        rows.append(await measured(engine, parallel, CHAIN))
    async with session(store) as client:
        start = await base(client, rootfs).sync()
        [engine] = engine_pids()
        rows.append(await measured(engine, chain(start, f"chain {number}").sync, CHAIN))
        await chain(start, "cached").sync()
        rows.append(await measured(engine, chain(start, "cached").sync, 1))
        await start.with_exec(["/bin/true"]).sync()
        rows.append(await measured(engine, start.with_exec(["/bin/true"]).sync, 1))
    return rows


def least(rounds: Sequence[Sequence[Sequence[float]]], row: int) -> list[float]:
    return [min(figures) for figures in zip(*(each[row] for each in rounds), strict=True)]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    count: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        rootfs, store = make_rootfs(folder), folder / "store"
        rounds = [await one_round(store, rootfs, number) for number in range(count)]
    print(f"{'least of ' + str(count) + ', ms':40}{'wall':>8}{'client':>8}{'engine':>8}{'started':>8}")
    labels = (
        "uncached exec, 20 in parallel",
        "uncached exec, chain of 20",
        "cached chain of 20",
        "cached call",
    )
    for row, label in enumerate(labels):
        print(f"{label:40}" + "".join(f"{figure:8.2f}" for figure in least(rounds, row)))


if __name__ == "__main__":
    asyncio.run(main())
