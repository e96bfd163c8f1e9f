"""Whether services outside can be reached: asked once a run, for a bounded time, and remembered.

Any answer to an HTTP request counts, whatever its status: what it is worth is for who asked to judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import httpx

AGENT: Final = "dagger-pipeline"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
TRIES: Final = 2
TRY_S: Final = 3.0
ALL_S: Final = 6.0  # of all probes of a run together


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """How this machine reaches the outside."""

    offline: bool = False
    http_proxy: str = field(default="", repr=False)  # may hold a password
    https_proxy: str = field(default="", repr=False)
    no_proxy: str = ""
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a probe found."""

    is_reached: bool
    why: str = ""  # where it was not


class Probe:
    """Remembers for a run which services answer; all its waiting together takes `all_s` seconds at most."""

    def __init__(self, network: Network, *, try_s: float = TRY_S, all_s: float = ALL_S) -> None:
        """Ask nothing yet.

        Args:
            try_s: Longest wait for one answer, in seconds.
            all_s: Longest wait for all answers of the run, in seconds.
        """
        self.network = network
        self._try_s = try_s
        self._left_s = all_s
        self._known: dict[str, Reach] = {}
        self._lock = anyio.Lock()

    async def reach(self, addresses: Iterable[str]) -> Mapping[str, Reach]:
        """Say of each address (a URL) whether its service answers; those of one service are asked once."""
        wanted = dict.fromkeys(addresses)
        async with self._lock:
            fresh = [one for one in dict.fromkeys(map(service_of, wanted)) if one not in self._known]
            if self.network.offline:
                self._known |= {one: Reach(is_reached=False, why="the run is offline") for one in fresh}
            elif fresh:
                await self._ask(fresh)
        return {one: self._known[service_of(one)] for one in wanted}

    async def _ask(self, services: list[str]) -> None:
        """Ask services side by side, within what is left of the time."""
        began = time.monotonic()
        with anyio.move_on_after(self._left_s):
            async with anyio.create_task_group() as group:
                for one in services:
                    group.start_soon(self._ask_one, one)
        self._left_s = max(0.0, self._left_s - (time.monotonic() - began))
        late = Reach(is_reached=False, why="no answer in time")
        self._known = {**dict.fromkeys(services, late), **self._known}

    async def _ask_one(self, service: str) -> None:
        why = ""
        for _ in range(TRIES):
            why = await self._try(service)
            if not why:
                break
        self._known[service] = Reach(is_reached=not why, why=why)

    async def _try(self, service: str) -> str:
        """One request; "" when something answered, else why not."""
        import httpx

        host = urlsplit(proxy_of(self.network, service) or service).hostname or ""
        with anyio.move_on_after(self._try_s):
            if not await resolves(host):
                return f"the name `{host}` does not resolve"
            try:
                async with client_of(self.network, timeout_s=self._try_s) as client:
                    await client.head(service)
            except httpx.HTTPError as error:
                return f"{host} cannot be reached: {str(error) or type(error).__name__}"
            return ""
        return f"{host} gave no answer within {self._try_s:g} s"


def service_of(address: str) -> str:
    """The service an address belongs to: scheme and host, without user and path."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


def client_of(network: Network, *, timeout_s: float) -> httpx.AsyncClient:
    """An HTTP client that goes the way the settings say, and takes nothing else from the environment."""
    import ssl

    import httpx

    context = ssl.create_default_context(cafile=network.ca_bundle or None)
    mounts: dict[str, httpx.AsyncBaseTransport] = {}
    for scheme, proxy in (("http://", network.http_proxy), ("https://", network.https_proxy)):
        if proxy:
            mounts[scheme] = httpx.AsyncHTTPTransport(proxy=proxy, verify=context)
    if mounts:
        direct = httpx.AsyncHTTPTransport(verify=context)
        for host in (*LOOPBACK, *re.split(r"[\s,]+", network.no_proxy)):
            if name := host.strip("*."):
                mounts["all://[::1]" if name == "::1" else f"all://*{name}"] = direct
    return httpx.AsyncClient(
        timeout=timeout_s, verify=context, mounts=mounts, trust_env=False, headers={"User-Agent": AGENT}
    )


def proxy_of(network: Network, address: str) -> str:
    """The proxy an address is asked through; "" for none."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    spared = (*LOOPBACK, *(one for one in re.split(r"[\s,]+", network.no_proxy) if one.strip("*.")))
    if any(host == one.strip("*.") or host.endswith("." + one.strip("*.")) for one in spared):
        return ""
    return network.https_proxy if parts.scheme == "https" else network.http_proxy


async def resolves(host: str) -> bool:
    """Whether a name has an address.

    Asked in a thread of its own, which is left behind where a name server keeps it waiting: the event loop's
    own threads would be waited for when the program ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def tell(is_known: bool) -> None:
        if not answer.done():
            answer.set_result(is_known)

    def ask() -> None:
        try:
            is_known = bool(socket.getaddrinfo(host, None))
        except (OSError, UnicodeError):
            is_known = False
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(tell, is_known)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await answer


@lru_cache(maxsize=4)
def probe_of(run_id: str, network: Network) -> Probe:
    """The one probe of a run."""
    return Probe(network)
