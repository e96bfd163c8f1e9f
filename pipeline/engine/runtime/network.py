"""Network namespaces for execs: one bridge per engine process, NAT to the outside, names by files.

A namespace is held by a descriptor of the engine alone, so that it goes with the engine however that
ends. What could stay behind, the bridge and its rules, is the business of `bridge`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import socket
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.engine.mounts import is_user_namespace, unmount
from pipeline.engine.rootless.uplink import Uplink, UplinkRefused, has_default_route
from pipeline.engine.runtime import nat
from pipeline.engine.runtime.bridge import PREFIX, Bridge, claim, find_bridges, remove
from pipeline.engine.runtime.dns import DnsForwarder, find_nameservers, is_local
from pipeline.engine.runtime.errors import NetworkFailed
from pipeline.engine.runtime.netlink import Netlink
from pipeline.engine.runtime.syscalls import CLONE_NEWNET, MS_BIND, mount, setns, unshare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_READY: Final = 2
_FIRST_HOST: Final = 2
_LAST_HOST: Final = 254
_PLACE: Final = "network"
"""The file of the state directory over which an engine without root binds its namespace."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A network namespace of an exec: where it is, and its address on the bridge ("" without bridge)."""

    path: Path
    address: str
    descriptor: int


class Network:
    """The engine's bridge and its pool of ready namespaces."""

    def __init__(self, *, offline: bool) -> None:
        self.nameservers: tuple[str, ...] = ()
        self.limits: tuple[str, ...] = ()  # what the host does not allow, one sentence each
        self._offline = offline
        # One thread, because a namespace is entered by the whole thread.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        self._bridge: Bridge | None = None
        self._index = 0
        self._forwarder: DnsForwarder | None = None
        self._enabled_forwarding = False
        self._has_rules = False
        self._uplink: Uplink | None = None  # of the bridge's namespace, where that is not the host's
        self._names = itertools.count()
        self._used: set[int] = set()
        self._next_host = _FIRST_HOST
        self._ready: deque[Namespace] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(cls, root: Path, *, offline: bool = False) -> Network:
        """Make the bridge and sweep what dead engines left; `root` is the engine's state directory.

        Where the host allows no bridge or no translation the network works without; `limits` says so.

        Raises:
            NetworkFailed: Not even a namespace can be made.
        """
        network = cls(offline=offline)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(network._thread, network._open, root)
            await network._open_uplink()
            await network._open_names()
            network._ready.append(await loop.run_in_executor(network._thread, network._make))
        except BaseException:
            await network.close()
            raise
        for limit in network.limits:
            _log.warning(limit)
        return network

    @property
    def is_apart(self) -> bool:
        """Whether the bridge is in a namespace of its own, so that programs of the host do not see it."""
        return self._uplink is not None

    @property
    def gateway(self) -> str:
        """The engine's own address on the bridge; "" without one."""
        return self._bridge.address(1) if self._bridge else ""

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Namespace]:
        """Lend a fresh namespace with loopback and an address on the bridge; it is removed after.

        Raises:
            NetworkFailed: The kernel refused it, or every address is in use.
        """
        if self._ready:
            namespace = self._ready.popleft()
        else:
            namespace = await asyncio.get_running_loop().run_in_executor(self._thread, self._make)
        self._fill()
        try:
            yield namespace
        finally:
            self._drop(namespace)

    async def socket_at_bridge(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket of the namespace the bridge is in, not blocking; as root that is the host's own."""
        loop = asyncio.get_running_loop()
        kind |= socket.SOCK_NONBLOCK
        return await loop.run_in_executor(self._thread, socket.socket, socket.AF_INET, kind)

    async def socket_inside(self, namespace: Namespace, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Return a socket of a namespace, not blocking; it stays there whoever uses it.

        Raises:
            OSError: The namespace cannot be entered.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _socket_inside, namespace.descriptor, kind)

    async def close(self) -> None:
        """Remove the namespaces, the bridge and the rules. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._filling is not None:
            await asyncio.gather(self._filling, return_exceptions=True)
        while self._ready:
            self._drop(self._ready.popleft())
        if self._forwarder is not None:
            self._forwarder.close()
        if self._uplink is not None:
            await self._uplink.close()
            unmount(self._uplink.namespace)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def resolv_conf(self, *, of_host: bool = False) -> str:
        """Return the text of `/etc/resolv.conf` for execs; `of_host` for those in the host's network."""
        servers = find_nameservers() if of_host else self.nameservers
        return "".join(f"nameserver {address}\n" for address in servers)

    def _fill(self) -> None:
        if self._closed or (self._filling is not None and not self._filling.done()):
            return
        if len(self._ready) < _READY:
            self._filling = asyncio.ensure_future(self._make_ready())

    async def _make_ready(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._ready) < _READY and not self._closed:
            try:
                self._ready.append(await loop.run_in_executor(self._thread, self._make))
            except NetworkFailed:
                return  # whoever needs one makes it and reports the failure

    def _drop(self, namespace: Namespace) -> None:
        os.close(namespace.descriptor)
        if namespace.address:
            self._used.discard(int(namespace.address.rsplit(".", 1)[1]))

    # ---- in the thread ---------------------------------------------------------------------

    def _open(self, root: Path) -> None:
        try:
            if is_user_namespace():
                # Taken while still at home: an address of a bridge means one thing on the whole machine.
                self._bridge = claim(_preferred_subnet(root), apart=True)
                self._leave_host(root / _PLACE)
            else:
                self._bridge = claim(_preferred_subnet(root))
            with Netlink() as netlink:
                name = self._bridge.name
                netlink.add_bridge(name, bytes((0x02, 0x57, 10, 87, self._bridge.number, 1)))
                self._index = socket.if_nametoindex(name)
                netlink.add_address(self._index, self._bridge.address(1), PREFIX)
        except OSError as error:
            self._close()
            self.limits += (f"execs have no network but loopback: cannot make a bridge: {error.strerror}",)
            return
        if self._offline:
            return
        try:
            self._enabled_forwarding = nat.enable_forwarding()
            nat.add_rules(self._bridge.name, self._bridge.subnet)
            self._has_rules = True
        except nat.NatRefused as refusal:
            self.limits += (f"execs cannot reach the outside: {refusal}",)

    def _leave_host(self, place: Path) -> None:
        """Give this thread a network namespace to make the bridge in, as the host's is not ours to change.

        Everything else of the engine stays in the host's: what it listens on and connects to.

        Raises:
            OSError: The kernel refused.
        """
        unshare(CLONE_NEWNET)
        place.open("a").close()
        mount(
            "/proc/thread-self/ns/net", os.fspath(place), "", MS_BIND, ""
        )  # seen by this process and its children alone
        self._uplink = Uplink(place)
        with Netlink() as netlink:
            netlink.set_up(1)

    async def _open_uplink(self) -> None:
        if self._uplink is None or self._offline or self._bridge is None:
            return
        try:
            await self._uplink.open(self._is_routed)
        except UplinkRefused as refusal:
            self.limits += (f"execs cannot reach the outside: {refusal}",)

    async def _is_routed(self) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, has_default_route)

    async def _open_names(self) -> None:
        found = find_nameservers()
        local = [address for address in found if is_local(address)]
        self.nameservers = tuple(address for address in found if not is_local(address))
        if self.nameservers or not local or self._bridge is None or self._offline:
            return
        forwarder = DnsForwarder(local[0])
        try:
            datagrams = await self.socket_at_bridge(socket.SOCK_DGRAM)
            streams = await self.socket_at_bridge()
            await forwarder.open(self.gateway, datagrams=datagrams, streams=streams)
        except OSError as error:
            forwarder.close()
            self.limits += (f"execs cannot resolve names: cannot listen on the bridge: {error.strerror}",)
            return
        self._forwarder = forwarder
        self.nameservers = (self.gateway,)

    def _make(self) -> Namespace:
        host = self._free_host() if self._bridge else 0
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        descriptor = -1
        try:
            unshare(CLONE_NEWNET)
            try:
                descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                with Netlink() as inside:
                    self._furnish(inside, descriptor, home, host)
            finally:
                setns(home, CLONE_NEWNET)
        except OSError as error:
            self._used.discard(host)
            if descriptor >= 0:
                os.close(descriptor)
            raise NetworkFailed(f"cannot make a network namespace: {error.strerror}") from error
        finally:
            os.close(home)
        path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        address = self._bridge.address(host) if self._bridge else ""
        return Namespace(path=path, address=address, descriptor=descriptor)

    def _furnish(self, inside: Netlink, descriptor: int, home: int, host: int) -> None:
        inside.set_up(1)
        if self._bridge is None:
            return
        setns(home, CLONE_NEWNET)
        with Netlink() as outside:
            for name in (f"pl{self._bridge.number}x{number}" for number in self._names):
                # The kernel takes its time with what a killed engine of this number had.
                with contextlib.suppress(FileExistsError):
                    outside.add_veth(name, bridge=self._index, peer="eth0", peer_namespace=descriptor)
                    break
        setns(descriptor, CLONE_NEWNET)
        index = socket.if_nametoindex("eth0")
        inside.add_address(index, self._bridge.address(host), PREFIX)
        inside.set_up(index)
        inside.add_default_route(self._bridge.address(1))

    def _free_host(self) -> int:
        for _ in range(_FIRST_HOST, _LAST_HOST + 1):
            host = self._next_host
            self._next_host = host + 1 if host < _LAST_HOST else _FIRST_HOST
            if host not in self._used:
                self._used.add(host)
                return host
        raise NetworkFailed(f"cannot make a network namespace: all {_LAST_HOST - 1} addresses are in use")

    def _close(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is None:
            return
        with bridge.lock:
            remove(bridge, has_rules=self._has_rules)
            if self._enabled_forwarding and not find_bridges():
                nat.disable_forwarding()


def _preferred_subnet(root: Path) -> int:
    """Return the subnet to try first: the same for the same state directory."""
    return hashlib.sha256(os.fsencode(root)).digest()[0]


def _socket_inside(descriptor: int, kind: int) -> socket.socket:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor, CLONE_NEWNET)
        try:
            inside = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
    return inside
