"""The engine's cache on its way to and from other machines: `pipeline cache export` and `import`."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.engine.images import registry_for
from pipeline.engine.rootless.enter import enter_user_namespace
from pipeline.engine.store import Store
from pipeline.engine.travel.pack import packing
from pipeline.engine.travel.places import Directory, pull, push, write_directory
from pipeline.engine.travel.unpack import unpack
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.engine.settings import EngineSettings
    from pipeline.engine.travel.pack import Packed
    from pipeline.engine.travel.unpack import Imported

SCHEME: Final = "oci://"


class NoStore(UsageError):
    """There is nothing to export yet."""

    def __init__(self, store: Path) -> None:
        super().__init__(f"cannot export the cache: there is no store at `{store}` yet")
        self.hint = "`pipeline run` makes it"


def export_cache(
    settings: EngineSettings, target: str, *, max_bytes: int, with_volumes: bool
) -> dict[str, Any]:
    """Export and say what was carried and where it is, as JSON.

    Raises:
        NoStore: Nothing was run on this machine yet.
        EngineError: The target cannot be written, or the registry refused.
    """
    root = settings.store_path()
    if not (root / "engine.db").is_file():
        raise NoStore(root)
    enter_user_namespace()
    store = Store.open(root)
    try:
        with packing(store, max_bytes=max_bytes, with_volumes=with_volumes) as packed:
            if target.startswith(SCHEME):
                target = asyncio.run(_push(settings, store, target.removeprefix(SCHEME), packed))
            else:
                write_directory(Path(target), store, packed)
    finally:
        store.close()
    return {
        "target": target,
        "results": len(packed.carried.results),
        "snapshots": len(packed.carried.snapshots),
        "volumes": len(packed.carried.volumes),
        "size_bytes": packed.size_bytes,
        "left_out": packed.left_out,
    }


def import_cache(settings: EngineSettings, source: str) -> dict[str, Any]:
    """Import and say what is new, as JSON.

    Raises:
        EngineError: There is no cache, it is damaged, or the registry refused.
    """
    root = settings.store_path()
    enter_user_namespace()
    store = Store.open(root)
    try:
        if source.startswith(SCHEME):
            imported = asyncio.run(_pull(settings, store, source.removeprefix(SCHEME)))
        else:
            cache = Directory(Path(source))
            imported = unpack(store, cache.read(), cache, source)
    finally:
        store.close()
    return {
        "source": source,
        "results": imported.results,
        "snapshots": imported.snapshots,
        "volumes": imported.volumes,
    }


async def _push(settings: EngineSettings, store: Store, address: str, packed: Packed) -> str:
    async with contextlib.aclosing(registry_for(store, settings)) as registry:
        return SCHEME + await push(registry, address, packed)


async def _pull(settings: EngineSettings, store: Store, address: str) -> Imported:
    async with contextlib.aclosing(registry_for(store, settings)) as registry:
        cache = await pull(registry, store, address)
        return unpack(store, cache.carried, cache, address)
