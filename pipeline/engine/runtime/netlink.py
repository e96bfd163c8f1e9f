"""The few rtnetlink requests that a container network needs, without running `ip`."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

_NEWLINK: Final = 16
_DELLINK: Final = 17
_NEWADDR: Final = 20
_NEWROUTE: Final = 24
_ERROR: Final = 2

_REQUEST: Final = 0x1
_ACK: Final = 0x4
_EXCLUSIVE: Final = 0x200
_CREATE: Final = 0x400

_IFF_UP: Final = 0x1
_TABLE_MAIN: Final = 254
_PROTOCOL_BOOT: Final = 3
_UNICAST: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ANSWER_BYTES: Final = 65536


class Netlink:
    """A socket to the kernel's routing tables, of the network namespace it was opened in.

    Every request waits for the kernel's answer and raises `OSError` when that is a refusal.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def add_bridge(self, name: str, mac: bytes) -> None:
        """Make a bridge that is up; its own address keeps neighbours' tables right as ports come and go."""
        info = _attribute(18, _attribute(1, b"bridge\0"))
        body = _link(flags=_IFF_UP) + _attribute(3, name.encode() + b"\0") + _attribute(1, mac) + info
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, body)

    def add_veth(self, name: str, *, bridge: int, peer: str, peer_namespace: int) -> None:
        """Make a pair: `name`, a port of `bridge` that is up, and `peer` in the namespace of a descriptor."""
        other = (
            _link() + _attribute(3, peer.encode() + b"\0") + _attribute(28, struct.pack("=I", peer_namespace))
        )
        info = _attribute(18, _attribute(1, b"veth\0") + _attribute(2, _attribute(1, other)))
        body = _link(flags=_IFF_UP) + _attribute(3, name.encode() + b"\0")
        self._ask(_NEWLINK, _CREATE | _EXCLUSIVE, body + _attribute(10, struct.pack("=I", bridge)) + info)

    def set_up(self, index: int) -> None:
        """Bring an interface up."""
        self._ask(_NEWLINK, 0, _link(index=index, flags=_IFF_UP))

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an IPv4 address."""
        raw = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, 0, index)
        self._ask(_NEWADDR, _CREATE | _EXCLUSIVE, body + _attribute(2, raw) + _attribute(1, raw))

    def add_default_route(self, gateway: str) -> None:
        """Send everything that is not local to `gateway`."""
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, 0, _UNICAST, 0)
        self._ask(_NEWROUTE, _CREATE | _EXCLUSIVE, body + _attribute(5, socket.inet_aton(gateway)))

    def remove_link(self, name: str) -> bool:
        """Remove an interface; False when there is none of that name."""
        try:
            self._ask(_DELLINK, 0, _link() + _attribute(3, name.encode() + b"\0"))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST | _ACK, self._sequence, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(_ANSWER_BYTES)
        _size, answer_kind, _flags, _sequence, _port = _HEADER.unpack_from(answer)
        if answer_kind != _ERROR:
            raise OSError(errno.EPROTO, "the kernel's answer is none")
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code != 0:
            raise OSError(-code, os.strerror(-code))


def _link(*, index: int = 0, flags: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size % 4)
