"""What the embedded engine costs through the unmodified SDK: connecting, execs in a chain, memory.

    .venv/bin/python benchmarks/engine.py [--execs N] [--layer-mib N]

Everything is measured in one run, on a throw-away store, next to the raw command: `runc run` of the same
program, and a plain process. Images come from a small root file system made of Debian's static busybox.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import dagger  # noqa: TC002 - imported here, so that it is not part of what is timed
import httpx

from pipeline.connect import open_session, parse_target
from pipeline.engine.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CHAIN = 20
STAYS_S = 5.0
BUSYBOX = "/bin/busybox"


def row(name: str, *figures: str) -> None:
    print(f"{name:<58}{'  '.join(f'{figure:>14}' for figure in figures)}")


def engine_pids() -> list[int]:
    """Return the engine processes this one started."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == os.getpid() and b"pipeline.session" in words:
            found.append(int(entry.name))
    return found


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """Return a figure of `/proc/PID/status` in MiB; `VmHWM` is the highest resident size so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def session(store: Path, idle_s: float = 0.0) -> AsyncIterator[dagger.Client]:
    settings = EngineSettings(store=str(store), offline=True, idle_s=idle_s)
    return open_session(  # type: ignore[return-value]
        parse_target("embedded"), settings, workdir=Path.cwd(), observer=lambda _event: None
    )


def base(client: dagger.Client, rootfs: Path) -> dagger.Container:
    return client.container().with_rootfs(client.host().directory(str(rootfs)))


async def connect(store: Path, idle_s: float = 0.0) -> float:
    began = time.perf_counter()
    async with session(store, idle_s) as client:
        await client.version()
        return time.perf_counter() - began


async def chain(store: Path, rootfs: Path, mark: str) -> tuple[float, float]:
    """Return seconds for a chain of uncached execs, and for the same chain again, in a new session."""
    figures = []
    for _ in range(2):
        async with session(store) as client:
            container = await base(client, rootfs).sync()
            began = time.perf_counter()
            for number in range(CHAIN):
                container = container.with_exec(["/bin/true", mark, str(number)])
            await container.sync()
            figures.append(time.perf_counter() - began)
    return figures[0], figures[1]


async def cached(store: Path, rootfs: Path) -> tuple[list[float], list[float], list[float]]:
    """Return seconds of cached single calls, of building a chain in the client, and of its request."""
    single, building, requests = [], [], []
    async with session(store) as client:
        start = await base(client, rootfs).sync()
        for _ in range(10):
            began = time.perf_counter()
            await start.with_exec(["/bin/true"]).sync()
            single.append(time.perf_counter() - began)
            began = time.perf_counter()
            container = start
            for number in range(CHAIN):
                container = container.with_exec(["/bin/true", str(number)])
            built = time.perf_counter()
            await container.sync()
            building.append(built - began)
            requests.append(time.perf_counter() - built)
    return single[1:], building[1:], requests[1:]


async def without_the_sdk(store: Path, rootfs: Path, mark: str) -> float:
    """Return seconds of the engine's answer to the query of a cached chain, sent by a plain HTTP client."""
    async with session(store) as client:
        start = await base(client, rootfs).sync()
        query = "sync"
        for number in reversed(range(CHAIN)):
            query = f'withExec(args: ["/bin/true", "{mark}", "{number}"]) {{ {query} }}'
        document = f'{{ loadContainerFromID(id: "{await start.id()}") {{ {query} }} }}'
        url = f"http://127.0.0.1:{os.environ['DAGGER_SESSION_PORT']}/query"
        async with httpx.AsyncClient(auth=(os.environ["DAGGER_SESSION_TOKEN"], "")) as http:
            await http.post(url, json={"query": "{ version }"})
            began = time.perf_counter()
            answer = await http.post(url, json={"query": document})
            seconds = time.perf_counter() - began
        assert answer.json().get("errors") is None, answer.text
        return seconds


async def step_by_step(store: Path, rootfs: Path, mark: str) -> list[float]:
    """Return seconds of each exec of a chain that is awaited one by one."""
    figures = []
    async with session(store) as client:
        container = await base(client, rootfs).sync()
        for number in range(CHAIN):
            began = time.perf_counter()
            container = await container.with_exec(["/bin/true", mark, str(number)]).sync()
            figures.append(time.perf_counter() - began)
    return figures


async def in_parallel(store: Path, rootfs: Path, mark: str) -> float:
    """Return seconds for as many uncached execs as a chain has, asked for at once."""
    async with session(store) as client:
        start = await base(client, rootfs).sync()
        began = time.perf_counter()
        await asyncio.gather(*(start.with_exec(["/bin/true", mark, str(n)]).sync() for n in range(CHAIN)))
        return time.perf_counter() - began


async def memory(store: Path, rootfs: Path, execs: int, layer_mib: int) -> tuple[float, float]:
    """Return the engine's resident MiB after `execs` execs, and its peak while a big layer passes."""
    async with session(store) as client:
        container = await base(client, rootfs).sync()
        for number in range(execs):
            await container.with_exec(["/bin/true", f"memory {number}"]).sync()
        [pid] = engine_pids()
        after = memory_mib(pid)
        reset_peak(pid)
        command = f"dd if=/dev/urandom of=/big bs=1M count={layer_mib} 2>/dev/null"
        big = container.with_exec(["/bin/sh", "-c", command])
        with tempfile.TemporaryDirectory(dir=store.parent) as folder:
            await big.as_tarball().export(f"{folder}/image.tar")
            return after, memory_mib(pid, "VmHWM")


def raw_runc(rootfs: Path, times: int) -> list[float]:
    """Return seconds of `runc run` of the same program, with the specification runc itself proposes."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["runc", "spec"], cwd=folder, check=True)
        path = Path(folder, "config.json")
        spec = json.loads(path.read_text())
        spec["process"].update(args=["/bin/true"], terminal=False)
        spec["root"].update(path=str(rootfs), readonly=False)
        path.write_text(json.dumps(spec))
        for number in range(times):
            began = time.perf_counter()
            subprocess.run(["runc", "run", f"bench-{os.getpid()}-{number}"], cwd=folder, check=True)
            figures.append(time.perf_counter() - began)
    return figures


def raw_process(times: int) -> list[float]:
    figures = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([BUSYBOX, "true"], check=True)
        figures.append(time.perf_counter() - began)
    return figures


def make_rootfs(folder: Path) -> Path:
    root = folder / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("true", "sh", "dd"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def milliseconds(figures: Sequence[float]) -> tuple[str, str]:
    low, middle = min(figures) * 1000, statistics.median(figures) * 1000
    return f"min {low:.1f} ms", f"median {middle:.1f} ms"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--execs", type=int, default=500, help="execs before memory is read")
    parser.add_argument("--layer-mib", type=int, default=1024, help="size of the layer that passes through")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        rootfs, store = make_rootfs(folder), folder / "store"
        await connect(store)
        row(
            "connect (engine started by us, import of the SDK aside)",
            *milliseconds([await connect(store) for _ in range(5)]),
        )
        await connect(store, idle_s=STAYS_S)
        warm = [await connect(store, idle_s=STAYS_S) for _ in range(5)]
        row("connect (engine that stays)", *milliseconds(warm))
        single, building, requests = await cached(store, rootfs)
        row("cached single call, the awaited request", *milliseconds(single))
        row(f"building a chain of {CHAIN} in the client, no request", *milliseconds(building))
        row(f"cached chain of {CHAIN}, the awaited request", *milliseconds(requests))
        runs = [await chain(store, rootfs, f"chain {number}") for number in range(5)]
        per_exec = [seconds / CHAIN for seconds, _ in runs]
        row(f"uncached exec in a chain of {CHAIN}, one query", *milliseconds(per_exec))
        at_once = [await in_parallel(store, rootfs, f"parallel {n}") / CHAIN for n in range(5)]
        row(f"uncached exec, {CHAIN} in parallel", *milliseconds(at_once))
        stepped = [s for n in range(3) for s in await step_by_step(store, rootfs, f"step {n}")]
        row(f"uncached exec in a chain of {CHAIN}, awaited one by one", *milliseconds(stepped))
        row(f"cached chain of {CHAIN}, in a new session", *milliseconds([again for _, again in runs]))
        bare = [await without_the_sdk(store, rootfs, f"chain {number}") for number in range(5)]
        row("the same query, sent without the SDK", *milliseconds(bare))
        runc, process = raw_runc(rootfs, CHAIN), raw_process(CHAIN)
        row("raw `runc run` of the same program", *milliseconds(runc))
        row("a plain process of the same program", *milliseconds(process))
        ratio = statistics.median(runc) / statistics.median(per_exec)
        row("ratio: raw `runc run` / exec in a chain", f"{ratio:.2f}")
        after, peak = await memory(store, rootfs, options.execs, options.layer_mib)
        row(f"engine's resident memory after {options.execs} execs", f"{after:.0f} MiB")
        row(f"its peak while a layer of {options.layer_mib} MiB passes through", f"{peak:.0f} MiB")


if __name__ == "__main__":
    asyncio.run(main())
