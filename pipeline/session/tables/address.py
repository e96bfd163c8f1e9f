"""`Address`: a text that names a thing elsewhere, and the things it can name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from pipeline.engine import ops
from pipeline.engine.configured import BadArgument
from pipeline.engine.container import Container
from pipeline.engine.oci.platform import host_platform
from pipeline.session.calls import Call
from pipeline.session.fields import Field
from pipeline.session.tables import git, host
from pipeline.session.tables.files import pin_by_content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.files import Directory, File
    from pipeline.engine.sources.secrets import Secret
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope

_GIT: Final = re.compile(r"(?:https?|ssh|git)://.+|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:.+")
_TREE: Final = {"discardGitDir": False, "depth": 1, "includeTags": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A text; what it names shows when something is asked of it."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitPlace:
    """A repository, and what of it is meant."""

    url: str
    ref: str = ""
    path: str = ""


def find_git_place(text: str) -> GitPlace | None:
    """Read `URL#ref:path`; None for a path of the host."""
    url, _, fragment = text.partition("#")
    if _GIT.fullmatch(url) is None:
        return None
    ref, _, path = fragment.partition(":")
    return GitPlace(url=url, ref=ref, path=path)


def address(_: Scope, __: object, arguments: Mapping[str, Any]) -> Address:
    """Keep a text."""
    if not arguments["value"]:
        raise BadArgument("resource cannot have empty address")
    return Address(value=arguments["value"])


# ---- images, files ---------------------------------------------------------------------------


async def container(scope: Scope, here: Address, _: Mapping[str, Any]) -> Container:
    """Take an image; what its name means is found out now."""
    return await scope.engine.images.from_image(Container(platform=host_platform()), here.value)


def pin_container(call: Call, value: Container) -> Call:
    """Write the call as the one that `Container.from` would have made."""
    from pipeline.session.tables.images import pin_image

    begin = Call(type=call.type, name="container")
    return pin_image(
        Call(type=call.type, receiver=begin, name="from", arguments={"address": call_value(call)}), value
    )


def call_value(call: Call) -> str:
    """Return the text of the address that a call was made on."""
    if call.receiver is None:
        raise BadArgument("resource cannot have empty address")
    return str(call.receiver.arguments["value"])


async def directory(scope: Scope, here: Address, arguments: Mapping[str, Any]) -> Directory:
    """Read a directory of the host, or of a repository."""
    place = find_git_place(here.value)
    if place is None:
        return await host.directory(scope, None, {**arguments, "path": _local(here.value)})
    found = (await _tree(scope, place)).directory(place.path)
    if not (arguments["include"] or arguments["exclude"] or arguments["gitignore"]):
        return found
    return found.filter(
        include=arguments["include"] or (),
        exclude=arguments["exclude"] or (),
        gitignore=arguments["gitignore"],
    )


async def file(scope: Scope, here: Address, arguments: Mapping[str, Any]) -> File:
    """Read a file of the host, or of a repository."""
    place = find_git_place(here.value)
    if place is None:
        return await host.file(scope, None, {**arguments, "path": _local(here.value)})
    if not place.path:
        raise BadArgument("no file path specified within git repository")
    return (await _tree(scope, place)).file(place.path)


def _local(text: str) -> str:
    return text.removeprefix("file://")


# ---- repositories ----------------------------------------------------------------------------


async def git_repository(scope: Scope, here: Address, _: Mapping[str, Any]) -> git.GitRepository:
    """Ask a repository for its refs."""
    place = find_git_place(here.value)
    if place is None:
        return await _local_repository(scope, here.value)
    if place.ref:
        raise BadArgument("git repository address cannot contain ref")
    if place.path:
        raise BadArgument("git repository address cannot contain subdir")
    return await git.open_repository(scope, place.url)


async def git_ref(scope: Scope, here: Address, _: Mapping[str, Any]) -> git.GitRef:
    """Find a ref, or what HEAD means."""
    place = find_git_place(here.value)
    if place is not None:
        if place.path:
            raise BadArgument("git ref address cannot contain subdir")
        return await _ref(scope, place)
    path, _mark, name = here.value.partition("#")
    return git.find_ref(await _local_repository(scope, path), name)


async def _local_repository(scope: Scope, path: str) -> git.GitRepository:
    found = await host.directory(
        scope,
        None,
        {"path": _local(path), "include": (), "exclude": (), "noCache": False, "gitignore": False},
    )
    return await git.as_git(scope, found, {})


async def _ref(scope: Scope, place: GitPlace) -> git.GitRef:
    return git.find_ref(await git.open_repository(scope, place.url), place.ref)


async def _tree(scope: Scope, place: GitPlace) -> Directory:
    return await git.tree(scope, await _ref(scope, place), _TREE)


# ---- secrets, services, sockets --------------------------------------------------------------


async def secret(scope: Scope, here: Address, _: Mapping[str, Any]) -> Secret:
    """Return the secret at an address; a name alone is an environment variable."""
    uri, cache_key = parse_secret(here.value)
    return await scope.engine.secrets.find(uri, cache_key)


def parse_secret(text: str) -> tuple[str, str]:
    """Return the URI of a secret, and the cache key that a query names."""
    scheme, colon, rest = text.partition(":")
    if not colon:
        scheme, rest = "env", text
    uri, _, query = f"{scheme}://{rest.removeprefix('//')}".partition("?")
    asked = parse_qs(query, keep_blank_values=True)
    cache_key = asked.pop("cacheKey", [""])[0]
    if not cache_key:
        return f"{uri}?{query}" if query else uri, ""
    left = urlencode(asked, doseq=True)
    return f"{uri}?{left}" if left else uri, cache_key


def service(_: Scope, here: Address, __: Mapping[str, Any]) -> ops.HostService:
    """Make a port of the host reachable from containers, or one that the host reaches."""
    parts = urlsplit(here.value)
    if parts.scheme not in ("tcp", "udp"):
        raise BadArgument(
            f'unsupported service address: "{parts.scheme}". Must be a valid tcp:// or udp:// URL'
        )
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise BadArgument(f"cannot use service address `{here.value}`: expected SCHEME://HOST:PORT")
    forward = ops.PortForward(backend=port, frontend=port, protocol="TCP" if parts.scheme == "tcp" else "UDP")
    return ops.HostService(host=parts.hostname, ports=(forward,))


def socket(scope: Scope, here: Address, _: Mapping[str, Any]) -> str:
    """Return the path of a socket; whether it is there shows when it is used."""
    return host.unix_socket(scope, None, {"path": here.value.removeprefix("unix://")})


ADDRESS: Final[Table] = {
    "container": Field(resolve=container, pinned=pin_container),
    "directory": Field(resolve=directory, pinned=pin_by_content),
    "file": Field(resolve=file, pinned=pin_by_content),
    "gitRef": Field(resolve=git_ref),
    "gitRepository": Field(resolve=git_repository),
    "secret": Field(resolve=secret),
    "service": Field(resolve=service),
    "socket": Field(resolve=socket),
    "value": Field(resolve=lambda _, here, __: here.value),
}

QUERY_ADDRESS: Final[Table] = {"address": Field(resolve=address)}
