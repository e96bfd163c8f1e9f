"""Turns an `ops.Exec` and its evaluated trees into a spec for a runner, and lends what the spec needs.

Whatever is made for the spec (drafts, locks, sockets) belongs to the assembly and goes with it, but
for the drafts that the caller takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from pipeline.engine import ops
from pipeline.engine.runtime.names import hosts_text
from pipeline.engine.runtime.scrub import Forms, forms_of
from pipeline.engine.runtime.sockets import open_socket
from pipeline.engine.runtime.spec import BindMount, ExecSpec, FileMount, Overlay, OverlayMount, TmpfsMount
from pipeline.engine.runtime.stacked import make_stubs, remove_left_stub, resolve
from pipeline.engine.runtime.users import find_identity, find_ids
from pipeline.engine.runtime.volumes import lock_names, locked, open_volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.runtime.network import Namespace, Network
    from pipeline.engine.runtime.spec import Mounted
    from pipeline.engine.runtime.surroundings import Surroundings
    from pipeline.engine.store import Draft, Snapshot, Store

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_SYSTEM_PLACES: Final = {"/proc": True, "/sys": True, "/dev": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stub:
    """A place that a mount needed and that could not come from the stub layer."""

    lowers: tuple[Path, ...]
    upper: Path
    target: str


@dataclass(slots=True, kw_only=True)
class Assembled:
    """A spec, the drafts that the run writes to, and what its output must not show."""

    spec: ExecSpec
    rootfs: Draft
    mounts: dict[str, Draft]
    forms: Forms
    namespace: Namespace | None
    left_stubs: tuple[_Stub, ...]

    def tidy(self) -> None:
        """Take out of the drafts what only the mounts needed; call it when the container is gone."""
        for stub in self.left_stubs:
            remove_left_stub(stub.lowers, stub.upper, stub.target)


@contextlib.asynccontextmanager
async def assembled(
    store: Store,
    network: Network,
    exec_: ops.Exec,
    trees: Mapping[Digest, Snapshot],
    *,
    hosts: Sequence[tuple[str, str]],
    surroundings: Surroundings,
    hostname: str = "",
    hosts_file: Path | None = None,
    slot: contextlib.AbstractAsyncContextManager[object] | None = None,
) -> AsyncIterator[Assembled]:
    """Lend what one run needs; the drafts are the caller's unless the body fails.

    Args:
        hosts: Address and name of each service that is bound.
        hostname: "" for the usual one.
        hosts_file: What to show as `/etc/hosts` instead of a file of `hosts`.
        slot: What to hold while running; it is waited for when the locks are held, never the reverse.

    Raises:
        UnknownUser: The exec's user, or the owner of a mount, is not in the container's files.
        NetworkFailed: There is no network namespace to be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(locked(store, lock_names(exec_.mounts)))
        if slot is not None:
            await stack.enter_async_context(slot)
        builder = _Builder(store, exec_, trees, stack)
        try:
            await builder.add_secrets(surroundings)
            builder.add_names(hosts, network, hostname, hosts_file)
            for target, source in surroundings.binds.items():
                builder.bind(target, source)
            for mount in sorted(exec_.mounts, key=_order):
                await builder.add(mount)
            namespace = None
            if exec_.network == "default":
                namespace = await stack.enter_async_context(network.lease())
            yield builder.finish(namespace, surroundings)
        except BaseException:
            for draft in builder.drafts():
                store.snapshots.discard(draft)
            raise


def _order(mount: ops.Mount) -> tuple[str, bool]:
    """Parents come before what is below them; at one path a secret covers whatever else is mounted."""
    return mount.path.rstrip("/") + "/", isinstance(mount, ops.SecretMount)


class _Builder:
    """Collects the parts of a spec."""

    def __init__(
        self,
        store: Store,
        exec_: ops.Exec,
        trees: Mapping[Digest, Snapshot],
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._store = store
        self._exec = exec_
        self._trees = trees
        self._stack = stack
        self._base = trees[exec_.base.digest]
        self._lowers = store.snapshots.lowers(self._base)
        self._identity = find_identity(self._lowers, exec_.user)
        self._mounts: list[Mounted] = []
        self._places: list[tuple[str, bool]] = []  # of each mount: its target, and whether it is a directory
        self._tree_drafts: dict[str, Draft] = {}
        self._secret_env: dict[str, str] = {}
        self._forms = Forms(())
        self._values: dict[str, bytes] = {}
        self._hostname = ""
        self._rootfs = store.snapshots.prepare(self._base)

    def drafts(self) -> list[Draft]:
        return [self._rootfs, *self._tree_drafts.values()]

    # ---- parts -----------------------------------------------------------------------------

    async def add_secrets(self, surroundings: Surroundings) -> None:
        handles = [handle for _, handle in self._exec.secret_env]
        handles += [mount.secret for mount in self._exec.mounts if isinstance(mount, ops.SecretMount)]
        # In a thread: a value may come from a command or a remote service.
        for handle in handles:
            self._values[handle.handle] = await asyncio.to_thread(handle.read)
        for name, handle in self._exec.secret_env:
            self._secret_env[name] = os.fsdecode(self._values[handle.handle])
        hidden = [*self._values.values(), *(text.encode() for text in surroundings.secrets)]
        if hidden:
            self._forms = await asyncio.to_thread(forms_of, hidden)  # large ones take a while

    def add_names(
        self, hosts: Sequence[tuple[str, str]], network: Network, hostname: str, hosts_file: Path | None
    ) -> None:
        self._hostname = hostname or (secrets.token_hex(6) if self._exec.insecure else "dagger")
        if hosts_file is None:
            content = hosts_text(self._hostname, hosts)
            self._add(FileMount(target="/etc/hosts", content=content), is_dir=False)
        else:
            self.bind("/etc/hosts", hosts_file)
        names = network.resolv_conf(of_host=self._exec.network == "host")
        self._add(FileMount(target="/etc/resolv.conf", content=names.encode()), is_dir=False)

    def bind(self, target: str, source: Path) -> None:
        self._add(BindMount(target=target, source=source, read_only=True), is_dir=source.is_dir())

    async def add(self, mount: ops.Mount) -> None:
        match mount:
            case ops.TreeMount():
                self._add_tree(mount)
            case ops.CacheMount():
                path = await open_volume(self._store, mount.volume, self._trees, self._lowers)
                self._add(BindMount(target=mount.path, source=path), is_dir=True)
            case ops.TempMount():
                self._add(
                    TmpfsMount(target=mount.path, size_bytes=mount.size_bytes, mode=0o1777), is_dir=True
                )
            case ops.SecretMount():
                uid, gid = find_ids(self._lowers, mount.owner)
                content = self._values[mount.secret.handle]
                self._add(
                    FileMount(target=mount.path, content=content, mode=mount.mode, uid=uid, gid=gid),
                    is_dir=False,
                )
            case ops.SocketMount():
                owner = find_ids(self._lowers, mount.owner)
                path = await self._stack.enter_async_context(open_socket(mount.host_path, owner))
                self._add(BindMount(target=mount.path, source=path), is_dir=False)
            case _:
                assert_never(mount)

    def _add_tree(self, mount: ops.TreeMount) -> None:
        snapshot = self._trees[mount.tree.digest]
        overlay = Overlay(lowers=self._store.snapshots.lowers(snapshot))
        if not mount.read_only:
            draft = self._tree_drafts[mount.path] = self._store.snapshots.prepare(snapshot)
            overlay = Overlay(lowers=overlay.lowers, upper=draft.upper, work=draft.work)
        self._add(
            OverlayMount(
                target=mount.path,
                overlay=overlay,
                source_path=mount.source_path,
                read_only=mount.read_only,
            ),
            is_dir=not mount.is_file,
        )

    def _add(self, mount: Mounted, *, is_dir: bool) -> None:
        self._mounts.append(mount)
        self._places.append((os.path.normpath("/" + mount.target.lstrip("/")), is_dir))

    # ---- the whole -------------------------------------------------------------------------

    def finish(self, namespace: Namespace | None, surroundings: Surroundings) -> Assembled:
        exec_, identity = self._exec, self._identity
        mounts, rootfs, left = self._with_stubs()
        return Assembled(
            spec=ExecSpec(
                id=f"exec-{os.getpid()}-{self._rootfs.id}",
                rootfs=rootfs,
                mounts=tuple(mounts),
                argv=exec_.argv,
                env=tuple(self._env(surroundings).items()),
                cwd=exec_.workdir or "/",
                uid=identity.uid,
                gid=identity.gid,
                groups=identity.groups,
                hostname=self._hostname,
                network_namespace=namespace.path if namespace else None,
                host_network=exec_.network == "host",
                init=exec_.init,
                insecure=exec_.insecure,
                redirect_stdin=exec_.redirect_stdin,
                redirect_stdout=exec_.redirect_stdout,
                redirect_stderr=exec_.redirect_stderr,
            ),
            rootfs=self._rootfs,
            mounts=self._tree_drafts,
            forms=self._forms,
            namespace=namespace,
            left_stubs=tuple(left),
        )

    def _env(self, surroundings: Surroundings) -> dict[str, str]:
        env = dict(self._exec.env)
        env.setdefault("PATH", DEFAULT_PATH)
        env.update(self._exec.volatile_env)
        env.update(self._secret_env)
        for name in _PROXIES:
            if name in env or name.lower() in env:
                continue
            value = os.environ.get(name) or os.environ.get(name.lower())
            if value:
                env[name] = env[name.lower()] = value
        for name, value in surroundings.env.items():
            env.setdefault(name, value)
        env.setdefault("HOME", self._identity.home)
        return env

    def _with_stubs(self) -> tuple[list[Mounted], Overlay, list[_Stub]]:
        """Give each overlay the places that mounts need in it."""
        needed: dict[int, dict[str, bool]] = {-1: dict(_SYSTEM_PLACES)}  # -1 is the root
        left: list[_Stub] = []
        for number, (target, is_dir) in enumerate(self._places):
            below = self._carrier(number, target)
            overlay, inner = self._overlay_at(below, target)
            if overlay is None:
                continue  # made in the volume or tmpfs itself
            place = resolve(overlay.lowers, inner)
            if place.hidden and overlay.upper is not None:
                left.append(_Stub(lowers=overlay.lowers, upper=overlay.upper, target=place.real))
            elif place.file is None:
                needed.setdefault(below, {})[place.real] = is_dir
        mounts = list(self._mounts)
        rootfs = self._stubbed(self._root_overlay(), needed.pop(-1))
        for number, targets in needed.items():
            mount = mounts[number]
            assert isinstance(mount, OverlayMount)  # noqa: S101 - only overlays get stubs
            mounts[number] = OverlayMount(
                target=mount.target,
                overlay=self._stubbed(mount.overlay, targets),
                source_path=mount.source_path,
                read_only=mount.read_only,
            )
        return mounts, rootfs, left

    def _carrier(self, number: int, target: str) -> int:
        """Return the mount made before that covers `target`; -1 for the root."""
        found, longest = -1, 0
        for other, (place, _) in enumerate(self._places[:number]):
            if target.startswith(place.rstrip("/") + "/") and len(place) >= longest:
                found, longest = other, len(place)
        return found

    def _overlay_at(self, number: int, target: str) -> tuple[Overlay | None, str]:
        if number < 0:
            return self._root_overlay(), target
        mount = self._mounts[number]
        if not isinstance(mount, OverlayMount):
            return None, target
        return mount.overlay, os.path.normpath(mount.source_path + target[len(self._places[number][0]) :])

    def _root_overlay(self) -> Overlay:
        return Overlay(lowers=self._lowers, upper=self._rootfs.upper, work=self._rootfs.work)

    def _stubbed(self, overlay: Overlay, targets: dict[str, bool]) -> Overlay:
        layer = make_stubs(self._store.root / "stubs", targets)
        return Overlay(lowers=(*overlay.lowers, layer), upper=overlay.upper, work=overlay.work)
