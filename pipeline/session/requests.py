"""What a client asks the engine that stays for, read as it comes: one that is slow holds nobody up."""

from __future__ import annotations

import array
import json
import math
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Final

REQUEST_BYTES: Final = 16 << 20
"""The longest request: the kernel lets a process have 6 MiB of variables."""
REQUEST_LIMIT_S: Final = 5.0
"""Longest time that a client may take to say what it wants."""
DESCRIPTORS: Final = 4
HEADER: Final = struct.Struct("!Q")
_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client wants: its command line and surroundings, and descriptors for 0, 1, 2 and events."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    workdir: str
    umask: int
    idle_s: float
    descriptors: list[int] = field(default_factory=list)


class Coming:
    """A request on its way: its connection, which does not block from now on, and until when it may take."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.until = time.monotonic() + REQUEST_LIMIT_S
        self.descriptors: list[int] = []
        self._data = bytearray()

    def read(self) -> Asked | None:
        """Read what has come; return the request once it is whole.

        Raises:
            OSError: The client has gone.
            ValueError: It is no request.
        """
        while (wanted := self._wanted()) > 0:
            try:
                data = self._receive(min(wanted, _READ_BYTES))
            except BlockingIOError:
                return None
            if not data:
                raise ValueError("the request ends early")
            self._data += data
        return self._asked()

    def close(self) -> None:
        """Let go of a request that is not met."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.connection.close()

    def _wanted(self) -> int:
        """How many bytes are still to come, as far as that is known."""
        if len(self._data) < HEADER.size:
            return HEADER.size - len(self._data)
        (length,) = HEADER.unpack_from(self._data)
        if length > REQUEST_BYTES:
            raise ValueError("the request is too long")
        return HEADER.size + int(length) - len(self._data)

    def _receive(self, count: int) -> bytes:
        size = array.array("i").itemsize
        space = socket.CMSG_SPACE(DESCRIPTORS * size)
        data, ancillary, _, _ = self.connection.recvmsg(count, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self.descriptors += array.array("i", content[: len(content) - len(content) % size])
        if len(self.descriptors) > DESCRIPTORS:
            raise ValueError("the request holds too many descriptors")
        return data

    def _asked(self) -> Asked:
        text = self._data[HEADER.size :].decode("utf-8", "surrogateescape")
        try:
            table: dict[str, Any] = json.loads(text)
            asked = Asked(
                argv=tuple(table["argv"]),
                environ=dict(table["environ"]),
                workdir=str(table["workdir"]),
                umask=int(table["umask"]),
                idle_s=float(table["idle_s"]),
                descriptors=self.descriptors,
            )
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("the request lacks something") from error
        if not math.isfinite(asked.idle_s):
            raise ValueError("the request names no time to stay")
        return asked
