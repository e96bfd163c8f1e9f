"""Services beside the tests of a stage: started healthy, bound under their names, ended, their logs kept."""

from __future__ import annotations

import re
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.digest import digest_text
from pipeline.stages.containers import StageBroken
from pipeline.stages.localhost import with_localhost
from pipeline.stages.service_containers import LOGS, described, log_path
from pipeline.stages.service_settings import chosen_services, waves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import dagger

    from pipeline.config import ServiceSettings
    from pipeline.graph.context import Context

KILL_AFTER_S: Final = 5.0  # of asking one service to end
STOP_LIMIT_S: Final = 15.0  # of all services together, and as long again for their logs
TAIL_LINES: Final = 30
LOG_BYTES: Final = 16_000_000  # of one service; the last ones are kept
ENDED: Final = re.compile(r"bound service \S+ \(aliased as (\S+)\) exited: exit code: (-?\d+)")
COLLECT: Final = """cd "$1" && mkdir /collected && for log in *.log; do
  if [ -f "$log" ] && [ ! -L "$log" ]; then tail -c "$2" "$log" > "/collected/$log"; fi
done
rm -rf "$1"
"""
# Every image of ours has bash, few have curl: bash opens connections by itself.
PROBE: Final = """until (
  exec 3<>"/dev/tcp/$1/$2" || exit 1
  printf 'GET %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n' "$3" "$1" >&3
  read -r -t 5 _ code _ <&3
  case "$code" in 2*|3*) exit 0;; esac
  exit 1
) 2>/dev/null; do sleep "$4"; done
"""


class ServiceFailed(StageBroken):
    """A service did not become healthy, or ended while tests used it; `tail` are its last lines."""

    def __init__(self, name: str, what: str, tail: Sequence[str]) -> None:
        said = tail or ("it wrote nothing",)
        super().__init__("\n".join([f"service `{name}` {what}; its last lines:", *said]))
        self.service = name
        self.tail = tuple(tail)


@asynccontextmanager
async def with_services(
    ctx: Context, container: dagger.Container, *, keeper: dagger.Container | None = None
) -> AsyncIterator[dagger.Container]:
    """Lend `container` with the stage's services bound to it under their names.

    They are healthy on entry. Afterwards they are ended, and what they wrote is kept as
    `services/NAME.log`. Each stage and attempt has services of its own.

    Args:
        keeper: Has a shell and bash, and looks after the logs; None where `container` has them.

    Raises:
        StageBroken: What is declared, or the compose file, cannot be used; says everything that is wrong.
        ServiceFailed: A service is not healthy in its time, or ends in the body.
    """
    services = chosen_services(ctx)
    if not services:
        yield container
        return
    group = ServiceGroup(ctx, services, keeper or container)
    try:
        try:
            await group.start()
            yield await with_localhost(group.bound(container), services)
        finally:
            await group.end()
    except Exception as error:
        if (failed := group.failure(error)) is not None:
            raise failed from error
        raise


class ServiceGroup:
    """The services of one attempt at a stage.

    Args:
        container: Has a shell and bash; looks after their logs and asks them for health.
    """

    def __init__(
        self, ctx: Context, services: Mapping[str, ServiceSettings], container: dagger.Container
    ) -> None:
        self.ctx = ctx
        self.settings = services
        self.container = container
        self.running: dict[str, dagger.Service] = {}
        self.logs: dict[str, str] = {}  # once they have ended
        self.never_healthy: dict[str, str] = {}  # why

    async def start(self) -> None:
        """Start all, those that others need first, and wait until each is healthy."""
        keeper = await self._keeper()
        await keeper.with_exec(["install", "-d", "-m", "0777", log_path(self.ctx)]).sync()
        for names in waves(self.settings):
            self.ctx.log(f"starting {', '.join(names)}\n")
            async with anyio.create_task_group() as tasks:
                for name in names:
                    tasks.start_soon(self._start, name)

    def bound(self, container: dagger.Container) -> dagger.Container:
        """Return the container with every service bound under its name."""
        for name, service in self.running.items():
            container = container.with_service_binding(name, service)
        return container

    async def end(self) -> None:
        """End all of them and keep their logs; bounded, also when the stage is being cancelled."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(STOP_LIMIT_S) as limit:
                for name in reversed(self.running):
                    await self._stop(name)
            if limit.cancelled_caught:
                self.ctx.log(f"services did not end within {STOP_LIMIT_S:g} s\n")
            with anyio.move_on_after(STOP_LIMIT_S) as limit:
                await self._collect()
            if limit.cancelled_caught:
                self.ctx.log("the logs of the services could not be read in time\n")

    def failure(self, error: BaseException) -> ServiceFailed | None:
        """Return what a service has to do with an error, with its last lines; None when it has nothing."""
        name, what = "", ""
        if self.never_healthy:
            name, what = next(iter(self.never_healthy.items()))
        elif found := ENDED.search(_words(error)):
            name, what = found[1], f"ended with exit code {found[2]} while it was in use"
        if not name:
            return None
        return ServiceFailed(name, what, self.logs.get(name, "").splitlines()[-TAIL_LINES:])

    async def _keeper(self) -> dagger.Container:
        """Return a container that sees the logs and is never answered from a cache."""
        client = await self.ctx.dagger()
        volume = client.cache_volume(f"service-logs {self.ctx.stage} {digest_text(str(self.ctx.root))}")
        now = f"{self.ctx.run_id}.{self.ctx.stage}.{self.ctx.attempt}"
        container = self.container.with_user("0").with_env_variable("PIPELINE_RUN", now)
        return container.with_mounted_cache(LOGS, volume)

    async def _start(self, name: str) -> None:
        import dagger

        one = self.settings[name]
        service = await described(self.ctx, name, one, self.running)
        self.running[name] = service
        try:
            with anyio.fail_after(one.timeout_s):
                await service.start()
                await self._answer(name, one)
        except TimeoutError:
            self.never_healthy[name] = f"was not healthy within {one.timeout_s:g} s"
        except dagger.ExecError as error:
            self.never_healthy[name] = f"ended before it was healthy: {str(error).partition(chr(10))[0]}"
            self.ctx.log(f"{name}: {error.stdout}{error.stderr}\n")
        except dagger.QueryError as error:
            self.never_healthy[name] = f"did not start: {error}"
        if name in self.never_healthy:
            raise StageBroken(f"service `{name}` {self.never_healthy[name]}")

    async def _answer(self, name: str, one: ServiceSettings) -> None:
        """Wait until the service answers its HTTP check, if it has one."""
        if one.healthcheck is None or one.healthcheck.http is None:
            return
        port, _, path = one.healthcheck.http.removeprefix(":").partition("/")
        asked = [name, port or str(one.ports[0]), f"/{path}", f"{one.healthcheck.interval_s:g}"]
        probe = (await self._keeper()).with_service_binding(name, self.running[name])
        await probe.with_exec(["bash", "-c", PROBE, "probe", *asked]).sync()

    async def _stop(self, name: str) -> None:
        import dagger

        service = self.running[name]
        try:
            with anyio.move_on_after(KILL_AFTER_S if name not in self.never_healthy else 0.0) as limit:
                await service.stop()
            if limit.cancelled_caught:
                await service.stop(kill=True)
        except dagger.QueryError as error:
            self.ctx.log(f"service `{name}` did not end: {error}\n")

    async def _collect(self) -> None:
        import dagger

        argv = ["sh", "-c", COLLECT, "collect", log_path(self.ctx), str(LOG_BYTES)]
        try:
            done = (await self._keeper()).with_exec(argv)
            with tempfile.TemporaryDirectory() as folder:
                await done.directory("/collected").export(folder)
                self._keep(Path(folder))
        except dagger.QueryError as error:
            self.ctx.log(f"the logs of the services cannot be read: {error}\n")

    def _keep(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.log")):
            self.logs[path.stem] = path.read_text(encoding="utf-8", errors="replace")
            self.ctx.keep(f"services/{path.name}", path)


def _words(error: BaseException) -> str:
    """Return what an error says, or all that were raised together."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(map(_words, error.exceptions))
    return str(error)
