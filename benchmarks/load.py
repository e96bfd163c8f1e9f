"""Print what the load test reaches against servers on loopback, beside what it must reach.

    .venv/bin/python benchmarks/load.py [--locust PYTHON] [--runs 20] [PART …]

Parts: stall, rate, lag, locust, regression; all of them when none is named. `locust` needs a Python that has
Locust. For rates the generator and the server get a core each. Under other load the figures are of little
use: the generator's own lag, printed with each, tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.load.compare import compare, geometric_mean
from pipeline.scan.load.histogram import merged
from pipeline.scan.load.locust import locust_argv
from pipeline.scan.load.measurement import Measurement, parse_measurement

if TYPE_CHECKING:
    from collections.abc import Iterator

REGRESSION_S: Final = 15.0  # of each run; the stage measures twice as long
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
LOCUSTFILE: Final = """
from locust import FastHttpUser, task

class Visitor(FastHttpUser):
    @task
    def get(self):
        self.client.get("/")
"""


class Fast(asyncio.Protocol):
    """Answers at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that ends."""
        self.transport.write(OK * data.count(b"\r\n\r\n"))


async def serve(kind: str, port: int, typical_s: float, seed: int) -> None:
    """Serve for ever: `fast`, `stall` (one second in five) or `noisy` (lognormal around `typical_s`)."""
    loop, began, draw = asyncio.get_running_loop(), time.monotonic(), random.Random(seed)  # noqa: S311

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                phase = (time.monotonic() - began) % 5
                if kind == "noisy":
                    await asyncio.sleep(typical_s * math.exp(draw.gauss(0, 0.4)))
                elif phase > 4:
                    await asyncio.sleep(5 - phase)
                writer.write(OK)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    if kind == "fast":
        await loop.create_server(Fast, "127.0.0.1", port)
    else:
        await asyncio.start_server(answer, "127.0.0.1", port)
    await loop.create_future()


@contextmanager
def server(kind: str, typical_s: float = 0.0, seed: int = 0) -> Iterator[int]:
    """Run a server as a process of its own; lends its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    argv = [sys.executable, __file__, "--serve", kind, str(port), str(typical_s), str(seed)]
    process = subprocess.Popen(pinned(argv, last=False) if kind == "fast" else argv)
    time.sleep(0.7)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def pinned(argv: list[str], *, last: bool) -> list[str]:
    """The command on the last CPU or on the first, where there are several."""
    cpus = sorted(os.sched_getaffinity(0))
    return argv if len(cpus) == 1 else ["taskset", "-c", str(cpus[-1] if last else cpus[0]), *argv]


def generate(port: int, rate: float, seconds: float, *, alone: bool = False, **changes: Any) -> Measurement:
    """Run the generator against the server."""
    plan = {
        "host": "127.0.0.1",
        "port": port,
        "rate": rate,
        "warmup_s": 1,
        "duration_s": seconds,
        "timeout_s": 10,
    }
    plan |= {"max_connections": 2000, "requests": [{"name": "GET /", "paths": ["/"]}]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps({**plan, **changes}))
        argv = [sys.executable, "-m", "pipeline.scan.load.generator", str(path), "-"]
        argv = pinned(argv, last=True) if alone else argv
        done = subprocess.run(argv, check=True, capture_output=True)
    return parse_measurement(done.stdout, "result")


def told(one: Measurement) -> str:
    """How the generator fared."""
    lag = merged(one.generator.lag).quantile(0.99) * 1000
    memory = one.generator.memory_bytes / 1e6
    return f"{one.rate:.0f}/s, lag p99 {lag:.2f} ms, {one.generator.cpu:.0%} of a core, {memory:.0f} MB"


def stall() -> None:
    """The stalling server's true p95 is 756 ms."""
    for arrival in ("constant", "poisson"):
        with server("stall") as port:
            one = generate(port, 100, 20, arrival=arrival)
        times = one.total.times
        print(
            f"stall, {arrival:8} p50 {times.quantile(0.5) * 1000:.1f} p95 {times.quantile(0.95) * 1000:.0f} "
            f"p99 {times.quantile(0.99) * 1000:.0f} ms (bar: p95 680 to 832); {told(one)}"
        )


def rate() -> None:
    """The highest rates on one core."""
    with server("fast") as port:
        for wanted in (10_000, 15_000, 20_000):
            one = generate(port, wanted, 5, alone=True)
            print(f"rate, {wanted}/s wanted: {told(one)} (bar: 10,000/s)")


def lag() -> None:
    """2,000 requests/s for ten seconds."""
    with server("fast") as port:
        one = generate(port, 2000, 10, alone=True)
    print(f"lag, 2000/s for 10 s: {told(one)} (bar: 5 ms, 80 MB)")


def locust(python: str) -> None:
    """Locust as the stage calls it, against Locust by itself."""
    with tempfile.TemporaryDirectory() as place, server("fast") as port:
        folder = Path(place)
        (folder / "locustfile.py").write_text(LOCUSTFILE)
        program = str(Path(python).with_name("locust"))
        listener = str(Path(__file__).parent.parent / "pipeline/scan/load/listener.py")
        bare: list[float] = []
        ours: list[float] = []
        for _ in range(3):
            base = f"http://127.0.0.1:{port}"
            plain = [program, "-f", "locustfile.py", "--headless", "-u", "20", "-r", "20", "-t", "6s"]
            bare.append(_locust_rate([*plain, "-H", base, "--only-summary", "--json-file", "out"], folder))
            argv = locust_argv("locustfile.py", listener, base=base, users=20, seconds=6, out="out")
            ours.append(_locust_rate([program, *argv[1:]], folder))
    share = max(ours) / max(bare)
    print(f"locust: {max(ours):.0f}/s in the stage's way, {max(bare):.0f}/s bare: {share:.0%} (bar: 80 %)")


def _locust_rate(argv: list[str], folder: Path) -> float:
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root, "PIPELINE_LOAD_RESULT": str(folder / "result.json")}
    subprocess.run(pinned(argv, last=True), cwd=folder, env=env, check=True, capture_output=True)
    table = json.loads((folder / "out.json").read_text())
    return float(sum(one["num_requests"] for one in table)) / 6


def regression(runs: int, first: int) -> None:
    """A server whose times are 30 % longer, and one whose times are not, against a stored run.

    The three are measured side by side, and each is compared with what was stored a moment earlier, or last.
    """
    measured = [_three_of(number) for number in range(first, first + runs)]
    pairs = [(number - 1, number) for number in range(runs)]
    bar = f"(bar: 19 and 1 of 20); load {os.getloadavg()[0]:.1f}"
    print(f"regression: {_compared(measured, pairs)} {bar}")
    pairs = [(old, new) for old in range(runs) for new in range(runs) if abs(old - new) > 1]
    print(f"regression, each with all: {_compared(measured, pairs)}")
    seconds = sorted(
        (lag.mean(), geometric_mean(window))
        for before, same, _ in measured
        for one in (before, same)
        for window, lag in zip(one.endpoints[0].windows, one.generator.lag, strict=True)
        if window and lag
    )
    tenth = len(seconds) // 10
    for which, some in (("calmest", seconds[:tenth]), ("latest", seconds[-tenth:])):
        late, typical = (sum(column) / tenth * 1000 for column in zip(*some, strict=True))
        print(
            f"regression, the {which} tenth of the seconds: mean lag {late:.2f} ms, typical {typical:.1f} ms"
        )


def _compared(measured: list[list[Measurement]], pairs: list[tuple[int, int]]) -> str:
    """What comparing the first of one triple with the others of another comes to."""
    found = alarms = quiet_out = loud_out = 0
    for old, new in pairs:
        before, (_, same, slower) = measured[old][0], measured[new]
        changes, left_out = compare(before, same)
        alarms += any(one.is_slower for one in changes)
        quiet_out += bool(left_out)
        changes, left_out = compare(before, slower)
        found += any(one.is_slower for one in changes)
        loud_out += bool(left_out)
    return (
        f"30 % found in {found} of {len(pairs)}, {loud_out} not compared; "
        f"{alarms} false alarms, {quiet_out} not compared"
    )


def _three_of(number: int) -> list[Measurement]:
    typical = (0.020, 0.020, 0.026)
    with ThreadPoolExecutor(len(typical)) as pool:
        return list(pool.map(_noisy, typical, (3 * number + each for each in range(len(typical)))))


def _noisy(typical_s: float, seed: int) -> Measurement:
    with server("noisy", typical_s, seed) as port:
        return generate(port, 60, REGRESSION_S)


def main() -> None:
    """Measure and print the parts."""
    parts = ("stall", "rate", "lag", "locust", "regression")
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--locust", default=sys.executable)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the number of the first run: its seed")
    parser.add_argument("--serve", nargs=4)
    given = parser.parse_args()
    if given.serve:
        kind, port, typical_s, seed = given.serve
        asyncio.run(serve(kind, int(port), float(typical_s), int(seed)))
    wanted = given.parts or parts
    if "stall" in wanted:
        stall()
    if "rate" in wanted:
        rate()
    if "lag" in wanted:
        lag()
    if "locust" in wanted:
        locust(given.locust)
    if "regression" in wanted:
        regression(given.runs, given.first)


if __name__ == "__main__":
    main()
