"""Broken requests and latencies while releases are handed over on this machine; the clients never retry.

.venv/bin/python benchmarks/handover.py [--deploys N] [--strategy S] [--tunnel] [--store STORE] [--only CASE]

Needs `haproxy` and `wrk`. Each case is one run of wrk, during which releases are deployed one after another.
The latencies are the proxy's own log: `before` are two seconds without a deployment ahead of each one,
`hand-over` is from the first shift to the end of the drain, `deploy` all of it, with starts of containers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.config.values import Count, Seconds
from pipeline.deploy.act import Helpers
from pipeline.deploy.execute import Deployer, Request
from pipeline.deploy.lease import Holder, Lock
from pipeline.deploy.outcome import Outcome, Told, Verdict
from tests.deploy.local.product import WEB, build_image, end_all, local_target, release_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.deploy.release import Release
    from pipeline.deploy.steps import Step
    from pipeline.deploy.target import Deployment, Target
    from pipeline.deploy.targets.local import LocalTarget

QUIET_S: Final = 2.0
POST: Final = 'wrk.method = "POST"\nwrk.body = string.rep("x", 2000)\n'
CASES: Final = {
    f"{connections} {kept} {method}": (connections, kept, method)
    for connections in (32, 256)
    for kept in ("keep-alive", "close")
    for method in ("GET", "POST")
}
HEAD: Final = (
    "| case | deploys | requests | broken | p99 before | p99 hand-over | ratio | p99 deploy | hand-over |"
)


class Passes:
    """Finds everything well at once: what is measured is the hand-over."""

    async def watch(self, target: Target, deployment: Deployment, step: Step) -> Verdict:
        return Verdict(decision="pass", reason="not looked at")


@dataclass(kw_only=True)
class Latencies:
    """Latencies in ms by phase, and seconds of each hand-over; `marks` are times of its last steps."""

    by_phase: dict[str, list[int]] = field(default_factory=dict)
    handed_s: list[float] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)

    def tell(self, told: Told) -> None:
        self.marks.setdefault(f"{told.what} {told.step.partition(' ')[0]}", time.time())
        if told.what in ("done", "close"):
            self.marks[f"{told.what} {told.step.partition(' ')[0]}"] = time.time()

    def collect(self, target: LocalTarget, quiet: float) -> None:
        """Sort the proxy's log since `quiet` into phases."""
        shift, drained = self.marks["begin shift"], self.marks["done drain"]
        self.handed_s.append(drained - shift)
        for line in target.place.proxy.ask("show events requests").splitlines():
            words = line.split()
            if len(words) != 5 or not words[4].isdecimal():
                continue
            at = int(words[4]) / 1000
            phases = {
                "before": quiet <= at < quiet + QUIET_S,
                "hand-over": shift <= at <= drained,
                "deploy": quiet + QUIET_S < at <= drained,
            }
            for name, holds in phases.items():
                if holds:
                    self.by_phase.setdefault(name, []).append(int(words[2]))
        self.marks.clear()

    def p99(self, phase: str) -> int:
        found = sorted(self.by_phase.get(phase, [0]))
        return found[int(0.99 * (len(found) - 1))]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deploys", type=int, default=3, help="in each case")
    parser.add_argument("--strategy", default="blue_green", choices=["blue_green", "canary", "rolling"])
    parser.add_argument("--tunnel", action="store_true", help="reach instances through the SDK's tunnel")
    parser.add_argument("--store", type=Path, help="of the engine, with base images in it")
    parser.add_argument("--only", choices=list(CASES))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        store = asked.store or folder / "store"
        os.environ.update(
            PIPELINE_STORE=str(store), PIPELINE_IMAGE_FALLBACK="recipe", PIPELINE_ENGINE_IDLE="0"
        )
        archive = await build_image(folder, store)
        flags = ["--tunnel"] if asked.tunnel else []
        settings = {"strategy": asked.strategy, "bake_s": Seconds(0.0)}
        target = local_target(folder, archive, *flags, **settings)
        web = replace(WEB, replicas=Count(2))
        releases = [
            release_of(archive, {"web": replace(web, env={"SAYS": one})}) for one in ("blue", "green")
        ]
        latencies = Latencies()
        deployer = make_deployer(target, latencies)
        try:
            await deploy(deployer, releases[0])
            print(HEAD + "\n|" + "---|" * HEAD.count(" | ") + "---|", flush=True)
            for case, (connections, kept, method) in CASES.items():
                if asked.only in (None, case):
                    fresh = Latencies()
                    deployer = make_deployer(target, fresh)
                    said = await under_load(
                        deployer, releases, fresh, asked.deploys, connections, kept, method, folder
                    )
                    print(row(case, asked.deploys, said, fresh), flush=True)
        finally:
            await end_all(target)


async def under_load(
    deployer: Deployer,
    releases: Sequence[Release],
    latencies: Latencies,
    deploys: int,
    connections: int,
    kept: str,
    method: str,
    folder: Path,
) -> str:
    """Deploy under load; return what wrk said."""
    target: LocalTarget = deployer.target  # type: ignore[assignment]
    argv = ["wrk", "-t1", f"-c{connections}", "-d1h", "--timeout", "10s"]
    if method == "POST":
        (folder / "post.lua").write_text(POST)
        argv += ["-s", str(folder / "post.lua")]
    if kept == "close":
        argv += ["-H", "Connection: close"]
    wrk = subprocess.Popen(  # noqa: ASYNC220 - nothing waits for it
        [*argv, f"{target.address}/"], stdout=subprocess.PIPE, text=True
    )
    try:
        await asyncio.sleep(1)
        for _ in range(deploys):
            live = await target.live()
            new = next(one for one in releases if one.id != live.release)
            latencies.marks.clear()
            quiet = time.time()
            await asyncio.sleep(QUIET_S)
            await deploy(deployer, new)
            latencies.collect(target, quiet)
    finally:
        wrk.send_signal(signal.SIGINT)
        said, _ = await asyncio.to_thread(wrk.communicate)
    return said


async def deploy(deployer: Deployer, release: Release) -> None:
    result = await deployer.deploy(Request(release=release))
    if result.outcome is not Outcome.SUCCEEDED:
        raise SystemExit(f"the deployment did not succeed: {result}")


def make_deployer(target: LocalTarget, latencies: Latencies) -> Deployer:
    async def allow(deployment: Deployment, steps: Sequence[Step]) -> None:
        """Allow."""

    async def look(deployment: Deployment, urls: Mapping[str, str]) -> None:
        """Look at nothing."""

    async def nothing_pending(_: Deployment) -> bool:
        return False

    async def no_backup(_: Deployment) -> str:
        return ""

    helpers = Helpers(
        judge=Passes(),
        authorise=allow,
        smoke=look,
        pending=nothing_pending,
        backup=no_backup,
        tell=latencies.tell,
    )
    lock = Lock(
        state=target.state,
        environment="staging",
        holder=Holder.of_this_process("bench", "run-1"),
        ttl_s=60.0,
    )
    return Deployer(environment=target.environment, target=target, lock=lock, helpers=helpers)


def row(case: str, deploys: int, said: str, latencies: Latencies) -> str:
    """One line of the table, of what wrk said and of the proxy's log."""
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = (sum(map(int, errors.groups())) if errors else 0) + (int(wrong[1]) if wrong else 0)
    before, handed = latencies.p99("before"), latencies.p99("hand-over")
    slowest = max(latencies.handed_s)
    ratio = handed / max(before, 1)
    return (
        f"| {case} | {deploys} | {requests:,} | {broken} | {before} ms | {handed} ms | {ratio:.2f} "
        f"| {latencies.p99('deploy')} ms | {slowest:.2f} s |"
    )


if __name__ == "__main__":
    asyncio.run(main())
