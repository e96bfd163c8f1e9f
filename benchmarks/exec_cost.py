"""Print what one exec costs by each runner, beside a bare process, in milliseconds: least and median.

The command is a static `true` over a one-layer overlay. Run as root: `python benchmarks/exec_cost.py [N]`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine.runtime.cgroups import in_leaf
from pipeline.engine.runtime.network import Network
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.spec import ExecSpec, Overlay, Runner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def make_root(folder: Path) -> Path:
    """Make a root file system with a static busybox as `true`."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("install a static busybox first (Debian: busybox-static)")
    (folder / "bin").mkdir(parents=True)
    shutil.copy(program, folder / "bin/true")
    return folder


def spec_over(root: Path, folder: Path, number: int) -> ExecSpec:
    """Describe one run with a fresh upper directory."""
    for name in ("upper", "work"):
        (folder / str(number) / name).mkdir(parents=True)
    return ExecSpec(
        id=f"cost-{os.getpid()}-{number}",
        rootfs=Overlay(
            lowers=(root,), upper=folder / str(number) / "upper", work=folder / str(number) / "work"
        ),
        mounts=(),
        argv=("/bin/true",),
        env=(("PATH", "/bin"),),
        cwd="/",
        uid=0,
        gid=0,
        groups=(0,),
    )


async def measure(count: int, once: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """Return the least and the median time of `once`, in milliseconds."""
    times = []
    for number in range(count):
        began = time.perf_counter()
        await once(number)
        times.append((time.perf_counter() - began) * 1e3)
    return min(times), statistics.median(times)


async def main(count: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "r+") as null:
        root = make_root(Path(scratch, "root"))
        network = await Network.open(Path(scratch), offline=True)

        async def bare(_number: int) -> None:
            subprocess.run(["/bin/true"], check=True)

        def run_by(runner: Runner, how: str) -> Callable[[int], Awaitable[None]]:
            folder = Path(scratch, f"{runner.name}-{how}")

            async def once(number: int) -> None:
                spec = spec_over(root, folder, number)
                fd = null.fileno()
                if how == "pooled":
                    async with network.lease() as namespace:
                        spec = replace(spec, network_namespace=namespace.path)
                        with in_leaf(runner.cgroups, spec) as (placed, _leaf):
                            code = await runner.run(placed, stdin=fd, stdout=fd, stderr=fd)
                else:
                    code = await runner.run(
                        replace(spec, host_network=how == "host"), stdin=fd, stdout=fd, stderr=fd
                    )
                assert code == 0

            return once

        launcher, runc, bwrap = (find_runner(name) for name in ("launcher", "runc", "bwrap"))
        rows: list[tuple[str, int, Callable[[int], Awaitable[None]]]] = [
            ("subprocess.run(/bin/true)", count, bare),
            ("launcher, network of the host", count, run_by(launcher, "host")),
            ("launcher, a namespace of its own", count, run_by(launcher, "own")),
            ("launcher, bridge, NAT and a control group", count, run_by(launcher, "pooled")),
            ("bwrap, a namespace of its own", max(5, count // 5), run_by(bwrap, "own")),
            ("runc, a namespace of its own", max(5, count // 5), run_by(runc, "own")),
        ]
        for name, times, once in rows:
            least, median = await measure(times, once)
            print(f"{name:45} min {least:7.2f} ms   median {median:7.2f} ms")
        await network.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
