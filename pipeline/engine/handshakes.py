"""Closes the connection when a TLS handshake is cancelled, which `httpcore` (1.0.9) closes only after errors.

A server that takes a connection and then stays silent would else keep a socket of ours until the garbage
collector finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx
    from anyio.abc import AsyncResource


async def watch_handshakes(request: httpx.Request) -> None:
    """Watch over what a request connects; a `request` event hook of `httpx` clients."""
    request.extensions["trace"] = _Watch()


class _Watch:
    """Takes httpcore's events of one request, which connects to one server after the other."""

    def __init__(self) -> None:
        self._stream: AsyncResource | None = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.complete"):
            self._stream = info["return_value"]
        elif event.endswith("start_tls.failed") and self._stream is not None:
            stream, self._stream = self._stream, None
            with anyio.CancelScope(shield=True):  # it closes what is open on this side: nobody is waited for
                await stream.aclose()
