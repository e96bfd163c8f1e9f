"""What is mounted in a container, and where a path of it really lives; every method is pure.

Mounts are only listed here: an exec makes them (`runtime/assemble.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pipeline.digest import digest_text
from pipeline.engine import actions, ops
from pipeline.engine.configured import BadArgument, Configured
from pipeline.engine.files import SCRATCH, Directory, File
from pipeline.engine.paths import is_within, join, relative

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted(Configured):
    """A root file system and what is mounted over it."""

    rootfs: ops.Tree = SCRATCH
    mounts: tuple[ops.Mount, ...] = ()

    # ---- where paths lead --------------------------------------------------------------------

    def _path(self, path: str, *, expand: bool = False) -> str:
        return join(self.config.workdir, self.expand(path, wanted=expand))

    def _locate(self, path: str) -> tuple[ops.Tree, str]:
        """Return the tree and the path in it that `path` shows, through mounts.

        Raises:
            BadArgument: It lies in a cache volume or tmpfs.
        """
        mount = self._mount_over(path)
        if mount is None:
            return self.rootfs, path
        if isinstance(mount, ops.TreeMount):
            return mount.tree, join(mount.source_path, relative(path, mount.path))
        kind = "cache" if isinstance(mount, ops.CacheMount) else "tmpfs"
        raise BadArgument(f"{path}: cannot retrieve path from {kind}")

    def locate(self, path: str, *, expand: bool = False) -> tuple[ops.Tree, str]:
        """Return the tree and the path in it that `path` (absolute or from the workdir) shows.

        Raises:
            BadArgument: It lies in a cache volume or tmpfs.
        """
        return self._locate(self._path(path, expand=expand))

    def _mount_over(self, path: str) -> ops.TreeMount | ops.CacheMount | ops.TempMount | None:
        """Return the mount that shows at `path`: the longest that holds it, the later of equals."""
        best: ops.TreeMount | ops.CacheMount | ops.TempMount | None = None
        for mount in self.mounts:
            if isinstance(mount, (ops.SecretMount, ops.SocketMount)):
                continue
            if is_within(path, mount.path) and (best is None or len(mount.path) >= len(best.path)):
                best = mount
        return best

    # ---- mounting ----------------------------------------------------------------------------

    def _mounted(self, mount: ops.Mount) -> Self:
        """Add a mount; earlier ones at its path and below it go."""
        kept = tuple(m for m in self.mounts if not is_within(m.path, mount.path) or _is_secret(m))
        return replace(self, mounts=(*kept, mount))

    def _without_mount_at(self, path: str, *, files_only: bool = False) -> Self:
        def goes(mount: ops.Mount) -> bool:
            is_tree = isinstance(mount, ops.TreeMount)
            return mount.path == path and is_tree and (not files_only or mount.is_file)  # type: ignore[union-attr]

        if not any(goes(m) for m in self.mounts):
            return self
        return replace(self, mounts=tuple(m for m in self.mounts if not goes(m)))

    def with_mounted_directory(
        self,
        path: str,
        source: Directory,
        *,
        owner: str = "",
        read_only: bool = False,
        expand: bool = False,
    ) -> Self:
        """Mount a directory copy-on-write; an exec's changes stay in the mount of the result."""
        target = self._path(path, expand=expand)
        owned = self._owned(target, source, owner)
        mount = ops.TreeMount(path=target, tree=owned.tree, source_path=owned.path, read_only=read_only)
        return replace(self._mounted(mount), image_ref="")

    def with_mounted_file(self, path: str, source: File, *, owner: str = "", expand: bool = False) -> Self:
        """Mount one file copy-on-write."""
        target = self._path(path, expand=expand)
        if owner:
            alone = Directory().with_file(source.name, source)
            source = self._owned(target, alone, owner).file(source.name)
        mount = ops.TreeMount(path=target, tree=source.tree, source_path=source.path, is_file=True)
        return self._mounted(mount)

    def _owned(self, target: str, source: Directory, owner: str) -> Directory:
        """Return what is mounted at `target`: `source`, belonging to a user of this container.

        Names are looked up where the users are: the copy is made in the container's own tree, in a
        folder beside everything else, of which only the copy is mounted.
        """
        if not owner or all(part.isdigit() for part in owner.split(":")):
            return source.chown("/", owner) if owner else source
        folder = f"/.owned-{digest_text(target).removeprefix('sha256:')[:16]}"
        action = actions.Copy(source=source.tree, source_path=source.path, path=folder, owner=owner)
        return Directory(tree=ops.Edit(base=self.rootfs, action=action), path=folder)

    def with_mounted_cache(
        self,
        path: str,
        cache: ops.CacheVolume,
        *,
        source: Directory | None = None,
        sharing: Literal["SHARED", "PRIVATE", "LOCKED"] | None = None,
        owner: str = "",
        expand: bool = False,
    ) -> Self:
        """Mount a cache volume; arguments given here override the volume's own."""
        volume = replace(
            cache,
            source=source.as_tree() if source is not None else cache.source,
            sharing=sharing or cache.sharing,
            owner=owner or cache.owner,
        )
        return self._mounted(ops.CacheMount(path=self._path(path, expand=expand), volume=volume))

    def with_mounted_temp(self, path: str, *, size: int | None = None, expand: bool = False) -> Self:
        """Mount a tmpfs that is fresh in each exec."""
        return self._mounted(ops.TempMount(path=self._path(path, expand=expand), size_bytes=size))

    def with_mounted_secret(
        self,
        path: str,
        source: ops.SecretHandle,
        *,
        owner: str = "",
        mode: int = 0o400,
        expand: bool = False,
    ) -> Self:
        """Mount a secret as a file; it wins over any other mount at its path."""
        target = self._path(path, expand=expand)
        mount = ops.SecretMount(path=target, secret=source, owner=owner, mode=mode)
        return replace(self, mounts=(*self.mounts, mount))

    def with_unix_socket(self, path: str, source: str, *, owner: str = "", expand: bool = False) -> Self:
        """Forward a Unix socket of the host; one at the same path is replaced."""
        bare = self.without_unix_socket(path, expand=expand)
        mount = ops.SocketMount(path=self._path(path, expand=expand), host_path=source, owner=owner)
        return replace(bare, mounts=(*bare.mounts, mount))

    def without_unix_socket(self, path: str, *, expand: bool = False) -> Self:
        """Remove a forwarded socket."""
        target = self._path(path, expand=expand)
        kept = tuple(m for m in self.mounts if not (isinstance(m, ops.SocketMount) and m.path == target))
        return replace(self, mounts=kept)

    def without_mount(self, path: str, *, expand: bool = False) -> Self:
        """Remove the mount exactly at `path`, and one secret file there (the last)."""
        target = self._path(path, expand=expand)
        secrets = [m for m in self.mounts if isinstance(m, ops.SecretMount) and m.path == target]
        last = secrets[-1] if secrets else None

        def stays(mount: ops.Mount) -> bool:
            if isinstance(mount, ops.SecretMount):
                return mount is not last
            return isinstance(mount, ops.SocketMount) or mount.path != target

        return replace(self, mounts=tuple(m for m in self.mounts if stays(m)))

    def mount_paths(self) -> tuple[str, ...]:
        """Return mount targets in order; secrets and sockets are not listed."""
        return tuple(m.path for m in self.mounts if not isinstance(m, (ops.SecretMount, ops.SocketMount)))


def _is_secret(mount: ops.Mount) -> bool:
    return isinstance(mount, (ops.SecretMount, ops.SocketMount))
