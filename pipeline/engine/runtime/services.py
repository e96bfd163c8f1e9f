"""Services of a session: started when bound, watched, stopped when nobody needs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.digest import Digest
    from pipeline.engine import ops
    from pipeline.engine.runtime.execute import Surroundings
    from pipeline.engine.runtime.network import Network
    from pipeline.engine.runtime.spec import Runner
    from pipeline.engine.store import Store
    from pipeline.engine.store.snapshots import Snapshot

Evaluate = Callable[["ops.Exec"], Awaitable["Mapping[Digest, Snapshot]"]]
"""Evaluates every tree an exec names (base, tree mounts, cache sources), by the tree's digest."""


def host_name_of(service: ops.Service) -> str:
    """Return the DNS label a service is reached by; stable for the same definition."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Services held for one exec: lines for its hosts file."""

    hosts: tuple[tuple[str, str], ...]  # address, name


class Services:
    """The running services of one session; each definition runs once."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        network: Network,
        evaluate: Evaluate,
        *,
        surroundings: Surroundings | None = None,
    ) -> None:
        raise NotImplementedError

    def bind(self, bindings: tuple[ops.ServiceBinding, ...]) -> AbstractAsyncContextManager[Bound]:
        """Hold the services of `bindings` while the body runs: started in parallel, healthy on entry.

        The body is cancelled with `ServiceExited` when one of them ends.

        Raises:
            ExecFailed: A service ended before it was healthy.
            ServiceExited: A service ended while it was held.
        """
        raise NotImplementedError

    async def start(self, service: ops.Service) -> None:
        """Start and wait until healthy; holds one binding until `stop` or the end. Idempotent.

        Raises:
            ExecFailed: It ended before it was healthy.
        """
        raise NotImplementedError

    async def stop(self, service: ops.Service, *, kill: bool = False) -> None:
        """End it whoever uses it: SIGTERM and wait without limit, or SIGKILL. Not running is no error."""
        raise NotImplementedError

    async def tunnel(
        self, service: ops.Service, ports: tuple[ops.PortForward, ...], *, key: str
    ) -> tuple[ops.PortForward, ...]:
        """Listen on 127.0.0.1 for each port and lead to the service; returns the real front ports.

        `key` names the tunnel for `close_tunnel`; the same key again returns the same ports.
        """
        raise NotImplementedError

    async def close_tunnel(self, key: str) -> None:
        """Stop listening and release the service. Unknown is no error."""
        raise NotImplementedError

    async def close(self) -> None:
        """Kill every service at once and close every tunnel. Idempotent."""
        raise NotImplementedError
