"""The process that outlives a deployer: it keeps an engine's session open, and the instances in it running.

An instance that ends by itself is started again, later each time. What asks for all this is a target
(`deploy.targets.units`), by one line of JSON for each request on a socket in the unit's folder.

    python -m pipeline.cli.holder ROOT [--tunnel] FOLDER
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.cli.held import Held, configured, container_of, describe, last_lines
from pipeline.deploy.target import Fenced, TargetFailed
from pipeline.deploy.targets.haproxy import Proxy
from pipeline.deploy.targets.units import LINE_BYTES, LOCK, SOCKET, Instance
from pipeline.digest import digest_text
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagger

    from pipeline.engine.events import EngineEvent

IDLE_S: Final = 600.0  # without an instance, until it ends
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
QUIT_GRACE_S: Final = 10.0


@dataclass(kw_only=True)
class Holder:
    """One unit's instances, by name. Requests that change something come one after another."""

    client: dagger.Client
    unit: str
    tunnelled: bool
    fence: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    proxy: Proxy | None = None
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _used: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def logs(self) -> str:
        """The name of the volume that what they write is kept in."""
        return f"deploy-logs-{digest_text(self.unit).removeprefix('sha256:')[:16]}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what one connection asks for; it is done to its end whether or not anybody waits for it."""
        line = await reader.readline()
        if line:
            writer.write(json.dumps(await self._do(json.loads(line))).encode() + b"\n")
            with contextlib.suppress(OSError):  # whoever asked has gone
                await writer.drain()
        writer.close()

    async def watch_idle(self) -> None:
        """End when there has been nothing to hold for long; until then keep logs from growing without end."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._used < IDLE_S:
            await asyncio.sleep(min(IDLE_S, 10.0))
            if self.held:
                self._used = loop.time()
            for one in self.held.values():
                one.bound_log()
        self.enough.set()

    async def _do(self, asked: dict[str, Any]) -> dict[str, Any]:
        import dagger

        try:
            if asked["what"] in ("ping", "status"):
                return {"instances": [asdict(one.seen()) for one in self.held.values()]}
            async with self._lock:
                self._used = asyncio.get_running_loop().time()
                return await self._change(asked)
        except Fenced:
            return {"fenced": self.fence}
        except dagger.ExecError as error:
            return {
                "error": f"`{' '.join(error.command)}` ended with exit code {error.exit_code}",
                "logs": f"{error.stdout}\n{error.stderr}".strip(),
            }
        except (dagger.QueryError, PipelineError) as error:
            return {"error": str(error).strip(), "logs": getattr(error, "logs", "")}
        except TimeoutError:
            return {"error": f"it took longer than {asked['timeout_s']:g} s"}

    async def _change(self, asked: dict[str, Any]) -> dict[str, Any]:
        if (fence := asked.get("fence")) is not None:
            if fence < self.fence:
                raise Fenced(fence, self.fence)
            self.fence = fence
        instances = [Instance(**one) for one in asked.get("instances", ())]
        match asked["what"]:
            case "start":
                self.proxy = Proxy(Path(asked["proxy"]))
                for one in instances:
                    await self._start(one)
            case "stop":
                return {"killed": await self._stop(asked["names"])}
            case "quit":
                self.enough.set()
            case what:
                return await self._beside(what, instances, asked)
        return {}

    async def _beside(self, what: str, instances: list[Instance], asked: dict[str, Any]) -> dict[str, Any]:
        """Do what changes no instance."""
        match what:
            case "fetch":
                for one in {one.image: one for one in instances}.values():
                    await container_of(self.client, one).sync()
            case "run":
                return {"said": await self._run(instances[0], asked["argv"], asked["timeout_s"])}
            case "logs":
                return {"logs": await self._logs()}
            case other:
                raise TargetFailed(f"`{other}` is nothing that can be asked for")
        return {}

    async def _start(self, spec: Instance) -> None:
        old = self.held.get(spec.name)
        if old is not None and old.is_up:
            if spec.server:
                old.spec = spec
                self._tell_address(old)
            return
        mark = f"{os.getpid()}/{self.unit}/{spec.name}"
        service = await describe(self.client, spec, mark, self.held, self.logs)
        one = Held(spec=spec, mark=mark, service=service)
        self.held[spec.name] = one
        await self._begin(one)

    async def _begin(self, one: Held) -> None:
        await one.begin(self.client, tunnelled=self.tunnelled, on_end=lambda: self._begin_later(one))
        if one.is_up:
            self._tell_address(one)
        else:
            self._begin_later(one)

    def _tell_address(self, one: Held) -> None:
        if self.proxy is not None and one.spec.server and one.address and self.proxy.is_up():
            self.proxy.set_address(one.spec.server, one.address)

    def _begin_later(self, one: Held) -> None:
        task = asyncio.ensure_future(self._begin_again(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin_again(self, one: Held) -> None:
        sys.stderr.write(f"{one.spec.name}: {one.said}\n")
        await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** min(one.restarts, 10), LONGEST_PAUSE_S))
        async with self._lock:
            if self.held.get(one.spec.name) is one and not one.is_up:
                one.restarts += 1
                await self._begin(one)

    async def _stop(self, names: list[tuple[str, float]]) -> int:
        killed = 0
        for name, limit_s in names:
            one = self.held.pop(name, None)
            if one is not None:
                killed += await one.stop(limit_s)
        return killed

    async def _run(self, spec: Instance, argv: list[str], timeout_s: float) -> str:
        container = configured(self.client, spec)
        container = container.with_env_variable("PIPELINE_ASKED", os.urandom(8).hex())
        async with asyncio.timeout(timeout_s):
            return await container.with_exec(argv).stdout()

    async def _logs(self) -> Mapping[str, str]:
        return {
            one.spec.name: await last_lines(self.client, one.spec, self.logs) for one in self.held.values()
        }

    async def close(self) -> None:
        """Stop what still runs, the last first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stop([(name, QUIT_GRACE_S) for name in reversed(self.held)])


async def hold(root: Path, folder: Path, *, tunnelled: bool) -> None:
    """Serve requests until there is nothing more to hold, or SIGTERM."""
    from pipeline.config import load_config
    from pipeline.config.lock import load_lock
    from pipeline.connect import Target, engine_settings, open_session

    def observe(event: EngineEvent) -> None:
        """Tell nobody: what instances write is in their logs."""

    settings = engine_settings(load_config(root, environ=os.environ), load_lock(root))
    target = Target(kind="embedded")
    async with open_session(target, settings, workdir=root, observer=observe) as client:
        holder = Holder(client=client, unit=str(folder), tunnelled=tunnelled)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, holder.enough.set)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)
        server = await asyncio.start_unix_server(holder.answer, SOCKET, limit=LINE_BYTES)
        idle = asyncio.ensure_future(holder.watch_idle())
        try:
            await holder.enough.wait()
        finally:
            server.close()
            idle.cancel()
            await holder.close()


def main(argv: list[str]) -> int:
    """Take the unit's lock, or leave it to who has it."""
    root, *flags, folder = argv
    lock = os.open(Path(folder) / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    os.chdir(folder)
    try:
        asyncio.run(hold(Path(root), Path(folder), tunnelled="--tunnel" in flags))
    except PipelineError:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
