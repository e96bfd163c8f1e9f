"""Run many execs in one engine process and print what it holds before and after: nothing may grow.

    .venv/bin/python benchmarks/leaks.py [EXECS]

Run as root. The execs are of the simplest kind, each with its own namespaces, network lease, layer and leaf,
sixteen at once; what is counted is read from the kernel. The exit code is 1 when something grew.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_text
from pipeline.engine import ops
from pipeline.engine.mounts import enter_private_mount_namespace
from pipeline.engine.runtime.execute import execute
from pipeline.engine.runtime.network import Network
from pipeline.engine.runtime.runner import find_runner
from pipeline.engine.runtime.services import Services
from pipeline.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.digest import Digest
    from pipeline.engine.store import Snapshot

AT_ONCE: Final = 16
MEMORY_SLACK_KIB: Final = 8 << 10
"""What the allocator may keep of an engine that has run its first execs."""
HIERARCHIES: Final = 3
"""In how many places an exec's leaf has a directory, at most: version 1 has one a controller."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a process, and the machine for it, holds at one moment."""

    memory_kib: int
    descriptors: int
    threads: int
    children: int
    mounts: int
    network_devices: int
    network_namespaces: int
    control_groups: int


def bridges() -> set[str]:
    """Return the bridges of all engines of this machine."""
    return {path.parent.name for path in Path("/sys/class/net").glob("pipeline*/bridge")}


def held(bridge: set[str]) -> Held:
    """Count; `bridge` is the engine's, if it has one."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    descriptors = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return Held(
        memory_kib=int(re.findall(r"VmRSS:\s+(\d+)", status)[0]),
        descriptors=len(descriptors),
        threads=int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        children=len(own.split()),
        mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
        network_devices=sum(1 for name in bridge for _ in Path(f"/sys/class/net/{name}/brif").glob("*")),
        network_namespaces=sum(1 for target in descriptors if str(target).startswith("net:")),
        control_groups=sum(
            1 for _ in Path("/sys/fs/cgroup").glob(f"**/pipeline-{os.getpid()}-*/*/cgroup.procs")
        ),
    )


def grown(before: Held, after: Held) -> list[str]:
    """Return the names of what is more than before, beyond what the allocator keeps."""
    # The kernel removes devices, and takes dead processes out of groups, a moment later.
    later = {"network_devices": AT_ONCE, "control_groups": AT_ONCE * HIERARCHIES}
    slack = {"memory_kib": MEMORY_SLACK_KIB, **later}
    old = asdict(before)
    return [name for name, value in asdict(after).items() if value > old[name] + slack.get(name, 0)]


async def run_many(folder: Path, program: Path, warm_up: int, execs: int) -> tuple[Held, Held, float]:
    """Return what was held after `warm_up` execs and after `execs` more, and seconds per exec."""
    store = Store.open(folder / "store")
    others = bridges()
    network = await Network.open(store.root, offline=True)
    bridge = bridges() - others
    runner = find_runner("launcher")
    draft = store.snapshots.prepare(store.snapshots.empty)
    (draft.upper / "bin").mkdir()
    shutil.copy(program, draft.upper / "bin/true")
    base = ops.Pinned(content=digest_text("root"))
    trees = {base.digest: store.snapshots.commit(draft, identity=base.content)}
    slots = asyncio.Semaphore(AT_ONCE)

    async def evaluate(_exec: ops.Exec) -> Mapping[Digest, Snapshot]:
        return trees

    services = Services(store, runner, network, evaluate)

    async def one(number: int) -> None:
        async with slots:
            exec_ = ops.Exec(base=base, argv=("/bin/true", str(number)))
            outcome = await execute(
                store, runner, network, exec_, trees, observer=lambda _event: None, services=services
            )
        store.snapshots.discard(outcome.rootfs)

    async def several(count: int) -> None:
        for start in range(0, count, 500):
            await asyncio.gather(*(one(start + number) for number in range(min(500, count - start))))

    try:
        await several(warm_up)
        before, began = held(bridge), time.perf_counter()
        await several(execs)
        seconds = (time.perf_counter() - began) / max(execs, 1)
        return before, held(bridge), seconds
    finally:
        await services.close()
        await network.close()
        store.close()


def main(execs: int) -> int:
    """Run, print, and say whether something grew."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("install a static busybox first (Debian: busybox-static)")
    enter_private_mount_namespace()
    with tempfile.TemporaryDirectory(prefix="leaks-", dir="/var/tmp") as name:
        before, after, seconds = asyncio.run(run_many(Path(name), Path(program), 200, execs))
    for field, value in asdict(before).items():
        print(f"{field:20}{value:>10}{asdict(after)[field]:>10}")
    print(f"{execs} execs, {AT_ONCE} at once: {seconds * 1000:.1f} ms each")
    more = grown(before, after)
    print(f"grown: {', '.join(more)}" if more else "nothing has grown")
    return 1 if more else 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
