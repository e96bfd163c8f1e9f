"""`Secret`, what makes one and what uses one, and files fetched over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipeline.engine import ops
from pipeline.engine.files import File
from pipeline.session.fields import Field
from pipeline.session.tables.files import pin_by_content
from pipeline.session.tables.git import reachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.container import Container
    from pipeline.engine.sources.secrets import Secret
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope


def set_secret(scope: Scope, _: object, arguments: Mapping[str, Any]) -> Secret:
    """Set a value for this session."""
    plaintext = arguments["plaintext"].encode("utf-8", "surrogateescape")
    return scope.engine.secrets.set_secret(arguments["name"], plaintext)


def find_set_secret(scope: Scope, _: object, arguments: Mapping[str, Any]) -> Secret:
    """Return the secret of a name, whose value another session had set."""
    return scope.engine.secrets.named(arguments["name"])


async def secret(scope: Scope, _: object, arguments: Mapping[str, Any]) -> Secret:
    """Return the secret at an address."""
    return await scope.engine.secrets.find(arguments["uri"], arguments["cacheKey"] or "")


async def plaintext(_: Scope, value: Secret, __: Mapping[str, Any]) -> str:
    """Read the value."""
    return (await value.plaintext()).decode("utf-8", "surrogateescape")


def with_mounted_secret(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Mount a secret as a file."""
    value: Secret = arguments["source"]
    return container.with_mounted_secret(
        arguments["path"],
        value.in_key(),
        owner=arguments["owner"],
        mode=arguments["mode"],
        expand=arguments["expand"],
    )


def with_secret_variable(_: Scope, container: Container, arguments: Mapping[str, Any]) -> Container:
    """Set a variable to a secret."""
    value: Secret = arguments["secret"]
    return container.with_secret_variable(arguments["name"], value.in_key())


async def http(scope: Scope, _: object, arguments: Mapping[str, Any]) -> File:
    """Fetch a file."""
    from pipeline.engine.sources.http import HttpRequest

    header: Secret | None = arguments["authHeader"]
    service: ops.Service | None = arguments["experimentalServiceHost"]
    authorization = (await header.plaintext()).decode() if header is not None else ""
    async with reachable(scope, service) as addresses:
        fetched = await scope.engine.http.fetch(
            HttpRequest(
                url=arguments["url"],
                name=arguments["name"] or "",
                permissions=arguments["permissions"] or 0o600,
                checksum=arguments["checksum"] or "",
                auth_header=authorization,
                addresses=addresses,
            )
        )
    return File(tree=ops.Pinned(content=fetched.content), path=f"/{fetched.name}")


SECRET: Final[Table] = {
    "name": Field(resolve=lambda _, value, __: value.name),
    "plaintext": Field(resolve=plaintext, never_cached="the value is read when it is asked for"),
    "uri": Field(resolve=lambda _, value, __: value.uri),
}

QUERY_SECRETS: Final[Table] = {
    "http": Field(
        resolve=http,
        objects={"authHeader": "Secret", "experimentalServiceHost": "Service"},
        pinned=pin_by_content,
    ),
    "secret": Field(resolve=secret),
    "setSecret": Field(resolve=set_secret, hidden=("plaintext",), replay=find_set_secret),
}

CONTAINER_SECRETS: Final[Table] = {
    "withMountedSecret": Field(resolve=with_mounted_secret, objects={"source": "Secret"}),
    "withSecretVariable": Field(resolve=with_secret_variable, objects={"secret": "Secret"}),
}
