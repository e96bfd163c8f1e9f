"""The hosts file of a container; that of a service learns of other services while it runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Names = Sequence[tuple[str, str]]


def hosts_text(host_name: str, hosts: Names) -> bytes:
    """Return the text of `/etc/hosts`; `hosts` are pairs of address and name, of which the first counts."""
    lines = [f"127.0.0.1\tlocalhost {host_name}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += [f"{address}\t{name}" for address, name in dict.fromkeys(hosts)]
    return "\n".join([*lines, ""]).encode()


class LiveHosts:
    """A hosts file that is written anew while containers look at it, as long as the `with` block lasts."""

    def __init__(self, host_name: str, bound: Names) -> None:
        self._host_name = host_name
        self._bound = list(bound)
        self._descriptor, name = tempfile.mkstemp(prefix="pipeline-hosts-")
        self.path = Path(name)
        os.fchmod(self._descriptor, 0o644)

    def __enter__(self) -> LiveHosts:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        self.path.unlink()

    def tell(self, others: Names) -> None:
        """Write the services that were bound, then `others`; nothing once the block is left."""
        if self._descriptor < 0:
            return
        text = hosts_text(self._host_name, [*self._bound, *others])
        # In place, because what is mounted is the file and not its name.
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
