"""Holders: processes that outlive a deployer, each with one engine's session and the instances in it.

A unit is a folder of the environment: the holder's lock, its socket and what it said. It is up exactly as
long as its holder has the lock. What a holder does lies in `pipeline.cli.holder`; here is what one is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.deploy.target import Fenced, TargetFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SOCKET: Final = "holder.sock"
LOCK: Final = "holder.lock"
LOG: Final = "holder.log"
START_LIMIT_S: Final = 90.0
QUIT_LIMIT_S: Final = 60.0
FIRST_SIGN_S: Final = 20.0  # from its start until it has the lock
LINE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What a holder is to run.

    `bound` maps names to instances of the same holder; `outside` to a port and one of loopback.
    """

    name: str  # "api-1"
    service: str
    image: str  # a reference with its digest
    archive: str = ""  # the OCI archive that holds it; "": it is pulled
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    port: int | None = None
    front: int = 0  # a port of loopback that always leads to it; 0: none
    volumes: Mapping[str, str] = field(default_factory=dict)
    bound: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    server: str = ""  # what the proxy calls it; "": it gets nothing from there


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One instance as its holder sees it. `address` is "host:port", or "" without a port."""

    name: str
    service: str
    up: bool
    address: str = ""
    pid: int = 0
    restarts: int = 0
    said: str = ""  # why it is not up


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One holder's folder. `command` starts the holder; the folder is added to it."""

    folder: Path
    command: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.folder.name

    def is_up(self) -> bool:
        """Whether its holder lives."""
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    async def ensure(self) -> None:
        """Start its holder, unless it lives.

        Raises:
            TargetFailed: It does not come up; carries what it said.
        """
        if not self.is_up():
            self._begin()
        began = anyio.current_time()
        while not await self._answers():
            waited = anyio.current_time() - began
            if waited > START_LIMIT_S or (waited > FIRST_SIGN_S and not self.is_up()):
                raise TargetFailed(
                    f"cannot start what holds `{self.id}`: it does not answer", logs=self.log()
                )
            await anyio.sleep(0.05)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.folder / LOG, "ab") as log:
            argv = ["setsid", "--fork", *self.command, os.fspath(self.folder)]
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    async def start(self, fence: int, instances: Sequence[Instance], proxy: str) -> None:
        """Start instances that do not run, in this order. `proxy` is the folder of the proxy's socket."""
        plain = [asdict(one) for one in instances]
        await self._ask("start", fence=fence, instances=plain, proxy=proxy)

    async def stop(self, fence: int, names: Mapping[str, float]) -> int:
        """Stop instances in this order, each with its time until SIGKILL; return how many were killed."""
        told = await self._ask("stop", fence=fence, names=list(names.items()))
        return int(told["killed"])

    async def fetch(self, fence: int, instances: Sequence[Instance]) -> None:
        """Bring the images into the engine."""
        await self._ask("fetch", fence=fence, instances=[asdict(one) for one in instances])

    async def run(self, fence: int, instance: Instance, command: Sequence[str], timeout_s: float) -> str:
        """Run a command once in a fresh container like that instance's; return what it printed."""
        told = await self._ask(
            "run", fence=fence, instances=[asdict(instance)], argv=list(command), timeout_s=timeout_s
        )
        return str(told["said"])

    async def status(self) -> tuple[Seen, ...]:
        """All instances that should run; () when the holder is gone."""
        if not self.is_up():
            return ()
        try:
            told = await self._ask("status")
        except TargetFailed:
            if self.is_up():
                raise
            return ()
        return tuple(Seen(**one) for one in told["instances"])

    async def logs(self) -> Mapping[str, bytes]:
        """The last lines of every instance, and of the holder, by file name."""
        found = {f"{self.id}.holder.log": self.log().encode()}
        if self.is_up():
            told = await self._ask("logs")
            found |= {f"{name}.log": text.encode() for name, text in told["logs"].items()}
        return found

    async def quit(self) -> None:
        """End the holder, and whatever still runs in it; returns when it is gone."""
        if self.is_up():
            await self._ask("quit")
        with anyio.fail_after(QUIT_LIMIT_S):
            while self.is_up():  # noqa: ASYNC110 - another process's lock
                await anyio.sleep(0.02)

    def log(self) -> str:
        """The last lines that the holder said."""
        try:
            with open(self.folder / LOG, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def remove(self) -> None:
        """Remove the folder of a unit that is not up."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(5):
                await self._ask("ping")
        except (OSError, TimeoutError, TargetFailed):
            return False
        return True

    async def _ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Ask the holder one thing.

        Raises:
            TargetFailed: It could not do it, or is gone.
            Fenced: A later deployer has asked it before.
        """
        try:
            with short_path(self.folder, SOCKET) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
            try:
                writer.write(json.dumps({"what": what, **more}).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
            told = json.loads(line) if line else {"error": "it ended before it answered"}
        except (OSError, ValueError) as error:
            raise TargetFailed(f"cannot reach what holds `{self.id}`: {error}", logs=self.log()) from error
        if "fenced" in told:
            raise Fenced(int(more["fence"]), int(told["fenced"]))
        if "error" in told:
            raise TargetFailed(f"cannot {what} in `{self.id}`: {told['error']}", logs=told.get("logs", ""))
        return dict(told)


@contextlib.contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """Lend a path that fits into a socket's address, however deep the folder lies."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
