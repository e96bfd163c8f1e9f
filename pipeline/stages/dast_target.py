"""What a dynamic scan is aimed at: the application started beside it, or a host whose owner agreed."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.graph.context import Skip
from pipeline.scan.dast.aim import Aim, description_of, refuse_metadata, refuse_unless_agreed
from pipeline.stages.containers import StageBroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import dagger

    from pipeline.config import DastSettings, PerformanceSettings
    from pipeline.graph.context import Context
    from pipeline.scan.dast.passive import Passive
    from pipeline.scan.dast.schemathesis import Schemathesis
    from pipeline.scan.dast.wapiti import Wapiti
    from pipeline.scan.scanner import Scan
    from pipeline.stages.load_service import Ready
    from pipeline.stages.results import Deps, Images

ALIVE_S: Final = 15.0  # a service may be busy with the last of what it was asked
OF_SERVICE: Final = ("image", "service", "port", "health", "openapi")


class NotReached(StageBroken):
    """Nobody answers at the address that is to be looked at, or what it says is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aimed:
    """A service that answers, and a container that reaches it with the tools."""

    ctx: Context
    aim: Aim
    container: dagger.Container
    ready: Ready | None  # None: it was not started here

    async def run(self, scanner: Passive | Schemathesis | Wapiti, lock: str | None) -> Scan:
        """Run one scanner and read what it says."""
        import dagger

        from pipeline.scan.scanner import Coverage, Target, broken
        from pipeline.stages.tools import locked_version, run_command

        version = locked_version(lock) if lock else ""
        target = Target(root=self.aim.base, files={}, version=version, options={"aim": self.aim})
        nothing = Coverage(unit="requests", expected=1, seen=0)
        answers = []
        for command in scanner.commands(target):
            try:
                answers.append(await run_command(self.container, command))
            except dagger.ExecError as error:  # the sandbox's own words: out of memory, no such program
                said = (error.stderr or error.stdout or str(error)).strip().splitlines()
                return broken(scanner.name, nothing, f"it could not run: {said[-1] if said else ''}")
            if answers[-1].is_cut:
                return broken(scanner.name, nothing, "it said more than is read")
        return scanner.read(target, answers)

    async def problem(self) -> str:
        """What is wrong with the service now; "" when it answers."""
        from pipeline.stages.load_service import ServiceDown, service_state

        if self.ready is not None:
            try:
                await service_state(self.ready)
            except ServiceDown as error:
                self.ctx.log(f"{error}\n")
                return str(error).partition(" while ")[0]
        told = await errand(self.container, "alive", self.aim.base, "/", f"{ALIVE_S:g}")
        return "" if told["alive"] else "the service stopped answering"

    async def keep_log(self) -> None:
        """Keep what the service wrote, if it was started here."""
        from pipeline.stages.load_service import ALIAS, SAMPLER_PORT, probe

        if self.ready is not None:
            state = await probe(self.ready.container, "state", f"http://{ALIAS}:{SAMPLER_PORT}")
            self.ctx.keep("service.log", str(state.get("log", "")))


@asynccontextmanager
async def aimed(
    ctx: Context,
    settings: DastSettings,
    images: Images | None,
    deps: Deps | None,
    tools: Sequence[str],
) -> AsyncIterator[Aimed]:
    """Lend the target: the service started, or the address that was agreed to.

    Raises:
        AimRefused: Nobody agreed to the address.
        NotReached: Nobody answers there.
        ServiceDown: The service does not become ready; carries its last lines.
        Skip: There is nothing to start.
    """
    from pipeline.stages.load_service import (
        chosen_image,
        command_service,
        health_paths,
        image_service,
        serving,
        with_programs,
    )
    from pipeline.stages.services import with_services
    from pipeline.stages.tools import tool_container

    if settings.address is not None:
        base, start = refuse_unless_agreed(
            settings.address, consent=settings.consent, environment=ctx.environment or None
        )
        yield await at_address(ctx, settings, base, start, await tool_container(ctx, *tools))
        return
    how = service_settings(ctx, settings)
    image = chosen_image(images, how) if images is not None else None
    if image is not None:
        app, argv = await image_service(ctx, image, how)
    elif deps is not None and how.service:
        app, argv = await command_service(ctx, deps, how)
    else:
        raise Skip(
            "there is no service to look at: the project builds no image, and `service` names no command"
        )
    python = with_programs(await tool_container(ctx, *tools))
    health = health_paths(ctx, how, image.dockerfile if image is not None else None)
    async with (
        with_services(ctx, app, keeper=python) as bound,
        serving(ctx, bound, argv, python, how, health) as ready,
    ):
        description = described(ctx, how.openapi, ready.description)
        aim = aim_at(settings, ready.base, description, is_own=True)
        yield Aimed(ctx=ctx, aim=aim, container=ready.container, ready=ready)


async def at_address(
    ctx: Context, settings: DastSettings, base: str, start: str, container: dagger.Container
) -> Aimed:
    """The target of an address, if somebody answers there.

    Raises:
        AimRefused: Its name stands for a cloud's metadata service.
        NotReached: Nobody answers.
    """
    from pipeline.stages.load_service import DESCRIPTIONS

    container = container.with_env_variable("PIPELINE_RUN", f"{ctx.run_id}.{ctx.attempt}")
    refuse_metadata(base, (await errand(container, "resolve", base))["addresses"])
    told = await errand(container, "alive", base, settings.health or start, f"{settings.start_within_s:g}")
    if not told["alive"]:
        raise NotReached(f"cannot look at `{base}`: nobody answers there")
    below = (start.rstrip("/") + path for path in DESCRIPTIONS)
    paths = tuple(dict.fromkeys((*below, *DESCRIPTIONS)))
    if settings.openapi is not None:
        paths = (settings.openapi,) if settings.openapi.startswith("/") else ()
    found = (await errand(container, "describe", base, *paths))["description"] if paths else None
    description = described(ctx, settings.openapi, found)
    aim = replace(aim_at(settings, base, description, is_own=False), start=start)
    return Aimed(ctx=ctx, aim=aim, container=container, ready=None)


def aim_at(settings: DastSettings, base: str, description: dict[str, Any] | None, *, is_own: bool) -> Aim:
    """What is looked at, and how far the scanners may go."""
    writes = settings.writes if settings.writes is not None else (is_own or settings.active)
    return Aim(
        base=base,
        description=description,
        writes=writes,
        active=settings.active,
        rate=settings.rate,
        limit_s=settings.active_limit_s if settings.active else settings.limit_s,
        pages=settings.pages,
        exclude=settings.exclude,
    )


def service_settings(ctx: Context, settings: DastSettings) -> PerformanceSettings:
    """How the service is started: as said here, else as for the load test."""
    from pipeline.config.values import PerformanceSettings, performance_of

    other = performance_of(dict(ctx.config["performance"]))
    chosen = {name: getattr(settings, name) or getattr(other, name) for name in OF_SERVICE}
    env = {**other.env, **settings.env}
    return PerformanceSettings(**chosen, env=env, start_within_s=settings.start_within_s)


def described(ctx: Context, openapi: str | None, found: dict[str, Any] | None) -> dict[str, Any] | None:
    """The OpenAPI description: of a file of the project where one is named, else what the service says.

    Raises:
        NotReached: The file is not there.
    """
    if openapi is None or openapi.startswith("/"):
        return description_of(json.dumps(found).encode()) if found is not None else None
    path = ctx.root / openapi
    if not path.is_file():
        raise NotReached(f"cannot read `{openapi}`: there is no such file")
    return description_of(path.read_bytes())


async def errand(container: dagger.Container, *argv: str) -> dict[str, Any]:
    """Run one errand of our program, afresh each time, and read what it says.

    Raises:
        NotReached: It says nothing.
    """
    from pipeline.scan.dast.programs import FOLDER, PACKAGE, program_files
    from pipeline.scan.scanner import Command
    from pipeline.stages.tools import run_command

    command = Command(
        argv=("python3", "-m", f"{PACKAGE}.main", *argv),
        env={"PYTHONPATH": FOLDER, "PIPELINE_ASKED": str(time.time_ns())},
        files=program_files(),
        timeout_s=120.0,
    )
    ran = await run_command(container, command)
    try:
        told: dict[str, Any] = json.loads(ran.stdout)
    except ValueError as error:
        raise NotReached(f"cannot ask the service: {ran.last_words}") from error
    return told
