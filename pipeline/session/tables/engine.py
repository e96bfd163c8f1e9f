"""`Engine` and its cache, and builds from Dockerfiles."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.store.usage import beyond, limits_of
from pipeline.engine.threads import in_thread
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

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(%)|([kmgt]?)i?b?)", re.IGNORECASE)
_SPACES: Final = {
    "max_used": "maxUsedSpace",
    "reserved": "reservedSpace",
    "min_free": "minFreeSpace",
    "target": "targetSpace",
}
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class BadSize(EngineError):
    """A text is no size."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"cannot read the size `{text}`: expected bytes, a number with KB, MB, GB or TB, or %"
        )


def parse_size(text: str, *, disk_bytes: int) -> int:
    """Return bytes; a unit stands for a power of 1024, `%` for a part of the disk; "" is 0.

    Raises:
        BadSize: `text` is no size.
    """
    if not text.strip():
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadSize(text)
    if match[2]:
        return int(float(match[1]) * disk_bytes / 100)
    return int(float(match[1]) * 1024 ** _UNITS[match[3].lower()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """How much a cache may take, in bytes; 0 where nothing is said."""

    max_used: int = 0
    reserved: int = 0
    min_free: int = 0
    target: int = 0


def decide_size(space: Space, *, used: int, free: int) -> int:
    """Return the bytes that a cache may keep when it is pruned.

    It is pruned when it takes more than `max_used`, or its disk has less than `min_free`: then to `target`,
    if that is less. `reserved` is kept of what is too much, not of what the disk lacks. With nothing said,
    nothing is kept.
    """
    if space == Space():
        return 0
    keep = used
    is_over = 0 < space.max_used < used
    if is_over:
        keep = min(keep, max(space.max_used, space.reserved))
    if is_short := free < space.min_free:
        keep = min(keep, used - (space.min_free - free))
    if (is_over or is_short) and space.target:
        keep = min(keep, max(space.target, space.reserved))
    return max(0, keep)


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


def space_of(engine: Engine) -> Space:
    """Return what the engine keeps its store to by itself."""
    settings = engine.settings
    limits = limits_of(
        engine.store.root, max_bytes=settings.max_bytes, min_free_bytes=settings.min_free_bytes
    )
    return Space(max_used=limits.max_bytes, min_free=limits.min_free_bytes, target=beyond(limits).max_bytes)


async def prune(scope: Scope, _: object, arguments: Mapping[str, Any]) -> None:
    """Remove what is not in use and was not used for longest: all of it, or as much as the sizes given say.

    Raises:
        BadSize: An argument is no size.
    """
    store = scope.engine.store
    disk = shutil.disk_usage(store.root)
    usual = space_of(scope.engine) if arguments["useDefaultPolicy"] else Space()
    given = {
        name: parse_size(arguments[argument], disk_bytes=disk.total)
        for name, argument in _SPACES.items()
        if arguments[argument].strip()
    }

    def work() -> None:
        used = sum(kind.size_bytes for kind in store.usage())
        store.prune(max_bytes=decide_size(replace(usual, **given), used=used, free=disk.free))

    await in_thread(work)


def _space(name: str) -> Field:
    def resolve(scope: Scope, _: object, __: Mapping[str, Any]) -> int:
        size: int = getattr(space_of(scope.engine), name)
        return size

    return Field(resolve=resolve)


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
    **{argument: _space(name) for name, argument in _SPACES.items()},
}

ENGINE_CACHE_ENTRY_SET: Final[Table] = {
    "diskSpaceBytes": _total("diskSpaceBytes"),
    "entries": Field(resolve=lambda scope, _, __: entries(scope.engine)),
    "entryCount": _total("entryCount"),
}

BUILD: Final[Table] = {
    "dockerBuild": Field(resolve=docker_build, objects={"secrets": "Secret", "ssh": "Socket"}),
}
