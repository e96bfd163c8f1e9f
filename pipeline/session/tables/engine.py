"""`Engine` and its cache, and builds from Dockerfiles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import EngineError
from pipeline.session.fields import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.engine.container import Container
    from pipeline.engine.engine import Engine
    from pipeline.engine.files import Directory
    from pipeline.engine.sources.secrets import Secret
    from pipeline.session.fields import Table
    from pipeline.session.scope import Scope

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class BadSize(EngineError):
    """A text is no size."""

    def __init__(self, text: str) -> None:
        super().__init__(f"cannot read the size `{text}`: expected bytes, or a number with KB, MB, GB or TB")


def parse_size(text: str) -> int:
    """Return bytes; a unit stands for a power of 1024.

    Raises:
        BadSize: `text` is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadSize(text)
    return int(float(match[1]) * 1024 ** _UNITS[match[2].lower()])


async def docker_build(scope: Scope, context: Directory, arguments: Mapping[str, Any]) -> Container:
    """Build the directory's Dockerfile."""
    from pipeline.engine.dockerfile.build import build

    secrets: list[Secret] = arguments["secrets"] or []
    return await build(
        scope.engine,
        context,
        dockerfile=arguments["dockerfile"],
        platform=arguments["platform"],
        build_args=[(pair["name"], pair["value"]) for pair in arguments["buildArgs"] or ()],
        target=arguments["target"],
        secrets=[(secret.name, secret.in_key()) for secret in secrets],
        no_init=arguments["noInit"],
        ssh=arguments["ssh"],
    )


def entries(engine: Engine) -> list[dict[str, Any]]:
    """Return what the store holds, one `EngineCacheEntry` for each kind of thing."""
    return [
        {
            "description": f"{used.count} {used.kind}",
            "diskSpaceBytes": used.size_bytes,
            "createdTimeUnixNano": 0,
            "mostRecentUseTimeUnixNano": 0,
            "activelyUsed": False,
            "recordType": used.kind,
            "recordTypes": [used.kind],
            "dagqlCall": "",
        }
        for used in engine.store.usage()
    ]


def prune(scope: Scope, _: object, arguments: Mapping[str, Any]) -> None:
    """Remove what is not in use and was not used for longest, down to a size (by default to nothing)."""
    limits = [arguments[name] for name in ("targetSpace", "maxUsedSpace", "reservedSpace")]
    limit = next((parse_size(text) for text in limits if text), 0)
    scope.engine.store.prune(max_bytes=limit)


def _total(field: str) -> Field:
    def resolve(scope: Scope, _: object, __: Mapping[str, Any]) -> int:
        used = scope.engine.store.usage()
        return sum(u.count if field == "entryCount" else u.size_bytes for u in used)

    return Field(resolve=resolve)


ENGINE: Final[Table] = {
    "clients": Field(resolve=lambda _, __, ___: ["mainClient"]),
    "localCache": Field(resolve=lambda scope, _, __: scope.engine),
    "name": Field(resolve=lambda _, __, ___: "embedded"),
}

ENGINE_CACHE: Final[Table] = {
    "entrySet": Field(resolve=lambda scope, _, __: scope.engine),
    "prune": Field(resolve=prune, never_cached="it removes from the store"),
}

ENGINE_CACHE_ENTRY_SET: Final[Table] = {
    "diskSpaceBytes": _total("diskSpaceBytes"),
    "entries": Field(resolve=lambda scope, _, __: entries(scope.engine)),
    "entryCount": _total("entryCount"),
}

BUILD: Final[Table] = {
    "dockerBuild": Field(resolve=docker_build, objects={"secrets": "Secret", "ssh": "Socket"}),
}
