"""A service's settings become a service of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_text
from pipeline.stages.containers import StageBroken, source, with_debian_packages, with_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import dagger

    from pipeline.config import HealthSettings, ServiceSettings
    from pipeline.graph.context import Context

LOGS: Final = "/.service-logs"
TO_LOG: Final = 'log="$1"; shift; exec "$@" >> "$log" 2>&1'
NEVER: Final = 1_000_000  # failures in a row: the service's own time is what ends the waiting


def log_path(ctx: Context, name: str = "") -> str:
    """Return the file a service writes to, or the folder of all of them; below `LOGS`."""
    folder = f"{LOGS}/{ctx.run_id}.{ctx.attempt}"
    return f"{folder}/{name}.log" if name else folder


async def described(
    ctx: Context, name: str, one: ServiceSettings, others: Mapping[str, dagger.Service]
) -> dagger.Service:
    """Describe a service; what it needs is bound to it under its name.

    Raises:
        StageBroken: It has no command, or mounts what the project has not.
    """
    container = await _base(ctx, one)
    container = with_env(container, one.env)
    client = await ctx.dagger()
    for secret in one.secrets:
        value = client.set_secret(secret, ctx.secret(secret))
        container = container.with_secret_variable(secret, value)
    container = await _with_volumes(ctx, name, one, container)
    for path in one.tmp:
        container = container.with_mounted_temp(path)
    container = container.with_user(one.user) if one.user else container
    container = container.with_workdir(one.workdir) if one.workdir else container
    for need in one.needs:
        container = container.with_service_binding(need, others[need])
    container = await _with_health(one, container)
    # Another stage, or another attempt, has a service of its own: none finds what others left behind.
    container = container.with_env_variable("PIPELINE_RUN", f"{ctx.run_id}.{ctx.stage}.{ctx.attempt}")
    argv = await _argv(name, one, container)
    if not await container.exists("/bin/sh"):
        ctx.log(f"{name}: its image has no shell, so that its output is not kept\n")
        return container.as_service(args=argv)
    volume = client.cache_volume(f"service-logs {ctx.stage} {digest_text(str(ctx.root))}")
    container = container.with_mounted_cache(LOGS, volume)
    return container.as_service(args=["/bin/sh", "-c", TO_LOG, "log", log_path(ctx, name), *argv])


async def _base(ctx: Context, one: ServiceSettings) -> dagger.Container:
    import dagger

    client = await ctx.dagger()
    if one.dockerfile is not None:
        context = await source(ctx)
        context = context if one.context == "." else context.directory(one.context)
        inside = one.dockerfile.removeprefix(f"{one.context}/") if one.context != "." else one.dockerfile
        args = [dagger.BuildArg(name=key, value=value) for key, value in one.build_args.items()]
        container = context.docker_build(dockerfile=inside, build_args=args, target=one.target or "")
    else:
        container = client.container().from_(str(one.image))
    if one.system_packages:
        user = await container.user()
        container = await with_debian_packages(ctx, container.with_user("0"), one.system_packages)
        container = container.with_user(user) if user else container.without_user()
    return container


async def _with_volumes(
    ctx: Context, name: str, one: ServiceSettings, container: dagger.Container
) -> dagger.Container:
    files = await source(ctx) if one.volumes else None
    for inside, path in one.volumes.items():
        here = ctx.root / path
        if files is None or not here.exists():
            raise StageBroken(
                f"cannot mount `{path}` into the service `{name}`: the project has no such file"
            )
        if path == ".":
            container = container.with_mounted_directory(inside, files)
        elif here.is_dir():
            container = container.with_mounted_directory(inside, files.directory(path))
        else:
            container = container.with_mounted_file(inside, files.file(path))
    return container


async def _with_health(one: ServiceSettings, container: dagger.Container) -> dagger.Container:
    health = one.healthcheck
    waited = [int(port) for port in one.ports]
    if health is not None and health.tcp is not None:
        waited = [health.tcp]
    elif health is not None and health.http is not None:
        written = health.http.removeprefix(":").partition("/")[0]
        waited = [int(written)] if written else waited[:1]
    exposed = [await port.port() for port in await container.exposed_ports()] if waited else []
    for port in dict.fromkeys([*exposed, *(int(port) for port in one.ports), *waited]):
        is_waited = port in waited
        container = container.with_exposed_port(port, experimental_skip_healthcheck=not is_waited)
    if health is not None and health.command is not None:
        container = _with_command(health, health.command, container)
    return container


def _with_command(
    health: HealthSettings, command: Sequence[str], container: dagger.Container
) -> dagger.Container:
    return container.with_docker_healthcheck(
        list(command),
        interval=f"{health.interval_s:g}s",
        timeout=f"{health.timeout_s:g}s",
        start_period=f"{health.start_period_s:g}s" if health.start_period_s else None,
        retries=health.retries or NEVER,
    )


async def _argv(name: str, one: ServiceSettings, container: dagger.Container) -> list[str]:
    """Return the service's command with its entrypoint, by Docker's rules."""
    entrypoint = list(one.entrypoint or await container.entrypoint())
    args = list(one.command or ([] if one.entrypoint else await container.default_args()))
    argv = [*entrypoint, *args]
    if not argv:
        raise StageBroken(
            f"cannot start the service `{name}`: its image has no command, and none is declared"
        )
    return argv
