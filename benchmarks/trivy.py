"""How long the Trivy client takes for an image of 400 packages, against the server tests put in its place.

    python benchmarks/trivy.py [--check]

Two layers, all blobs sent each time; the time holds storing, scanning and judging, over a connection that is
open, as between images of one run, and the server's own work. With `--check` it ends in 1 over 100 ms.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import time
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.scan.advisories.answer import SourceInfo
from pipeline.scan.packages.package import Package
from pipeline.scan.trivy.blobs import Blob
from pipeline.scan.trivy.client import TrivyAddress, TrivyClient
from pipeline.scan.trivy.source import Asked, TrivySource
from tests.unit.scan.trivy.fake import TOKEN, Fake, advisory, serving

PACKAGES = 400
ROUNDS = 20
LIMIT_MS = 100.0
STATUS = "var/lib/dpkg/status"


def image() -> Asked:
    """An image of Debian 12, most of it in the base."""
    packages = tuple(
        Package(
            name=f"package-{number}",
            version=f"1:{number}.2-3",
            ecosystem="Debian:12",
            path=STATUS,
            source=f"source-{number // 3}",
            architecture="amd64",
        )
        for number in range(PACKAGES)
    )
    base = Blob(
        diff_id="sha256:base",
        family="debian",
        release="12",
        packages=packages[:300],
        databases=(STATUS,),
    )
    top = Blob(diff_id="sha256:top", packages=packages, databases=(STATUS,))
    return Asked(name="app", blobs=(base, top), packages=packages)


async def measure(fake: Fake) -> list[tuple[float, float]]:
    """Seconds of each round, and of CPU of both sides; the server has forgotten everything before each."""
    asked = image()
    source = TrivySource(address=TrivyAddress(url=fake.url, token=TOKEN))
    now = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
    times = []
    async with TrivyClient(source.address) as client:
        await client.version()
        for _ in range(ROUNDS):
            fake.blobs.clear()
            began, cpu = time.perf_counter(), time.process_time()
            told = await source.ask_client(client, asked, SourceInfo(name="trivy"), now)
            times.append((time.perf_counter() - began, time.process_time() - cpu))
            if len(told.answer.judged) != len({one.key for one in asked.packages}):
                raise AssertionError(told.answer.reason)
    return times


def main() -> int:
    """Print the least and the middle of the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    fake = Fake()
    fake.database["debian 12"]["openssl"] = [advisory("CVE-2099-1000", "3.0.1-1")]
    fake.database["debian 12"]["source-7"] = [advisory("CVE-2099-1001", "2:1-1")]
    with serving(fake):
        times = anyio.run(measure, fake)
    walls = [wall * 1000 for wall, _ in times]
    cpu = min(cpu for _, cpu in times) * 1000
    print(f"{PACKAGES} packages: least {min(walls):.1f} ms, middle {statistics.median(walls):.1f} ms", end="")
    print(f", least CPU of client and server {cpu:.1f} ms")
    return int(check and min(walls) > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
