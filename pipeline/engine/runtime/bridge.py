"""The bridge of an engine: a numbered link with rules, made by one engine at a time and swept by the next.

Whoever may bind the number's abstract socket owns it, and a number that is free but has a bridge, or rules,
was left by an engine that died. What is connected to the bridge is the business of `network`.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.engine.runtime import nat
from pipeline.engine.runtime.netlink import Netlink

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = 24
_SUBNETS: Final = 256
_NAME: Final = "pipeline{}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A number that is ours while `lock` is open, and what follows from it."""

    number: int
    lock: socket.socket

    @property
    def name(self) -> str:
        """The name of the link."""
        return _NAME.format(self.number)

    @property
    def subnet(self) -> str:
        """The addresses of what is connected to it."""
        return f"10.87.{self.number}.0/{PREFIX}"

    def address(self, host: int) -> str:
        """Return one of these addresses; 1 is the bridge's own."""
        return f"10.87.{self.number}.{host}"


def claim(preferred: int, *, apart: bool = False) -> Bridge:
    """Take a number nobody uses, and remove what dead engines left under any; `apart` leaves that to root.

    Raises:
        OSError: Every number is taken, or a leftover cannot be removed.
    """
    if not apart:
        _sweep()
    for offset in range(_SUBNETS):
        number = (preferred + offset) % _SUBNETS
        if (lock := _lock(number)) is not None:
            if number not in find_bridges():
                return Bridge(number=number, lock=lock)
            lock.close()
    raise OSError(0, "all 256 subnets of 10.87.0.0/16 are in use")


def _sweep() -> None:
    """Remove bridges and rules whose number nobody owns; a kill may have left either without the other."""
    try:
        ruled = _numbers(nat.find_ruled())
    except nat.NatRefused as refusal:
        _log.debug("cannot look for rules of dead engines: %s", refusal)
        ruled = set()
    for number in sorted(find_bridges() | ruled):
        if (lock := _lock(number)) is not None:
            with lock:
                remove(Bridge(number=number, lock=lock), has_rules=number in ruled)


def remove(bridge: Bridge, *, has_rules: bool) -> None:
    """Remove the rules, then the link; with rules that stay the link stays, for the next sweep.

    Raises:
        OSError: The link cannot be removed.
    """
    if has_rules:
        try:
            nat.remove_rules(bridge.name)
        except nat.NatRefused as refusal:
            _log.warning("cannot remove the bridge `%s`: %s", bridge.name, refusal)
            return
    with Netlink() as netlink:
        netlink.remove_link(bridge.name)


def find_bridges() -> set[int]:
    """Return the numbers of the bridges there are, whosever they are."""
    return _numbers(name for _, name in socket.if_nameindex())


def _numbers(names: Iterable[str]) -> set[int]:
    """Return the numbers of those names that are of bridges of ours."""
    found = set(names)
    return {number for number in range(_SUBNETS) if _NAME.format(number) in found}


def _lock(number: int) -> socket.socket | None:
    """Own a number while the socket is open: abstract names are of the network namespace, like bridges."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0dagger-pipeline-bridge-{number}")
    except OSError:
        lock.close()
        return None
    return lock
