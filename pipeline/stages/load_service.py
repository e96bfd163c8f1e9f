"""The service a load test is aimed at: the built image or a command, with a sampler beside it."""

from __future__ import annotations

import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from pipeline.digest import digest_text
from pipeline.scan.load.programs import PACKAGE, program_files
from pipeline.stages.containers import (
    SOURCE,
    StageBroken,
    source,
    stage_env,
    take,
    with_env,
    with_system_packages,
)
from pipeline.stages.service_containers import LOGS, log_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import dagger

    from pipeline.config import PerformanceSettings
    from pipeline.graph.context import Context
    from pipeline.stages.results import Deps, Image, Images

ALIAS: Final = "service"
LOAD: Final = "/load"
PYTHON: Final = "/.pipeline-load"  # a Python for the sampler, in whatever image the service has
SAMPLER_PORT: Final = 61_208
HEALTH_GUESSES: Final = ("/health", "/healthz", "/")
DESCRIPTIONS: Final = ("/openapi.json", "/api/openapi.json", "/api/schema", "/swagger.json")
TOLD: Final = "/told.json"
STOP_LIMIT_S: Final = 15.0
LOG_LINES: Final = 20
LOG_BYTES: Final = 65_536
ENDED: Final = re.compile(rf"bound service \S+ \(aliased as {ALIAS}\) exited: exit code: (-?\d+)")
LAST: Final = 'tail -c "$2" "$1/service.log" 2>/dev/null || true'
HEALTH_URL: Final = re.compile(
    r"https?://(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::\d+)?(/[^\s'\",)\]]*)"
)


class ServiceUnknown(StageBroken):
    """It cannot be told what to start, or where it listens."""


class ServiceDown(StageBroken):
    """The service did not become ready, or ended while it was in use; `tail` are its last lines."""

    def __init__(self, what: str, log: str) -> None:
        self.tail = tuple(log.splitlines()[-LOG_LINES:])
        super().__init__("\n".join([f"the service {what}; its last lines:", *(self.tail or ("(nothing)",))]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A service that answers."""

    base: str  # its address for containers it is bound to
    container: dagger.Container  # a Python with our programs, and the service bound to it
    description: dict[str, Any] | None  # OpenAPI
    machine: str  # what the figures depend on


def with_programs(container: dagger.Container) -> dagger.Container:
    """Put our programs at `/load`, ready to be imported."""
    for path, text in program_files().items():
        container = container.with_new_file(f"{LOAD}/{path}", text)
    return container.with_env_variable("PYTHONPATH", LOAD).with_workdir(LOAD)


def chosen_image(images: Images, settings: PerformanceSettings) -> Image:
    """The image to start.

    Raises:
        ServiceUnknown: There are several and none is named, or the named one is not built.
    """
    names = ", ".join(one.name for one in images.images)
    found = [one for one in images.images if settings.image in (None, one.name)]
    if len(found) != 1:
        what = f"`{settings.image}` is not among the images" if settings.image else "there are several images"
        error = ServiceUnknown(f"cannot choose the service to load: {what} ({names})")
        error.hint = "name one by `image` in [tool.pipeline.performance]"
        raise error
    return found[0]


async def image_service(
    ctx: Context, image: Image, settings: PerformanceSettings
) -> tuple[dagger.Container, list[str]]:
    """The built image, and the command to run in it."""
    client = await ctx.dagger()
    container = client.container().import_(client.host().file(str(ctx.path(image.archive))))
    args = list(settings.service or await container.default_args())
    argv = [*await container.entrypoint(), *args]
    if not argv:
        raise ServiceUnknown(
            f"cannot start `{image.name}`: the image has no command, and `service` names none"
        )
    return container, argv


async def command_service(
    ctx: Context, deps: Deps, settings: PerformanceSettings
) -> tuple[dagger.Container, list[str]]:
    """The container of the dependencies with the project's files, and the command to run in it."""
    container = await with_system_packages(ctx, await take(ctx, deps.container))
    container = container.with_directory(SOURCE, await source(ctx)).with_workdir(SOURCE)
    container = container.with_env_variable("PYTHONPATH", f"{SOURCE}:{SOURCE}/src")
    return container, list(settings.service or ())


async def port_of(container: dagger.Container, settings: PerformanceSettings) -> int:
    """The port the service listens on.

    Raises:
        ServiceUnknown: The settings name none, and the image does not expose exactly one.
    """
    if settings.port is not None:
        return int(settings.port)
    ports = sorted({await one.port() for one in await container.exposed_ports()})
    if len(ports) != 1:
        what = f"its image exposes {', '.join(map(str, ports))}" if ports else "its image exposes none"
        error = ServiceUnknown(f"cannot tell the service's port: {what}")
        error.hint = "name it by `port` in [tool.pipeline.performance]"
        raise error
    return ports[0]


def health_paths(ctx: Context, settings: PerformanceSettings, dockerfile: str | None) -> tuple[str, ...]:
    """Where to ask whether the service is ready: as set, else as the Dockerfile asks, else by custom."""
    if settings.health:
        return (settings.health,)
    if dockerfile is not None and (ctx.root / dockerfile).is_file():
        text = (ctx.root / dockerfile).read_text(encoding="utf-8", errors="replace")
        if found := HEALTH_URL.search(text.partition("HEALTHCHECK")[2]):
            return (found[1],)
    return HEALTH_GUESSES


@asynccontextmanager
async def serving(
    ctx: Context,
    app: dagger.Container,
    argv: Sequence[str],
    python: dagger.Container,
    settings: PerformanceSettings,
    health: Sequence[str],
) -> AsyncIterator[Ready]:
    """Start the service with a sampler beside it, and lend it when it answers.

    Args:
        python: A container of a Python with our programs.

    Raises:
        ServiceDown: It does not answer in time, or ended; carries its last lines.
        ServiceUnknown: Its port is not known.
    """
    import dagger

    port = await port_of(app, settings)
    own = await probe(python, "python")
    app = with_env(
        app, {**stage_env(ctx), **settings.env, "PIPELINE_RUN": f"{ctx.run_id}.{ctx.stage}.{ctx.attempt}"}
    )
    app = app.with_mounted_directory(PYTHON, python.rootfs())
    client = await ctx.dagger()
    volume = client.cache_volume(f"service-logs {ctx.stage} {digest_text(str(ctx.root))}")
    keeper = python.with_user("0").with_mounted_cache(LOGS, volume)
    logs = f"{log_path(ctx)}.load"  # a folder of its own: services beside this one have theirs
    await keeper.with_exec(["install", "-d", "-m", "0777", logs]).sync()
    app = app.with_mounted_cache(LOGS, volume)
    for one in (port, SAMPLER_PORT):
        app = app.with_exposed_port(one, experimental_skip_healthcheck=True)
    service = app.as_service(args=[*sampler_argv(own), f"{logs}/service.log", *argv])
    base, state = f"http://{ALIAS}:{port}", f"http://{ALIAS}:{SAMPLER_PORT}"
    bound = python.with_service_binding(ALIAS, service)
    bound = bound.with_env_variable("PIPELINE_RUN", f"{ctx.run_id}.{ctx.attempt}")
    ctx.log(f"starting the service: {' '.join(argv)}\n")
    try:
        service = await service.start()
    except dagger.QueryError as error:
        raise ServiceDown(never_healthy(error), await last_words(keeper, logs)) from error
    try:
        ask = [*health, "--", *descriptions(settings)]
        told = await probe(bound, "ready", base, state, f"{settings.start_within_s:g}", *ask)
        if not told["ready"]:
            await _raise_down(bound, state, f"was not ready within {told['waited_s']:.0f} s ({told['last']})")
        ctx.log(f"the service is ready after {told['waited_s']:.1f} s: {told['last']}\n")
        yield Ready(base=base, container=bound, description=told["description"], machine=own["machine"])
    except dagger.QueryError as error:
        # It took the sampler with it, so that nobody is left to ask: what it wrote is in the file.
        if (ended := ENDED.search(str(error))) is None:
            raise
        what = f"ended with exit code {ended[1]} while it was in use"
        raise ServiceDown(what, await last_words(keeper, logs)) from error
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_LIMIT_S):
            await service.stop()
            await keeper.with_exec(["rm", "-rf", logs]).sync()


def sampler_argv(own: Mapping[str, Any]) -> list[str]:
    """What starts the sampler on the Python that is mounted beside the service; its log and command follow.

    Args:
        own: What that Python told of itself.
    """
    # Looked for by the loader itself, so that nothing of ours is in the environment the service gets.
    folders = ":".join(f"{PYTHON}{folder}" for folder in own["folders"])
    loader = [f"{PYTHON}{own['loader']}", "--library-path", folders]
    python = [f"{PYTHON}{own['program']}", "-I", "-S"]
    return [*loader, *python, f"{PYTHON}{LOAD}/{PACKAGE}/sampler.py", str(SAMPLER_PORT)]


def never_healthy(error: dagger.QueryError) -> str:
    """What is told of a service that the engine could not start."""
    import dagger

    if isinstance(error, dagger.ExecError) and error.command:
        check = " ".join(error.command)
        return f"never became healthy: its image's check `{check}` ended with exit code {error.exit_code}"
    return f"did not start: {str(error).partition(chr(10))[0]}"


async def last_words(keeper: dagger.Container, logs: str) -> str:
    """The end of what the service wrote, from the file that outlives it, in the folder `logs`."""
    keeper = keeper.with_env_variable("PIPELINE_ASKED", str(time.time_ns()))
    argv = ["sh", "-c", LAST, "last", logs, str(LOG_BYTES)]
    return await keeper.with_exec(argv).stdout()


def descriptions(settings: PerformanceSettings) -> tuple[str, ...]:
    """Where the service may describe itself."""
    if settings.openapi is None:
        return DESCRIPTIONS
    return (settings.openapi,) if settings.openapi.startswith("/") else ()


async def service_state(ready: Ready) -> dict[str, Any]:
    """What the sampler noted of the service so far.

    Raises:
        ServiceDown: The service has ended.
    """
    state = f"http://{ALIAS}:{SAMPLER_PORT}"
    told = await probe(ready.container, "state", state)
    if told.get("exit_code") is not None:
        raise ServiceDown(f"ended with exit code {told['exit_code']} while it was measured", told["log"])
    return told


async def _raise_down(container: dagger.Container, state: str, what: str) -> None:
    told = await probe(container, "state", state)
    code = told.get("exit_code")
    raise ServiceDown(what if code is None else f"ended with exit code {code}", str(told.get("log", "")))


async def probe(container: dagger.Container, *errand: str) -> dict[str, Any]:
    """Run an errand of `pipeline.scan.load.probe`, afresh each time it is asked, and read what it tells."""
    container = container.with_env_variable("PIPELINE_ASKED", str(time.time_ns()))
    said = container.with_exec(["python3", "-m", f"{PACKAGE}.probe", TOLD, *errand]).file(TOLD)
    told: dict[str, Any] = json.loads(await said.contents())
    return told
