"""`Container`: configuration, files, mounts; `execution` has what runs it and makes images of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import read
from pipeline.engine.configured import BadArgument
from pipeline.engine.container import Container
from pipeline.session.fields import Field, Unsupported, pure, unchanged
from pipeline.session.tables import data
from pipeline.session.tables.files import with_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.files import Directory
    from pipeline.session.envfile import EnvFile
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope

NO_IMAGE_REF: Final = (
    "Image reference can only be retrieved immediately after the 'Container.From' call. "
    "Error in fetching imageRef as the container image is changed"
)


def refuse_nesting(field: str, arguments: Mapping[str, Any]) -> None:
    """Raise Unsupported when the session is to be reachable from inside."""
    if arguments.get("experimentalPrivilegedNesting"):
        raise Unsupported(f"{field}(experimentalPrivilegedNesting:)")


# ---- getters ---------------------------------------------------------------------------------


def env_variables(_: Scope, container: Container, __: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the persistent variables in order."""
    return [data.pair(item) for item in container.config.env]


def env_variable(_: Scope, container: Container, arguments: Mapping[str, Any]) -> str | None:
    """Return a persistent variable."""
    return container.env_value(arguments["name"])


def labels(_: Scope, container: Container, __: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the labels by name."""
    return [data.pair(item) for item in container.config.labels]


def label(_: Scope, container: Container, arguments: Mapping[str, Any]) -> str | None:
    """Return a label."""
    return dict(container.config.labels).get(arguments["name"])


def entrypoint(_: Scope, container: Container, __: Mapping[str, Any]) -> list[str]:
    """Return the entrypoint, empty when there is none."""
    return list(container.config.entrypoint or ())


def default_args(_: Scope, container: Container, __: Mapping[str, Any]) -> list[str]:
    """Return the default args, empty when there are none."""
    return list(container.config.cmd or ())


def exposed_ports(_: Scope, container: Container, __: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the exposed ports, the image's too."""
    return [data.port(port) for port in container.exposed_ports()]


def docker_healthcheck(_: Scope, container: Container, __: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the health check."""
    check = container.config.healthcheck
    return None if check is None else data.healthcheck(check)


def image_ref(_: Scope, container: Container, __: Mapping[str, Any]) -> str:
    """Return the pinned name of the image that the container is."""
    if not container.image_ref:
        raise BadArgument(NO_IMAGE_REF)
    return container.image_ref


def mounts(_: Scope, container: Container, __: Mapping[str, Any]) -> list[str]:
    """List the mount targets."""
    return list(container.mount_paths())


async def exists(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> bool:
    """Say whether a path is there, through mounts."""
    if not arguments["path"]:
        return False
    tree, path = container.locate(arguments["path"], expand=arguments["expand"])
    look = partial(
        read.exists,
        path=path,
        kind=arguments["expectedType"],
        follow=not arguments["doNotFollowSymlinks"],
    )
    return await scope.engine.look(tree, look)


async def stat(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a path is, through mounts."""
    tree, path = container.locate(arguments["path"])
    look = partial(read.stat_of, path=path, follow=not arguments["doNotFollowSymlinks"])
    return data.stat(await scope.engine.look(tree, look))


# ---- setters that need a thought -------------------------------------------------------------


def with_env_file(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Set every variable of a file."""
    source: EnvFile = arguments["source"]
    for name, value in source.expanded():
        container = container.with_env_variable(name, value)
    return container


def with_mounted_cache(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Mount a cache volume; an argument at its default leaves the volume's own."""
    sharing = arguments["sharing"]
    source: Directory | None = arguments["source"]
    return container.with_mounted_cache(
        arguments["path"],
        arguments["cache"],
        source=source,
        sharing=None if sharing == "SHARED" else sharing,
        owner=arguments["owner"],
        expand=arguments["expand"],
    )


def without_one(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Remove a path."""
    return container.without([arguments["path"]], expand=arguments["expand"])


CONFIGURATION: Final[Table] = {
    "defaultArgs": Field(resolve=default_args),
    "directory": pure(Container.directory),
    "dockerHealthcheck": Field(resolve=docker_healthcheck),
    "entrypoint": Field(resolve=entrypoint),
    "envVariable": Field(resolve=env_variable),
    "envVariables": Field(resolve=env_variables),
    "exists": Field(resolve=exists),
    "exposedPorts": Field(resolve=exposed_ports),
    "file": pure(Container.file),
    "imageRef": Field(resolve=image_ref),
    "label": Field(resolve=label),
    "labels": Field(resolve=labels),
    "mounts": Field(resolve=mounts),
    "platform": Field(resolve=lambda _, container, __: container.platform),
    "rootfs": pure(Container.rootfs_directory),
    "stat": Field(resolve=stat),
    "user": Field(resolve=lambda _, container, __: container.config.user),
    "withAnnotation": pure(Container.with_annotation),
    "withDefaultArgs": pure(Container.with_default_args),
    "withDefaultTerminalCmd": unchanged(),
    "withDirectory": pure(Container.with_directory, objects={"source": "Directory"}),
    "withDockerHealthcheck": pure(Container.with_docker_healthcheck),
    "withEntrypoint": pure(Container.with_entrypoint),
    "withEnvFileVariables": Field(resolve=with_env_file, objects={"source": "EnvFile"}),
    "withEnvVariable": pure(Container.with_env_variable),
    "withError": Field(resolve=with_error),
    "withExposedPort": pure(
        Container.with_exposed_port, rename={"experimentalSkipHealthcheck": "skip_healthcheck"}
    ),
    "withFile": pure(Container.with_file, objects={"source": "File"}),
    "withFiles": pure(Container.with_files, objects={"sources": "File"}),
    "withLabel": pure(Container.with_label),
    "withMountedCache": Field(
        resolve=with_mounted_cache, objects={"cache": "CacheVolume", "source": "Directory"}
    ),
    "withMountedDirectory": pure(Container.with_mounted_directory, objects={"source": "Directory"}),
    "withMountedFile": pure(Container.with_mounted_file, objects={"source": "File"}),
    "withMountedTemp": pure(Container.with_mounted_temp),
    "withNewFile": pure(Container.with_new_file),
    "withRootfs": pure(Container.with_rootfs, objects={"directory": "Directory"}),
    "withServiceBinding": pure(Container.with_service_binding, objects={"service": "Service"}),
    "withSymlink": pure(Container.with_symlink),
    "withUnixSocket": pure(Container.with_unix_socket, objects={"source": "Socket"}),
    "withUser": pure(Container.with_user),
    "withVolatileVariable": pure(Container.with_volatile_variable),
    "withWorkdir": pure(Container.with_workdir),
    "withoutAnnotation": pure(Container.without_annotation),
    "withoutDefaultArgs": pure(Container.without_default_args),
    "withoutDirectory": Field(resolve=without_one),
    "withoutDockerHealthcheck": pure(Container.without_docker_healthcheck),
    "withoutEntrypoint": pure(Container.without_entrypoint),
    "withoutEnvVariable": pure(Container.without_env_variable),
    "withoutExposedPort": pure(Container.without_exposed_port),
    "withoutFile": Field(resolve=without_one),
    "withoutFiles": pure(Container.without),
    "withoutLabel": pure(Container.without_label),
    "withoutMount": pure(Container.without_mount),
    "withoutSecretVariable": pure(Container.without_secret_variable),
    "withoutUnixSocket": pure(Container.without_unix_socket),
    "withoutUser": pure(Container.with_user, name=""),
    "withoutVolatileVariable": pure(Container.without_volatile_variable),
    "withoutWorkdir": pure(Container.without_workdir),
    "workdir": Field(resolve=lambda _, container, __: container.config.workdir),
}
