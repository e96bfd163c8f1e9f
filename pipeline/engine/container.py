"""A container as users hold it: configuration, a root file system, mounts; every method is pure.

What its methods say is carried out by `engine.solve` when something asks for a result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from pipeline.digest import digest_text
from pipeline.engine import ops
from pipeline.engine.durations import parse_duration
from pipeline.engine.files import SCRATCH, Directory, File, copy_of_file, encode
from pipeline.engine.oci.config import ImageConfig
from pipeline.engine.paths import expand_variables, is_within, join, relative
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
Expect = Literal["SUCCESS", "FAILURE", "ANY"]


class NoCommand(EngineError):
    """Something needs a command and none is known."""

    def __init__(self, what: str = "no command has been set") -> None:
        super().__init__(what)


class BadArgument(EngineError):
    """An argument is refused when the call is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """An immutable container; see `engine/ops.py` for what its parts mean."""

    platform: str
    config: ImageConfig = ImageConfig()
    rootfs: ops.Tree = SCRATCH
    mounts: tuple[ops.Mount, ...] = ()
    bindings: tuple[ops.ServiceBinding, ...] = ()
    secret_env: tuple[tuple[str, ops.SecretHandle], ...] = ()
    volatile_env: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    ports: tuple[ops.Port, ...] = ()  # withExposedPort: what a service knows of
    last_exec: ops.Exec | None = None
    image_ref: str = ""
    default_args_set: bool = False  # by withDefaultArgs or a Dockerfile: asService then runs them bare

    # ---- configuration ---------------------------------------------------------------------

    def _configured(self, **changes: object) -> Container:
        return replace(self, config=replace(self.config, **changes), image_ref="")  # type: ignore[arg-type]

    def env_value(self, name: str) -> str | None:
        """Return a persistent environment variable's value."""
        return dict(self.config.env).get(name)

    def expand(self, text: str, *, wanted: bool) -> str:
        """Replace variables from the persistent environment when `wanted`.

        Raises:
            BadArgument: A secret or volatile variable is named.
        """
        if not wanted:
            return text
        secrets = {name for name, _ in self.secret_env}
        volatile = {name for name, _ in self.volatile_env}

        def lookup(name: str) -> str:
            if name in secrets:
                raise BadArgument(f'expand cannot be used with secret env variable "{name}"')
            if name in volatile:
                raise BadArgument(f'expand cannot be used with volatile env variable "{name}"')
            return self.env_value(name) or ""

        return expand_variables(text, lookup)

    def with_env_variable(self, name: str, value: str, *, expand: bool = False) -> Container:
        """Set a variable; one of the same name is replaced in place."""
        value = self.expand(value, wanted=expand)
        return self._configured(env=_put(self.config.env, name, value))

    def without_env_variable(self, name: str) -> Container:
        """Remove a variable; an unknown name is fine."""
        return self._configured(env=_drop(self.config.env, name))

    def with_secret_variable(self, name: str, secret: ops.SecretHandle) -> Container:
        """Set a variable whose value is read at each exec; the last one of a name wins."""
        return replace(self, secret_env=(*_drop(self.secret_env, name), (name, secret)), image_ref="")

    def without_secret_variable(self, name: str) -> Container:
        """Remove a secret variable."""
        return replace(self, secret_env=_drop(self.secret_env, name))

    def with_volatile_variable(self, name: str, value: str) -> Container:
        """Set a variable whose value is not part of any key."""
        return replace(self, volatile_env=_put(self.volatile_env, name, value))

    def without_volatile_variable(self, name: str) -> Container:
        """Remove a volatile variable; a persistent one of that name shows again."""
        return replace(self, volatile_env=_drop(self.volatile_env, name))

    def with_label(self, name: str, value: str) -> Container:
        """Set a label."""
        return self._configured(labels=tuple(sorted({**dict(self.config.labels), name: value}.items())))

    def without_label(self, name: str) -> Container:
        """Remove a label."""
        return self._configured(labels=_drop(self.config.labels, name))

    def with_annotation(self, name: str, value: str) -> Container:
        """Set an annotation of the manifest."""
        return replace(self, annotations=_put(self.annotations, name, value), image_ref="")

    def without_annotation(self, name: str) -> Container:
        """Remove an annotation."""
        return replace(self, annotations=_drop(self.annotations, name), image_ref="")

    def with_user(self, name: str) -> Container:
        """Set the user (`user`, `user:group`, `uid`, `uid:gid`)."""
        return self._configured(user=name)

    def with_workdir(self, path: str, *, expand: bool = False) -> Container:
        """Set the working directory; a relative path joins the present one."""
        return self._configured(workdir=join(self.config.workdir, self.expand(path, wanted=expand)))

    def without_workdir(self) -> Container:
        """Unset the working directory."""
        return self._configured(workdir="")

    def with_entrypoint(self, args: Sequence[str], *, keep_default_args: bool = False) -> Container:
        """Set the entrypoint; default args are cleared unless kept."""
        kept = self if keep_default_args else self.without_default_args()
        return kept._configured(entrypoint=tuple(args))

    def without_entrypoint(self, *, keep_default_args: bool = False) -> Container:
        """Remove the entrypoint; default args are cleared unless kept."""
        kept = self if keep_default_args else self.without_default_args()
        return kept._configured(entrypoint=None)

    def with_default_args(self, args: Sequence[str]) -> Container:
        """Set the default args; an empty list is explicit."""
        return replace(self._configured(cmd=tuple(args)), default_args_set=True)

    def without_default_args(self) -> Container:
        """Remove the default args."""
        return replace(self._configured(cmd=None), default_args_set=False)

    def with_exposed_port(
        self,
        port: int,
        *,
        protocol: Literal["TCP", "UDP"] = "TCP",
        description: str | None = None,
        skip_healthcheck: bool = False,
    ) -> Container:
        """Expose a port; the same number and protocol is replaced."""
        new = ops.Port(
            port=port, protocol=protocol, description=description, skip_healthcheck=skip_healthcheck
        )
        others = tuple(p for p in self.ports if (p.port, p.protocol) != (port, protocol))
        exposed = tuple(sorted({*self.config.exposed_ports, f"{port}/{protocol.lower()}"}))
        return replace(self._configured(exposed_ports=exposed), ports=(*others, new))

    def without_exposed_port(self, port: int, *, protocol: Literal["TCP", "UDP"] = "TCP") -> Container:
        """Stop exposing one port."""
        others = tuple(p for p in self.ports if (p.port, p.protocol) != (port, protocol))
        exposed = tuple(x for x in self.config.exposed_ports if x != f"{port}/{protocol.lower()}")
        return replace(self._configured(exposed_ports=exposed), ports=others)

    def exposed_ports(self) -> tuple[ops.Port, ...]:
        """Return every exposed port, the image's too, in order of number and protocol."""
        known = {(p.port, p.protocol): p for p in self.ports}
        for text in self.config.exposed_ports:
            number, _, protocol = text.partition("/")
            kind: Literal["TCP", "UDP"] = "UDP" if protocol.lower() == "udp" else "TCP"
            if number.isdecimal():  # a range or a name stands in an image's configuration by mistake
                known.setdefault((int(number), kind), ops.Port(port=int(number), protocol=kind))
        return tuple(known[key] for key in sorted(known))

    def with_docker_healthcheck(
        self,
        args: Sequence[str],
        *,
        shell: bool = False,
        interval: str = "",
        timeout: str = "",
        start_period: str = "",
        start_interval: str = "",
        retries: int = 0,
    ) -> Container:
        """Set the health check; durations are Go's.

        Raises:
            BadArgument: Several args with `shell`.
            BadDuration: A duration cannot be read.
        """
        if shell and len(args) != 1:
            raise BadArgument("shell health checks take exactly one argument")
        check = ops.Healthcheck(
            args=tuple(args),
            shell=shell,
            interval_s=parse_duration(interval),
            timeout_s=parse_duration(timeout),
            start_period_s=parse_duration(start_period),
            start_interval_s=parse_duration(start_interval),
            retries=retries,
        )
        return self._configured(healthcheck=check)

    def without_docker_healthcheck(self) -> Container:
        """Remove the health check."""
        return self._configured(healthcheck=None)

    # ---- files -----------------------------------------------------------------------------

    def with_rootfs(self, directory: Directory) -> Container:
        """Replace the root file system; configuration and mounts stay."""
        return replace(self, rootfs=directory.as_tree(), image_ref="")

    def rootfs_directory(self) -> Directory:
        """Return the root file system without mounts."""
        return Directory(tree=self.rootfs)

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

    def directory(self, path: str, *, expand: bool = False) -> Directory:
        """Return a directory, through mounts."""
        tree, inner = self._locate(self._path(path, expand=expand))
        return Directory(tree=tree, path=inner)

    def file(self, path: str, *, expand: bool = False) -> File:
        """Return a file, through mounts."""
        tree, inner = self._locate(self._path(path, expand=expand))
        return File(tree=tree, path=inner)

    def edit(self, path: str, action: ops.Placed) -> Container:
        """Apply `action`, whose path is `path` as the container shows it, where that path lives."""
        mount = self._mount_over(path)
        if isinstance(mount, ops.TreeMount):
            inner = join(mount.source_path, relative(path, mount.path))
            moved = replace(action, path=inner)
            edited = replace(mount, tree=ops.Edit(base=mount.tree, action=moved))
            mounts = tuple(edited if m is mount else m for m in self.mounts)
            return replace(self, mounts=mounts)
        if mount is not None:
            kind = "cache" if isinstance(mount, ops.CacheMount) else "tmpfs"
            raise BadArgument(f"{path}: cannot write into {kind}")
        return replace(self, rootfs=ops.Edit(base=self.rootfs, action=action), image_ref="")

    def with_directory(
        self,
        path: str,
        source: Directory,
        *,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        gitignore: bool = False,
        owner: str = "",
        expand: bool = False,
        permissions: int | None = None,
    ) -> Container:
        """Merge the contents of `source` into `path`."""
        target = self._path(path, expand=expand)
        receiver = self._without_mount_at(target, files_only=True)
        action = ops.Copy(
            source=source.tree,
            source_path=source.path,
            path=target,
            filters=ops.Filters(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore),
            owner=owner,
            mode=permissions,
        )
        return receiver.edit(target, action)

    def with_file(
        self,
        path: str,
        source: File,
        *,
        permissions: int | None = None,
        owner: str = "",
        expand: bool = False,
    ) -> Container:
        """Copy a file to `path`, or into it when it is a directory."""
        path = self.expand(path, wanted=expand)
        action = copy_of_file(path, source, permissions=permissions, owner=owner, base=self.config.workdir)
        return self._without_mount_at(action.path).edit(action.path, action)

    def with_files(
        self,
        path: str,
        sources: Sequence[File],
        *,
        permissions: int | None = None,
        owner: str = "",
        expand: bool = False,
    ) -> Container:
        """Copy files into directory `path` under their own names."""
        folder = self.expand(path, wanted=expand).rstrip("/") + "/"
        result = self
        for source in sources:
            result = result.with_file(folder, source, permissions=permissions, owner=owner)
        return result

    def with_new_file(
        self,
        path: str,
        contents: str,
        *,
        permissions: int = 0o644,
        owner: str = "",
        expand: bool = False,
    ) -> Container:
        """Write a text file; an existing directory at `path` is entered."""
        target = self._path(path, expand=expand)
        action = ops.WriteFile(
            path=target,
            content=encode(contents),
            mode=permissions & 0o777 or 0o644,
            owner=owner,
            into=True,
        )
        return self._without_mount_at(target).edit(target, action)

    def without(self, paths: Sequence[str], *, expand: bool = False) -> Container:
        """Remove paths, wildcards too; a mount exactly there goes with what is under it."""
        result = self
        for path in paths:
            target = self._path(path, expand=expand)
            result = result._without_mount_at(target)
            over = result._mount_over(target)
            if isinstance(over, ops.TreeMount):
                inner = join(over.source_path, relative(target, over.path))
                tree = ops.Edit(base=over.tree, action=ops.Remove(paths=(inner,)))
                mounts = tuple(replace(over, tree=tree) if m is over else m for m in result.mounts)
                result = replace(result, mounts=mounts)
            else:
                tree = ops.Edit(base=result.rootfs, action=ops.Remove(paths=(target,)))
                result = replace(result, rootfs=tree, image_ref="")
        return result

    def with_symlink(self, target: str, link_name: str, *, expand: bool = False) -> Container:
        """Make a symbolic link."""
        path = self._path(link_name, expand=expand)
        return self.edit(path, ops.MakeSymlink(path=path, target=self.expand(target, wanted=expand)))

    # ---- mounts ----------------------------------------------------------------------------

    def _mounted(self, mount: ops.Mount) -> Container:
        """Add a mount; earlier ones at its path and below it go."""
        kept = tuple(m for m in self.mounts if not is_within(m.path, mount.path) or _is_secret(m))
        return replace(self, mounts=(*kept, mount))

    def _without_mount_at(self, path: str, *, files_only: bool = False) -> Container:
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
    ) -> Container:
        """Mount a directory copy-on-write; an exec's changes stay in the mount of the result."""
        target = self._path(path, expand=expand)
        owned = self._owned(target, source, owner)
        mount = ops.TreeMount(path=target, tree=owned.tree, source_path=owned.path, read_only=read_only)
        return replace(self._mounted(mount), image_ref="")

    def with_mounted_file(
        self, path: str, source: File, *, owner: str = "", expand: bool = False
    ) -> Container:
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
        action = ops.Copy(source=source.tree, source_path=source.path, path=folder, owner=owner)
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
    ) -> Container:
        """Mount a cache volume; arguments given here override the volume's own."""
        volume = replace(
            cache,
            source=source.as_tree() if source is not None else cache.source,
            sharing=sharing or cache.sharing,
            owner=owner or cache.owner,
        )
        return self._mounted(ops.CacheMount(path=self._path(path, expand=expand), volume=volume))

    def with_mounted_temp(self, path: str, *, size: int | None = None, expand: bool = False) -> Container:
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
    ) -> Container:
        """Mount a secret as a file; it wins over any other mount at its path."""
        target = self._path(path, expand=expand)
        mount = ops.SecretMount(path=target, secret=source, owner=owner, mode=mode)
        return replace(self, mounts=(*self.mounts, mount))

    def with_unix_socket(self, path: str, source: str, *, owner: str = "", expand: bool = False) -> Container:
        """Forward a Unix socket of the host; one at the same path is replaced."""
        bare = self.without_unix_socket(path, expand=expand)
        mount = ops.SocketMount(path=self._path(path, expand=expand), host_path=source, owner=owner)
        return replace(bare, mounts=(*bare.mounts, mount))

    def without_unix_socket(self, path: str, *, expand: bool = False) -> Container:
        """Remove a forwarded socket."""
        target = self._path(path, expand=expand)
        kept = tuple(m for m in self.mounts if not (isinstance(m, ops.SocketMount) and m.path == target))
        return replace(self, mounts=kept)

    def without_mount(self, path: str, *, expand: bool = False) -> Container:
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

    # ---- exec ------------------------------------------------------------------------------

    def with_exec(
        self,
        args: Sequence[str],
        *,
        use_entrypoint: bool = False,
        stdin: str = "",
        redirect_stdin: str = "",
        redirect_stdout: str = "",
        redirect_stderr: str = "",
        expect: Expect = "SUCCESS",
        insecure: bool = False,
        expand: bool = False,
        no_init: bool = False,
        network: Literal["default", "none", "host"] = "default",
    ) -> Container:
        """Run a command; the result has its changes, and its output as the last one's.

        Raises:
            NoCommand: No args, default args or entrypoint.
            BadArgument: Both `stdin` and `redirect_stdin`.
        """
        if stdin and redirect_stdin:
            raise BadArgument("cannot set both stdin and redirectStdin")
        argv = tuple(self.expand(arg, wanted=expand) for arg in args) or (self.config.cmd or ())
        if use_entrypoint:
            argv = (*(self.config.entrypoint or ()), *argv)
        if not argv:
            raise NoCommand
        node = replace(
            self.exec_node(argv, insecure=insecure, no_init=no_init),
            stdin=stdin,
            redirect_stdin=self.expand(redirect_stdin, wanted=expand),
            redirect_stdout=self.expand(redirect_stdout, wanted=expand),
            redirect_stderr=self.expand(redirect_stderr, wanted=expand),
            expect=expect,
            network=network,
        )
        return self.after(node)

    def exec_node(
        self, argv: Sequence[str], *, insecure: bool = False, no_init: bool = False, service: bool = False
    ) -> ops.Exec:
        """Describe running `argv` in this container; a service sees no volatile variables."""
        volatile = () if service else self.volatile_env
        return ops.Exec(
            base=self.rootfs,
            argv=tuple(argv),
            env=self.config.env,
            secret_env=self.secret_env,
            volatile_names=tuple(sorted(name for name, _ in volatile)),
            volatile_env=volatile,
            user=self.config.user,
            workdir=self.config.workdir,
            mounts=self.mounts,
            bindings=self.bindings,
            init=not no_init,
            insecure=insecure,
            platform=self.platform,
        )

    def after(self, node: ops.Exec) -> Container:
        """Return the container that holds what exec `node` of this one left."""
        mounts = tuple(
            replace(m, tree=ops.ExecTree(exec=node, mount=m.path))
            if isinstance(m, ops.TreeMount) and not m.read_only
            else m
            for m in self.mounts
        )
        return replace(self, rootfs=ops.ExecTree(exec=node), mounts=mounts, last_exec=node, image_ref="")

    def with_service_binding(self, alias: str, service: ops.Service) -> Container:
        """Let execs of this container reach `service` by `alias`."""
        binding = ops.ServiceBinding(alias=alias, service=service)
        return replace(self, bindings=(*self.bindings, binding))

    def as_service(
        self,
        *,
        args: Sequence[str] = (),
        use_entrypoint: bool = False,
        insecure: bool = False,
        expand: bool = False,
        no_init: bool = False,
    ) -> ops.ContainerService:
        """Return the service that runs `args`, or the container's own command as `docker run` would.

        Raises:
            NoCommand: There is nothing to run.
        """
        entrypoint = self.config.entrypoint or ()
        if args:
            argv = tuple(self.expand(arg, wanted=expand) for arg in args)
            prefixed = use_entrypoint
        else:
            argv = self.config.cmd or ()
            prefixed = use_entrypoint or not self.default_args_set
        if prefixed:
            argv = (*entrypoint, *argv)
        if not argv:
            raise NoCommand("no service command has been set")
        node = self.exec_node(argv, insecure=insecure, no_init=no_init, service=True)
        return ops.ContainerService(
            exec=node,
            ports=self.ports,
            healthcheck=self.config.healthcheck,
            shell=self.config.shell or (),
        )

    # ---- images ----------------------------------------------------------------------------

    def from_image(
        self, *, config: ImageConfig, rootfs: ops.Tree, platform: str, reference: str
    ) -> Container:
        """Return this on an image: its root file system and configuration, merged as Dagger does."""
        own = self.config
        merged = replace(
            config,
            env=_merge(own.env, config.env),
            labels=tuple(sorted({**dict(own.labels), **dict(config.labels)}.items())),
            exposed_ports=tuple(sorted({*own.exposed_ports, *config.exposed_ports})),
            on_build=(*own.on_build, *config.on_build),
            shell=config.shell if config.shell is not None else own.shell,
        )
        return replace(
            self,
            config=merged,
            rootfs=rootfs,
            platform=platform,
            image_ref=reference,
            default_args_set=False,
        )


def _is_secret(mount: ops.Mount) -> bool:
    return isinstance(mount, (ops.SecretMount, ops.SocketMount))


def _put(pairs: tuple[tuple[str, T], ...], name: str, value: T) -> tuple[tuple[str, T], ...]:
    """Set `name`, keeping its place."""
    if any(key == name for key, _ in pairs):
        return tuple((key, value if key == name else old) for key, old in pairs)
    return (*pairs, (name, value))


def _drop(pairs: tuple[tuple[str, T], ...], name: str) -> tuple[tuple[str, T], ...]:
    return tuple(pair for pair in pairs if pair[0] != name)


def _merge(
    own: tuple[tuple[str, str], ...], image: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Return the image's variables, then those of `own` that it does not name."""
    names = {name for name, _ in image}
    return (*image, *(pair for pair in own if pair[0] not in names))
