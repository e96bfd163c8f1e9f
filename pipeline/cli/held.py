"""One instance as a holder runs it: a service of the engine, its process, and where it is reached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.deploy.targets.units import Seen
from pipeline.engine.ops import KEPT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dagger

    from pipeline.deploy.targets.units import Instance

LOGS: Final = "/.deploy-logs"
TO_LOG: Final = 'log="$1"; shift; exec "$@" >> "$log" 2>&1'
LOG_LINES: Final = 200
LOG_BYTES: Final = 64 << 20
MARK: Final = "PIPELINE_INSTANCE"
BEGIN_LIMIT_S: Final = 5.0  # until the process of a service that was started is seen
REACH_LIMIT_S: Final = 2.0
LOCAL: Final = re.compile(r"\|-- ([\d.]+)\n\s+/32 host LOCAL")


@dataclass(kw_only=True)
class Held:
    """One instance that should run. Whoever changes it holds the holder's lock."""

    spec: Instance
    mark: str  # the value of `MARK`, by which its process is found
    service: dagger.Service
    tunnel: dagger.Service | None = None
    address: str = ""
    pid: int = 0
    pidfd: int = -1
    restarts: int = 0
    said: str = ""
    _on_end: Callable[[], None] = field(default=lambda: None)

    @property
    def is_up(self) -> bool:
        return self.pidfd >= 0

    def seen(self) -> Seen:
        return Seen(
            name=self.spec.name,
            service=self.spec.service,
            up=self.is_up,
            address=self.address,
            pid=self.pid,
            restarts=self.restarts,
            said=self.said,
        )

    async def begin(self, client: dagger.Client, *, tunnelled: bool, on_end: Callable[[], None]) -> None:
        """Start it, find its process, and the address it is reached at; `on_end` is called when it ends."""
        import dagger

        await self.end_tunnel()
        try:
            await self.service.start()
        except dagger.QueryError as error:
            self.said = str(error).strip().partition("\n")[0]
            return
        self.pid = await find_process(self.mark)
        if not self.pid:
            self.said = "it ended at once"
            return
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self.said = "it ended at once"
            return
        asyncio.get_running_loop().add_reader(self.pidfd, self._ended, on_end)
        self.said = ""
        if self.spec.port is not None:
            await self._find_address(client, self.spec.port, tunnelled=tunnelled)

    async def stop(self, limit_s: float) -> bool:
        """SIGTERM, and SIGKILL after `limit_s`; say whether that was needed."""
        await self.end_tunnel()
        pid = self.pid if self.is_up else 0
        self.forget()
        ending = asyncio.ensure_future(_finish(self.service))
        done, _ = await asyncio.wait([ending], timeout=limit_s)
        if not done and pid:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        await ending
        return not done

    async def end_tunnel(self) -> None:
        """Close what leads to it from loopback."""
        if self.tunnel is not None:
            tunnel, self.tunnel = self.tunnel, None
            await tunnel.stop()

    def bound_log(self) -> None:
        """Begin the file that it writes to anew when that has grown too long."""
        file = f"/proc/{self.pid}/fd/1"
        with contextlib.suppress(OSError):  # it has just ended, or closed its output
            found = os.stat(file)
            if self.is_up and stat.S_ISREG(found.st_mode) and found.st_size > LOG_BYTES:
                os.truncate(file, 0)

    def forget(self) -> None:
        """Look at its process no longer."""
        if self.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    def _ended(self, on_end: Callable[[], None]) -> None:
        self.forget()
        self.said = "it ended by itself"
        on_end()

    async def _find_address(self, client: dagger.Client, port: int, *, tunnelled: bool) -> None:
        import dagger

        direct = address_of(self.pid)
        if direct and not tunnelled and not self.spec.front and await _leads_there(direct, port):
            self.address = f"{direct}:{port}"
            return
        forward = dagger.PortForward(backend=port, frontend=self.spec.front)
        self.tunnel = client.host().tunnel(self.service, ports=[forward])
        await self.tunnel.start()
        self.address = await self.tunnel.endpoint()


async def _finish(service: dagger.Service) -> None:
    await service.stop()


async def describe(
    client: dagger.Client, spec: Instance, mark: str, others: Mapping[str, Held], logs: str
) -> dagger.Service:
    """Return the service of an instance; what it needs is bound to it under its name."""
    container = configured(client, spec)
    for alias, name in spec.bound.items():
        container = container.with_service_binding(alias, others[name].service)
    container = container.with_env_variable(MARK, mark)
    if spec.port is not None:
        container = container.with_exposed_port(spec.port, experimental_skip_healthcheck=True)
    args = list(spec.command if spec.command is not None else await container.default_args())
    argv = [*await container.entrypoint(), *args]
    if not await container.exists("/bin/sh"):
        return container.as_service(args=argv)
    volume = client.cache_volume(logs)
    keeper = container_of(client, spec).with_user("0").with_mounted_cache(LOGS, volume)
    await keeper.with_exec(["/bin/sh", "-c", f"mkdir -p -m 0777 {LOGS}/{logs}"]).sync()
    container = container.with_mounted_cache(LOGS, volume)
    return container.as_service(args=["/bin/sh", "-c", TO_LOG, "log", f"{LOGS}/{logs}/{spec.name}", *argv])


async def last_lines(client: dagger.Client, spec: Instance, logs: str) -> str:
    """The end of what an instance wrote; "" where its image has no shell, and so nothing was kept."""
    container = container_of(client, spec)
    if not await container.exists("/bin/sh"):
        return ""
    container = container.with_user("0").with_mounted_cache(LOGS, client.cache_volume(logs))
    container = container.with_env_variable("PIPELINE_ASKED", str(time.time_ns()))
    argv = ["/bin/sh", "-c", f'tail -n {LOG_LINES} "$1" 2>/dev/null || true', "tail"]
    return await container.with_exec([*argv, f"{LOGS}/{logs}/{spec.name}"]).stdout()


def container_of(client: dagger.Client, spec: Instance) -> dagger.Container:
    """The image alone."""
    if spec.archive:
        return client.container().import_(client.host().file(spec.archive))
    return client.container().from_(spec.image)


def configured(client: dagger.Client, spec: Instance) -> dagger.Container:
    """The image with what the release says about it, and the services outside that it needs."""
    import dagger

    container = container_of(client, spec)
    for name, value in spec.env.items():
        container = container.with_env_variable(name, value)
    for name, value in spec.secrets.items():
        container = container.with_secret_variable(name, client.set_secret(f"{spec.name} {name}", value))
    for path, volume in spec.volumes.items():
        container = container.with_mounted_cache(path, client.cache_volume(KEPT + volume))
    for alias, (port, front) in spec.outside.items():
        forward = dagger.PortForward(backend=front, frontend=port)
        container = container.with_service_binding(alias, client.host().service([forward]))
    return container


async def find_process(mark: str) -> int:
    """The first process that has the mark in its environment; 0 when none is seen in time."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + BEGIN_LIMIT_S
    wanted = f"{MARK}={mark}".encode()
    while loop.time() < give_up:
        if found := _first_process(wanted):
            return found
        await asyncio.sleep(0.02)
    return 0


def _first_process(variable: bytes) -> int:
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is somebody else's
        if variable in variables:
            return pid
    return 0


def address_of(pid: int) -> str:
    """The address of a process's network that is not loopback; "" when none is to be seen."""
    try:
        text = Path(f"/proc/{pid}/net/fib_trie").read_text()
    except OSError:
        return ""
    return next((found for found in LOCAL.findall(text) if not found.startswith("127.")), "")


async def _leads_there(host: str, port: int) -> bool:
    """Whether this machine reaches that network: being refused is an answer as well."""
    try:
        async with asyncio.timeout(REACH_LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
