"""Ways into a cluster while a new release is looked at: `kubectl port-forward`, one for each Service."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from pipeline.deploy.target import TargetFailed

if TYPE_CHECKING:
    from anyio.abc import Process

    from pipeline.deploy.targets.kubernetes_calls import Kubectl

OPEN_LIMIT_S: Final = 20.0
END_LIMIT_S: Final = 5.0
_OPENED: Final = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+)")


@dataclass(kw_only=True)
class Forwards:
    """Open ways; each is a program of its own, which ends with `close`."""

    kubectl: Kubectl
    _open: dict[str, tuple[Process, str]] = field(default_factory=dict, init=False)

    async def open(self, service: str, port: int) -> str:
        """Return a URL of this machine at which a Service answers.

        Raises:
            TargetFailed: There is no pod behind it, or the cluster lets nobody through.
        """
        there = self._open.get(service)
        if there is not None and there[0].returncode is None:
            return there[1]
        argv = self.kubectl.argv("port-forward", f"service/{service}", f":{port}", "--address=127.0.0.1")
        # Without a limit: the way stays open for as long as it is used.
        argv = [word for word in argv if not word.startswith("--request-timeout")]
        process = await anyio.open_process(argv, stdin=None, stderr=-2)
        said = b""
        with anyio.move_on_after(OPEN_LIMIT_S):
            while process.stdout is not None and not _OPENED.search(said):
                try:
                    said += await process.stdout.receive()
                except anyio.EndOfStream:
                    break
        found = _OPENED.search(said)
        if found is None:
            await _end(process)
            last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise TargetFailed(f"cannot reach `{service}` in the cluster: {last[0]}")
        url = f"http://{found[1].decode()}"
        self._open[service] = (process, url)
        return url

    async def close(self) -> None:
        """End them all."""
        while self._open:
            _, (process, _) = self._open.popitem()
            await _end(process)


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        for stop in (process.terminate, process.kill):
            with suppress(ProcessLookupError):
                stop()
            with anyio.move_on_after(END_LIMIT_S):
                await process.wait()
                break
        await process.aclose()
