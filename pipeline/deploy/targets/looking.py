"""Looks at an instance on this machine: whether it is ready, and what its processes take."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.deploy.target import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config.delivery import ReadySettings
    from pipeline.deploy.targets.units import Seen

USUAL_LIMIT_S: Final = 2.0
WORDS: Final = 200  # of an answer that is shown
_OK: Final = range(200, 400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What an instance's processes have taken until `at`, in seconds of a clock that never jumps."""

    cpu_s: float
    memory_bytes: int
    at: float

    def percent_since(self, before: Taken, cpus: float) -> float:
        """How much of its CPUs it has used since, in percent."""
        passed_s = max(self.at - before.at, 1e-3)
        return max(0.0, 100 * (self.cpu_s - before.cpu_s) / passed_s / cpus)


async def probe_instance(seen: Seen, rules: ReadySettings | None, port: int | None) -> Probe:
    """Look once whether an instance is ready; without rules it is when its port takes connections."""
    limit_s = rules.timeout_s if rules is not None else USUAL_LIMIT_S
    version = ""
    try:
        async with asyncio.timeout(limit_s):
            if not seen.up:
                passed, said = False, seen.said or "it does not run"
            elif rules is not None and rules.command is not None:
                passed, said = await _run_inside(seen.pid, tuple(rules.command))
            elif rules is not None and rules.path is not None and seen.address:
                passed, said, version = await _get(seen.address, rules.path, rules.version, limit_s)
            elif port is not None or (rules is not None and rules.tcp is not None):
                passed, said = await _connect(seen, rules)
            else:
                passed, said = True, "it runs"
    except TimeoutError:
        passed, said = False, f"no answer in {limit_s:g} s"
    return Probe(
        service=seen.service,
        instance=seen.name.rpartition("-")[2],
        passed=passed,
        said=said,
        restarts=seen.restarts,
        version=version,
    )


def taken_by(pid: int) -> Taken:
    """Sum up a process and all that it has started."""
    ticks, pages = 0, 0
    for each in _family(pid):
        try:
            words = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        ticks += sum(int(word) for word in words[11:15])
    return Taken(
        cpu_s=ticks / os.sysconf("SC_CLK_TCK"),
        memory_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        at=time.monotonic(),
    )


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from _family(int(child))


async def _get(address: str, path: str, key: str | None, limit_s: float) -> tuple[bool, str, str]:
    import httpx

    async with httpx.AsyncClient(timeout=limit_s, trust_env=False, follow_redirects=False) as client:
        try:
            answer = await client.get(f"http://{address}{path}")
        except httpx.HTTPError as error:
            return False, str(error) or type(error).__name__, ""
    if answer.status_code not in _OK:
        return False, f"{answer.status_code} {answer.text.strip()[:WORDS]}".strip(), ""
    return True, str(answer.status_code), _version(answer, key) if key is not None else ""


def _version(answer: Any, key: str) -> str:
    try:
        told = answer.json()
    except ValueError:
        return ""
    return str(told.get(key, "")) if isinstance(told, dict) else ""


async def _connect(seen: Seen, rules: ReadySettings | None) -> tuple[bool, str]:
    host, _, port = seen.address.rpartition(":")
    number = (
        rules.tcp if rules is not None and rules.tcp is not None and not host.startswith("127.") else port
    )
    try:
        _, writer = await asyncio.open_connection(host, int(number))
    except OSError as error:
        return False, (error.strerror or str(error)).lower()
    writer.close()
    return True, "it takes connections"


async def _run_inside(pid: int, argv: tuple[str, ...]) -> tuple[bool, str]:
    """Run a command among an instance's processes, as its user."""
    try:
        user, group, environ = _who(pid)
    except OSError as error:
        return False, f"cannot look inside: {error.strerror}"
    places = ["--mount", "--net", "--pid", "--uts", "--ipc", "--root", "--wd"]
    who = ["--setuid", user, "--setgid", group]
    process = await asyncio.create_subprocess_exec(
        *["/usr/bin/nsenter", "--target", str(pid), *places, *who, "--", *argv],
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    words = output.decode(errors="replace").strip().rpartition("\n")[2][:WORDS]
    return process.returncode == 0, words or f"exit code {process.returncode}"


def _who(pid: int) -> tuple[str, str, dict[str, str]]:
    """User, group and variables of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = [os.fsdecode(word).partition("=") for word in words if b"=" in word]
    return status["Uid"].split()[0], status["Gid"].split()[0], {name: value for name, _, value in pairs}
