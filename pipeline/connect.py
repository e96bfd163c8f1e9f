"""Opens the Dagger SDK on the embedded engine, or on a real Dagger engine.

Embedded: begins a session of an engine of our own (`session.started`), which ends when this process does.
Leaves what is done with the client to the stages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.engine.events import NoticeEvent
from pipeline.engine.settings import IDLE_S, EngineSettings, NetworkSettings
from pipeline.errors import UsageError
from pipeline.session.started import SESSION_PORT, SESSION_TOKEN, EngineNotStarted, engine_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    import dagger

    from pipeline.config import Config
    from pipeline.config.lock import Lock
    from pipeline.engine.events import Observer

ANSWER_LIMIT_S = 10.0  # until a Dagger engine takes a connection
TOLD_OF = ("HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which engine to open: the embedded one, or Dagger at an address ("" = the session's own)."""

    kind: str  # "embedded" or "dagger"
    address: str = ""


def parse_target(text: str) -> Target:
    """Read `embedded`, `dagger` or `dagger=ADDRESS`.

    Raises:
        UsageError: It is none of these.
    """
    kind, _, address = text.partition("=")
    if kind not in ("embedded", "dagger") or (kind == "embedded" and "=" in text):
        raise UsageError(f"cannot use the engine `{text}`: expected embedded, dagger or dagger=ADDRESS")
    return Target(kind=kind, address=address)


def python_image_for(requires_python: str) -> str:
    """Return the Python image for a `requires-python`, such as "python:3.13-slim".

    Raises:
        BadPythonRequirement: Nothing satisfies it.
    """
    from pipeline.engine.recipes.recipe import python_image_for as choose

    return choose(requires_python)


def engine_settings(config: Config, lock: Lock | None = None) -> EngineSettings:
    """Return what the configuration, and the lock file, say that the embedded engine must know."""
    engine, network = config.engine, config.network
    return EngineSettings(
        store=engine.store or "",
        runner=engine.runner or "",
        offline=network.offline,
        image_fallback=config.images.fallback,
        pins=() if lock is None else tuple(lock.images.items()),
        stand_in_pins=() if lock is None else tuple(lock.stand_ins.items()),
        is_locked=lock is not None and config.images.locked,
        max_bytes=engine.max_bytes,
        min_free_bytes=engine.min_free_bytes,
        idle_s=engine.idle_s if engine.idle_s is not None else 0.0 if "CI" in os.environ else IDLE_S,
        exec_memory_bytes=engine.exec_max_memory,
        exec_pids=engine.exec_max_pids,
        mirrors=tuple((host, url) for host, urls in config.images.mirrors.items() for url in urls),
        network=network_settings(config),
    )


def network_settings(config: Config) -> NetworkSettings:
    """Return the declared network set-up as variables for containers, and the secrets in it."""
    network = config.network
    addresses = [a for a in (network.index_url, *network.extra_index_url) if a]
    proxies = [p for p in (network.http_proxy, network.https_proxy) if p]
    links = [link for link in network.find_links if "://" in link]  # folders are the host's alone
    env: dict[str, str] = {}
    _set(env, ("HTTP_PROXY", "http_proxy"), network.http_proxy)
    _set(env, ("HTTPS_PROXY", "https_proxy"), network.https_proxy)
    _set(env, ("NO_PROXY", "no_proxy"), network.no_proxy)
    _set(env, ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), network.index_url)
    _set(env, ("PIP_EXTRA_INDEX_URL", "UV_INDEX"), " ".join(network.extra_index_url))
    _set(env, ("PIP_FIND_LINKS", "UV_FIND_LINKS"), " ".join(links))
    _set(env, ("PIP_TRUSTED_HOST",), " ".join(network.trusted_host))
    if network.pip_timeout_s is not None:
        _set(env, ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"), f"{network.pip_timeout_s:.0f}")
    secrets = [s for address in (*addresses, *proxies, *links) for s in _passwords(address)]
    return NetworkSettings(
        ca_bundle=network.ca_bundle or "",
        env=tuple(env.items()),
        secrets=tuple(dict.fromkeys(secrets)),
    )


def _set(env: dict[str, str], names: tuple[str, ...], value: str | None) -> None:
    if value:
        env.update(dict.fromkeys(names, value))


def _passwords(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    if parts.password:
        yield parts.password
        yield f"{parts.username}:{parts.password}"


@contextlib.asynccontextmanager
async def open_session(
    target: Target, settings: EngineSettings, *, workdir: Path, observer: Observer
) -> AsyncIterator[dagger.Client]:
    """Open a session and lend the SDK's client; the engine is gone when this is left.

    The client is `dagger.dag`, so that code written for the global client works as well. The SDK's
    own retry of queries is off: the scheduler alone decides what is tried again.

    Raises:
        EngineNotStarted: The engine does not come up, or nothing answers at the address.
    """
    async with contextlib.AsyncExitStack() as stack:
        if target.kind == "embedded":
            # The engine starts while the SDK is imported: each takes some tenths of a second.
            engine = await stack.enter_async_context(engine_process(settings, workdir, observer))
            import dagger

            environ: Mapping[str, str | None] = await engine.ready()
            config = dagger.Config(retry=None)
        else:
            import dagger

            await _check_address(target.address)
            _tell_unused(settings.network, observer)
            environ = dagger_environment(target)
            # The SDK takes a folder only for a session that it starts itself.
            has_session = target.address == "" and SESSION_PORT in os.environ
            config = dagger.Config(retry=None, workdir="" if has_session else workdir)
        stack.enter_context(_environment(environ))
        try:
            await stack.enter_async_context(dagger.connection(config))
        except (dagger.ClientError, dagger.ProvisionError) as error:
            raise EngineNotStarted(str(error)) from error
        yield dagger.dag


def dagger_environment(target: Target) -> dict[str, str | None]:
    """Return the variables by which the SDK finds a Dagger engine; None is one that must not be set.

    An address that was given goes before a session that is already in the environment.
    """
    if not target.address:
        return {}
    return {
        "_EXPERIMENTAL_DAGGER_RUNNER_HOST": target.address,
        SESSION_PORT: None,
        SESSION_TOKEN: None,
    }


async def _check_address(address: str) -> None:
    """Ask whether anything listens where an engine should: Dagger's own program tries for minutes.

    Raises:
        EngineNotStarted: Nothing does. Addresses other than `unix://` and `tcp://` are not asked.
    """
    parts = urlsplit(address)
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            if parts.scheme == "unix":
                _, writer = await asyncio.open_unix_connection(parts.netloc + parts.path)
            elif parts.scheme == "tcp":
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            else:
                return
    except (OSError, ValueError) as error:  # of OSError: no answer in time as well
        words = getattr(error, "strerror", None) or str(error) or "no answer"
        raise EngineNotStarted(f"nothing answers at `{address}`: {words.lower()}") from error
    writer.close()
    with contextlib.suppress(OSError):  # it answered: how it parts does not matter
        await writer.wait_closed()


def _tell_unused(network: NetworkSettings, observer: Observer) -> None:
    """Name the declared network settings that a Dagger engine is not told of."""
    names = [name for name, _ in network.env if name in TOLD_OF]
    if names:
        text = (
            f"a Dagger engine has its own network set-up and is not told {', '.join(names)}; set an index "
            "in `env` of a stage, proxies and certificates at the engine"
        )
        observer(NoticeEvent(text=text))


@contextlib.contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for as long as the session lasts: the SDK, and programs that stages start, read them."""
    before = {name: os.environ.get(name) for name in values}
    _set_variables(values)
    try:
        yield
    finally:
        _set_variables(before)


def _set_variables(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
