"""A container as users hold it: configuration, a root file system, mounts; every method is pure.

`configured.py` has the configuration and `mounted.py` the mounts; files, commands and images are here.
What its methods say is carried out by `engine.solve` when something asks for a result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.engine import actions, ops
from pipeline.engine.configured import BadArgument
from pipeline.engine.files import Directory, File, copy_of_file, encode
from pipeline.engine.mounted import Mounted
from pipeline.engine.paths import join, relative
from pipeline.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.engine.oci.config import ImageConfig

Expect = Literal["SUCCESS", "FAILURE", "ANY"]


class NoCommand(EngineError):
    """Something needs a command and none is known."""

    def __init__(self, what: str = "no command has been set") -> None:
        super().__init__(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container(Mounted):
    """An immutable container; see `engine/ops.py` for what its parts mean."""

    bindings: tuple[ops.ServiceBinding, ...] = ()
    last_exec: ops.Exec | None = None

    # ---- files -----------------------------------------------------------------------------

    def with_rootfs(self, directory: Directory) -> Container:
        """Replace the root file system; configuration and mounts stay."""
        return replace(self, rootfs=directory.as_tree(), image_ref="")

    def rootfs_directory(self) -> Directory:
        """Return the root file system without mounts."""
        return Directory(tree=self.rootfs)

    def directory(self, path: str, *, expand: bool = False) -> Directory:
        """Return a directory, through mounts."""
        tree, inner = self._locate(self._path(path, expand=expand))
        return Directory(tree=tree, path=inner)

    def file(self, path: str, *, expand: bool = False) -> File:
        """Return a file, through mounts."""
        tree, inner = self._locate(self._path(path, expand=expand))
        return File(tree=tree, path=inner)

    def edit(self, path: str, action: actions.Placed) -> Container:
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
        action = actions.Copy(
            source=source.tree,
            source_path=source.path,
            path=target,
            filters=actions.Filters(include=tuple(include), exclude=tuple(exclude), gitignore=gitignore),
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
        action = actions.WriteFile(
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
                tree = ops.Edit(base=over.tree, action=actions.Remove(paths=(inner,)))
                mounts = tuple(replace(over, tree=tree) if m is over else m for m in result.mounts)
                result = replace(result, mounts=mounts)
            else:
                tree = ops.Edit(base=result.rootfs, action=actions.Remove(paths=(target,)))
                result = replace(result, rootfs=tree, image_ref="")
        return result

    def with_symlink(self, target: str, link_name: str, *, expand: bool = False) -> Container:
        """Make a symbolic link."""
        path = self._path(link_name, expand=expand)
        return self.edit(path, actions.MakeSymlink(path=path, target=self.expand(target, wanted=expand)))

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
        node = self.exec_node(
            argv,
            insecure=insecure,
            no_init=no_init,
            stdin=stdin,
            redirect_stdin=self.expand(redirect_stdin, wanted=expand),
            redirect_stdout=self.expand(redirect_stdout, wanted=expand),
            redirect_stderr=self.expand(redirect_stderr, wanted=expand),
            expect=expect,
            network=network,
        )
        return self.after(node)

    def exec_node(
        self,
        argv: Sequence[str],
        *,
        insecure: bool = False,
        no_init: bool = False,
        service: bool = False,
        **more: Any,
    ) -> ops.Exec:
        """Describe running `argv` in this container; a service sees no volatile variables.

        Args:
            more: Fields of the exec that are not the container's.
        """
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
            **more,
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


def _merge(
    own: tuple[tuple[str, str], ...], image: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Return the image's variables, then those of `own` that it does not name."""
    names = {name for name, _ in image}
    return (*image, *(pair for pair in own if pair[0] not in names))
