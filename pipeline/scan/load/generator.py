"""Send requests at a given rate whatever the service does, and time each from the moment it was due.

    python -m pipeline.scan.load.generator PLAN.json RESULT.json

An open workload: a slow answer never delays the next request, as users do not wait for each other either.
Runs inside a container: standard library only.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.load.connection import Connection, Endpoint, FineSelector, Job
from pipeline.scan.load.histogram import Histogram, merged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORKERS_START_S: Final = 1.0  # until all of them are up
SWEEP_S: Final = 0.02  # how often requests that took too long are looked for
ORDER_LENGTH: Final = 4096  # then it is repeated
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
BURST: Final = 32  # requests sent in a row
FORMAT: Final = 1


class Load:
    """One run of a plan by one process."""

    def __init__(self, plan: Mapping[str, Any], *, worker: int = 0, began: float | None = None) -> None:
        self.plan = plan
        self.heads: dict[bytes, tuple[int, int, bool]] = {}
        self.warmup_s = float(plan["warmup_s"])
        self.duration_s = float(plan["duration_s"])
        self.rate = float(plan["rate"])
        self.timeout_s = float(plan["timeout_s"])
        self.worker, self.workers = worker, int(plan.get("workers", 1))
        self.max_connections = max(1, int(plan["max_connections"]) // self.workers)
        self.seconds = math.ceil(self.duration_s)
        self.endpoints = [self._endpoint(table) for table in plan["requests"]]
        self._draw = random.Random(int(plan.get("seed", 1)))  # noqa: S311 - a workload, the same each time
        self._order = self._drawn_order([int(table.get("weight", 1)) for table in plan["requests"]])
        self.lags = [Histogram() for _ in range(self.seconds)]
        self.service = Histogram()  # from sending, not from when it was due
        self.due_count = self.attempted = 0
        self._began_wall = began
        self._idle: list[Connection] = []
        self._waiting: deque[Job] = deque()
        self._running: deque[Job] = deque()
        self._open = 0  # connections, those being made included
        self._connecting = 0
        self._index = 0
        self._offset = 0.0  # of the next request that is due, from the start
        self._last_error = ""

    def _endpoint(self, table: Mapping[str, Any]) -> Endpoint:
        method = str(table.get("method", "GET")).upper()
        return Endpoint(
            name=str(table["name"]),
            messages=[message_of(self.plan, method, path, table) for path in table["paths"]],
            is_head=method == "HEAD",
            is_safe=method in SAFE_METHODS,
            expected=frozenset(int(status) for status in table.get("expect", ())),
            windows=[Histogram() for _ in range(self.seconds)],
            failed=[0] * self.seconds,
        )

    def _drawn_order(self, weights: Sequence[int]) -> list[Endpoint]:
        """The endpoints in an order that is drawn, but exact to their weights in each round."""
        divisor = math.gcd(*weights)
        one = [
            endpoint
            for endpoint, weight in zip(self.endpoints, weights, strict=True)
            for _ in range(weight // divisor)
        ]
        order: list[Endpoint] = []
        while len(order) < ORDER_LENGTH:
            self._draw.shuffle(one)
            order += one
        return order

    async def run(self) -> dict[str, Any]:
        """Send everything, wait for the answers, and tell what came of it."""
        self._loop = asyncio.get_running_loop()
        self._tls = _tls_of(self.plan)
        self._address = (await self._resolve())[4]
        self._clock = time.monotonic
        wait_s = max(0.0, self._began_wall - time.time()) if self._began_wall is not None else 0.05
        self._began = self._clock() + wait_s
        self._over = self._loop.create_future()
        self._step(self.worker + 1)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection would delay what is due; objects here are freed by their counts
        self._loop.call_at(self._began, self._wake)
        self._loop.call_at(self._began + self.warmup_s, self._note_start)
        self._loop.call_at(self._began + self.warmup_s + self.duration_s, self._note_end)
        self._loop.call_later(SWEEP_S, self._sweep)
        self._start = self._end = (time.time(), time.process_time())
        await self._over
        return self._result()

    async def _resolve(self) -> Any:
        found = await self._loop.getaddrinfo(
            str(self.plan["host"]), int(self.plan["port"]), type=socket.SOCK_STREAM
        )
        return found[0]

    def _step(self, requests: int) -> None:
        """Go on to the request of this process that is due next: others send those between."""
        for _ in range(requests):
            if self.plan.get("arrival") == "poisson":
                self._offset += self._draw.expovariate(self.rate)
            else:
                self._offset = self._index / self.rate
            self._index += 1

    def _wake(self) -> None:
        """Send what is due."""
        end = self.warmup_s + self.duration_s
        for _ in range(BURST):
            if self._offset >= end:
                return
            due = self._began + self._offset
            now = self._clock()
            if due > now:
                self._loop.call_at(due, self._wake)
                return
            self._begin(due, now)
            self._step(self.workers)
        self._loop.call_soon(self._wake)  # when behind: answers must be read all the same

    def _begin(self, due: float, now: float) -> None:
        number = self._index // self.workers
        endpoint = self._order[self._index % len(self._order)]
        window = int(self._offset - self.warmup_s) if self._offset >= self.warmup_s else -1
        job = Job(endpoint, endpoint.messages[number % len(endpoint.messages)], due, window)
        if window >= 0:
            self.due_count += 1
            self.lags[window].record(now - due)
            # What must wait for another request's connection is not sent when it is due.
            self.attempted += bool(self._idle) or self._open < self.max_connections
        self._running.append(job)
        if self._idle:
            self._idle.pop().send(job, now)
        else:
            self._waiting.append(job)
            self._connect()

    def _connect(self) -> None:
        """Open a connection for whoever waits, within the limit."""
        if self._open < self.max_connections and self._connecting < len(self._waiting):
            self._open += 1
            self._connecting += 1
            task = self._loop.create_task(self._open_one())
            task.add_done_callback(self._opened)

    async def _open_one(self) -> None:
        host = str(self.plan["host"]) if self._tls else None
        await self._loop.create_connection(
            lambda: Connection(self),
            *self._address[:2],
            ssl=self._tls,
            server_hostname=host,
            ssl_handshake_timeout=self.timeout_s if self._tls else None,
        )

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._connecting -= 1
        if task.cancelled():
            return  # the run is over
        error = task.exception()
        if error is not None:
            self._open -= 1
            self._last_error = str(error)
            while self._waiting:
                job = self._waiting.popleft()
                if not job.is_over:
                    self.failed(job, "connect")
                    break
            self._connect()

    def free(self, connection: Connection) -> None:
        """Give a connection to the request that waits longest, else keep it."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.is_over:
                connection.send(job, self._clock())
                return
        self._idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """Forget a connection that was closed."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._connect()

    def again(self, job: Job) -> None:
        """Send a request once more, before all others."""
        self._waiting.appendleft(job)
        self._connect()

    def answered(self, job: Job, status: int) -> None:
        """Count an answer."""
        if job.is_over:
            return
        job.is_over = True
        job.connection = None
        if job.window < 0:
            return
        endpoint = job.endpoint
        is_good = status in endpoint.expected if endpoint.expected else status < 400
        if is_good:
            now = self._clock()
            endpoint.windows[job.window].record(now - job.due)
            self.service.record(now - job.sent_at)
        else:
            self._count(job, f"status {status}")

    def failed(self, job: Job, kind: str) -> None:
        """Count a request that got no answer."""
        if not job.is_over:
            job.is_over = True
            job.connection = None
            if job.window >= 0:
                self._count(job, kind)

    def _count(self, job: Job, kind: str) -> None:
        endpoint = job.endpoint
        endpoint.failed[job.window] += 1
        endpoint.errors[kind] = endpoint.errors.get(kind, 0) + 1

    def _sweep(self) -> None:
        """End what takes too long; end the run when all is over."""
        now = self._clock()
        running = self._running
        while running and (running[0].is_over or running[0].due + self.timeout_s <= now):
            job = running.popleft()
            if job.is_over:
                continue
            connection = job.connection
            if job.window >= 0:
                # A request nobody answered took at least this long: leaving it out would flatter the service.
                job.endpoint.windows[job.window].record(self.timeout_s)
            self.failed(job, "timeout")
            if connection is not None:
                connection.abort()
        is_done = self._offset >= self.warmup_s + self.duration_s and not running
        if is_done and now >= self._began + self.warmup_s + self.duration_s:
            self._loop.call_soon(self._over.set_result, None)
        else:
            self._loop.call_later(SWEEP_S, self._sweep)

    def _note_start(self) -> None:
        self._start = (time.time(), time.process_time())

    def _note_end(self) -> None:
        self._end = (time.time(), time.process_time())

    def _result(self) -> dict[str, Any]:
        wall_s = self._end[0] - self._start[0]
        return {
            "format": FORMAT,
            "workload": "open",
            "began_at": self._start[0],
            "ended_at": self._end[0],
            "warmup_s": self.warmup_s,
            "duration_s": self.duration_s,
            "target_rate": self.rate,
            "due": self.due_count,
            "attempted": self.attempted,
            "generator": {
                "cpu": (self._end[1] - self._start[1]) / wall_s if wall_s > 0 else 1.0,
                "memory_bytes": most_memory(),
                "lag": [lag.to_json() for lag in self.lags],
                "last_error": self._last_error,
            },
            "service_time": self.service.to_json(),
            "endpoints": {
                one.name: {
                    "windows": [window.to_json() for window in one.windows],
                    "failed": one.failed,
                    "errors": one.errors,
                }
                for one in self.endpoints
            },
        }


def message_of(plan: Mapping[str, Any], method: str, path: str, table: Mapping[str, Any]) -> bytes:
    """The bytes of one request."""
    body = str(table.get("body", "")).encode()
    host, port = str(plan["host"]), int(plan["port"])
    standard = 443 if plan.get("tls") else 80
    headers = {
        "host": host if port == standard else f"{host}:{port}",
        "user-agent": "pipeline-load",
        "accept": "*/*",
    }
    if body or method in ("POST", "PUT", "PATCH"):
        headers["content-length"] = str(len(body))
    headers |= {str(name).lower(): str(value) for name, value in dict(table.get("headers", {})).items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def most_memory() -> int:
    """The most memory this process had at once, in bytes; `ru_maxrss` would count that of who started it."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _tls_of(plan: Mapping[str, Any]) -> ssl.SSLContext | None:
    if not plan.get("tls"):
        return None
    context = ssl.create_default_context()
    if not plan.get("verify", True):  # the user said so, of a service of theirs
        context.check_hostname = False  # nosemgrep
        context.verify_mode = ssl.CERT_NONE  # nosemgrep
    return context


def allow_connections() -> None:
    """Raise the limit of open files to what this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_plan(plan: Mapping[str, Any], *, worker: int = 0, began: float | None = None) -> dict[str, Any]:
    """Run a plan, or one worker's share of it, in this process and an event loop of its own.

    Args:
        began: When to begin, in seconds since 1970; at once when None.
    """
    allow_connections()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FineSelector())) as runner:
        return runner.run(Load(plan, worker=worker, began=began).run())


def merge_results(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of those of several workers."""
    first = dict(results[0])
    generators = [one["generator"] for one in results]
    first |= {key: sum(int(one[key]) for one in results) for key in ("due", "attempted")}
    first["service_time"] = _merged([one["service_time"] for one in results])
    first["generator"] = {
        "cpu": max(one["cpu"] for one in generators),
        "memory_bytes": sum(one["memory_bytes"] for one in generators),
        "lag": [_merged(lags) for lags in zip(*(one["lag"] for one in generators), strict=True)],
        "last_error": next((one["last_error"] for one in generators if one["last_error"]), ""),
    }
    first["endpoints"] = {
        name: _merged_endpoint([one["endpoints"][name] for one in results]) for name in first["endpoints"]
    }
    return first


def _merged(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return merged(Histogram.from_json(one) for one in counts).to_json()


def _merged_endpoint(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part["errors"])
    return {
        "windows": [_merged(windows) for windows in zip(*(part["windows"] for part in parts), strict=True)],
        "failed": [sum(failed) for failed in zip(*(part["failed"] for part in parts), strict=True)],
        "errors": dict(errors),
    }


def run_workers(plan_path: str, workers: int) -> dict[str, Any]:
    """Run a plan in several processes, which begin at one moment.

    Raises:
        CalledProcessError: One of them failed.
    """
    began = time.time() + WORKERS_START_S
    argv = [sys.executable, "-m", "pipeline.scan.load.generator", plan_path, "-"]
    running = [
        subprocess.Popen([*argv, str(worker), repr(began)], stdout=subprocess.PIPE)
        for worker in range(workers)
    ]
    said = [one.communicate()[0] for one in running]
    for one in running:
        if one.returncode:
            raise subprocess.CalledProcessError(one.returncode, argv)
    return merge_results([json.loads(text) for text in said])


def main(argv: list[str]) -> int:
    """Run the plan of a file and write the result into another, or to stdout for `-`."""
    plan = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    workers = int(plan.get("workers", 1))
    if len(argv) > 2:
        result = run_plan(plan, worker=int(argv[2]), began=float(argv[3]))
    elif workers > 1:
        result = run_workers(argv[0], workers)
    else:
        result = run_plan(plan)
    text = json.dumps(result)
    if argv[1] == "-":
        sys.stdout.write(text)
    else:
        Path(argv[1]).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
