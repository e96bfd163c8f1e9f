"""`Container`: images in and out, and the credentials of registries."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops
from pipeline.engine.configured import BadArgument
from pipeline.engine.container import Container
from pipeline.engine.keep import keep_file
from pipeline.engine.oci.platform import host_platform
from pipeline.engine.oci.reference import parse_reference
from pipeline.engine.threads import in_thread
from pipeline.session.calls import Call
from pipeline.session.fields import Field
from pipeline.session.tables.files import NEVER_EXPORT, pin_by_content
from pipeline.session.tables.git import reachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pipeline.engine.files import File
    from pipeline.engine.sources.secrets import Secret
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


async def from_image(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Take an image; what its name means is found out now."""
    service: ops.Service | None = arguments["registryService"]
    async with served(scope, service, arguments["address"]):
        found = await scope.engine.images.from_image(container, arguments["address"])
        if service is not None:  # the layers have to be fetched as long as it runs
            await scope.engine.solver.tree(found.rootfs)
        return found


@asynccontextmanager
async def served(scope: Scope, service: ops.Service | None, address: str) -> AsyncIterator[None]:
    """Hold the service that is the registry of an address while the body runs."""
    if service is None:
        yield
        return
    host = parse_reference(address).host
    name, _, port = host.partition(":")
    async with reachable(scope, service) as addresses:
        if name not in addresses:
            raise BadArgument(f"cannot use `{address}`: the registry service is not called `{name}`")
        with scope.engine.images.routed(host, f"{addresses[name]}:{port or 443}"):
            yield


def pin_image(call: Call, container: Container) -> Call:
    """Write the call with the digest the name led to; a stand-in, which no registry has, keeps its name."""
    digest = container.image_ref.partition("@")[2]
    stands_in = isinstance(container.rootfs, ops.Layers) and digest in container.rootfs.diff_ids
    if not digest or stands_in:
        return call
    arguments = {**call.arguments, "address": container.image_ref}
    return Call(type=call.type, receiver=call.receiver, name=call.name, arguments=arguments)


async def with_registry_auth(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Use credentials for all pulls and pushes of the session from now on."""
    secret: Secret = arguments["secret"]
    password = (await secret.plaintext()).decode("utf-8", "surrogateescape")
    scope.engine.images.add_credentials(arguments["address"], arguments["username"], password)
    return container


def without_registry_auth(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Forget the session's credentials for a registry."""
    scope.engine.images.registry.credentials.remove(arguments["address"])
    return container


async def publish(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> str:
    """Push to a registry."""
    async with served(scope, arguments["registryService"], arguments["address"]):
        return await scope.engine.images.publish(container, arguments["address"], **_format(arguments))


async def export(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> str:
    """Write an archive to the host."""
    path = container.expand(arguments["path"], wanted=arguments["expand"])
    target = scope.engine.host_path(path)
    archive = await scope.engine.images.archive(container, **_format(arguments))
    try:
        return await in_thread(lambda: scope.engine.write_file(archive, target, name=target.name))
    finally:
        os.unlink(archive)


async def export_image(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> None:
    """Give the image to the host's container engine."""
    from pipeline.engine.hostimages import load_on_host

    await load_on_host(scope.engine.images, container, arguments["name"], **_format(arguments))


async def container_image(scope: Scope, _: object, arguments: Mapping[str, Any]) -> Container:
    """Take an image that the host's container engine has."""
    from pipeline.engine.hostimages import take_from_host

    empty = Container(platform=host_platform())
    return await take_from_host(scope.engine.images, scope.engine.store, empty, arguments["name"])


async def as_tarball(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> File:
    """Return an archive as a file, made now."""
    archive = await scope.engine.images.archive(container, **_format(arguments))
    return await in_thread(lambda: keep_file(scope.engine.store, archive, "container.tar"))


async def import_image(scope: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Take the image in an archive."""
    source: File = arguments["source"]
    return await scope.engine.images.import_image(container, source, arguments["tag"])


def _format(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "variants": arguments["platformVariants"] or (),
        "compression": arguments["forcedCompression"],
        "media_types": arguments["mediaTypes"],
    }


_VARIANTS: Final = {"platformVariants": "Container"}

IMAGES: Final[Table] = {
    "asTarball": Field(resolve=as_tarball, objects=_VARIANTS, pinned=pin_by_content),
    "export": Field(resolve=export, objects=_VARIANTS, never_cached=NEVER_EXPORT),
    "exportImage": Field(
        resolve=export_image, objects=_VARIANTS, never_cached="it writes to the host's container engine"
    ),
    "from": Field(resolve=from_image, objects={"registryService": "Service"}, pinned=pin_image),
    "import": Field(resolve=import_image, objects={"source": "File"}),
    "publish": Field(
        resolve=publish,
        objects={**_VARIANTS, "registryService": "Service"},
        never_cached="it writes to a registry",
    ),
    "withRegistryAuth": Field(resolve=with_registry_auth, objects={"secret": "Secret"}),
    "withoutRegistryAuth": Field(resolve=without_registry_auth),
}

HOST_IMAGES: Final[Table] = {"containerImage": Field(resolve=container_image)}
