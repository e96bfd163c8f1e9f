"""Network namespaces for execs: one bridge per engine process, NAT to the outside, names by files."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A network namespace of an exec: where it is, and its address on the bridge."""

    path: Path
    address: str


class Network:
    """The engine's bridge and its pool of ready namespaces."""

    nameservers: tuple[str, ...]

    @classmethod
    async def open(cls, root: Path, *, offline: bool = False) -> Network:
        """Make the bridge and sweep what dead engines left; `root` is the engine's state directory.

        Raises:
            NetworkFailed: Not even a namespace can be made.
        """
        raise NotImplementedError

    def lease(self) -> AbstractAsyncContextManager[Namespace]:
        """Lend a fresh namespace with loopback and an address on the bridge; it is removed after."""
        raise NotImplementedError

    async def close(self) -> None:
        """Remove the namespaces, the bridge and the rules. Idempotent."""
        raise NotImplementedError
