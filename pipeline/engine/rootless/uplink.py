"""Joins a network namespace of ours to the outside, by a program that speaks for it with a user's sockets.

`slirp4netns` or, where it is not installed, `pasta`: neither needs any right on the host's network. Neither
leads to the host's loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

START_LIMIT_S: Final = 5.0
_END_LIMIT_S: Final = 2.0
_POLL_S: Final = 0.005
_MTU: Final = 65520
_GATEWAY_FLAG: Final = 0x2  # of a line in /proc/net/route
PROGRAMS: Final = ("slirp4netns", "pasta")
"""What can do it, in the order of trying: `pasta` of 2023 loses what is for a bridge behind it."""


class UplinkRefused(Exception):
    """No program is there, or it does not work; the text says which."""


class Uplink:
    """The program of one namespace, which is bound to a path: `pasta` may not look at descriptors of ours."""

    def __init__(self, namespace: Path) -> None:
        self.namespace = namespace
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, is_routed: Callable[[], Awaitable[bool]]) -> None:
        """Start the first program that works, and wait until the namespace has a way out.

        Raises:
            UplinkRefused: None works.
        """
        refusals = []
        for program in PROGRAMS:
            if shutil.which(program) is None:
                continue
            refusal = await self._start(program, is_routed)
            if not refusal:
                return
            refusals.append(f"`{program}` {refusal}")
        raise UplinkRefused("; ".join(refusals) or "neither `slirp4netns` nor `pasta` is installed")

    async def close(self) -> None:
        """End the program. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        for end in (process.terminate, process.kill):
            with contextlib.suppress(ProcessLookupError):
                end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_LIMIT_S):
                    await process.wait()
                    return

    async def _start(self, program: str, is_routed: Callable[[], Awaitable[bool]]) -> str:
        """Return why it does not work; "" when it does."""
        # However this process ends, the program ends with it.
        tied = ("setpriv", "--pdeathsig", "KILL", "--", *uplink_argv(program, self.namespace))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *tied,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        deadline = time.monotonic() + START_LIMIT_S
        while not await is_routed():
            if self._process.returncode is not None or time.monotonic() > deadline:
                return await self._refusal()
            await asyncio.sleep(_POLL_S)
        return ""

    async def _refusal(self) -> str:
        assert self._process is not None  # noqa: S101 - it was started
        process = self._process
        code = process.returncode
        await self.close()
        assert process.stderr is not None  # noqa: S101 - made with a pipe
        said = (await process.stderr.read()).decode("utf-8", "replace").strip().splitlines()
        if code is None:
            return f"made no way out within {START_LIMIT_S:.0f} s"
        return f"ended with {code}: {said[-1] if said else 'it said nothing'}"


def uplink_argv(program: str, namespace: Path) -> Sequence[str]:
    """Return the command that joins the namespace at a path, in the foreground."""
    path = os.fspath(namespace)
    if program == "pasta":
        no_ports = ("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none")
        quiet = ("--foreground", "--quiet", "--stderr", "--ipv4-only", "--ns-ifname", "out")
        return ("pasta", *quiet, "--config-net", "--no-map-gw", *no_ports, "--netns-only", "--netns", path)
    settings = ("--configure", f"--mtu={_MTU}", "--disable-host-loopback")
    return ("slirp4netns", *settings, "--netns-type=path", path, "out")


def has_default_route() -> bool:
    """Say whether the calling thread's network namespace has an IPv4 way out."""
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        _name, destination, _gateway, flags = line.split()[:4]
        if destination == "00000000" and int(flags, 16) & _GATEWAY_FLAG:
            return True
    return False
