"""Cache volumes of an exec: filled when they are new, and locked while a command that asked for it runs."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_of
from pipeline.engine import actions, edit, ops
from pipeline.engine.locks import try_lock
from pipeline.engine.runtime.users import find_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from pipeline.digest import Digest
    from pipeline.engine.store import Snapshot, Store

_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.2


async def open_volume(
    store: Store, volume: ops.CacheVolume, trees: Mapping[Digest, Snapshot], lowers: Sequence[Path]
) -> Path:
    """Return the directory of a volume; the first use fills it from its source and sets owner and mode.

    Names of owners are looked up in `lowers`, the root file system of the exec.

    Raises:
        UnknownUser: The owner's name is not known there.
    """
    is_kept = volume.key.startswith(ops.KEPT)
    path, _created = store.index.volume_path(digest_of(volume), is_kept=is_kept)
    if volume.source is None and not volume.owner and volume.mode is None:
        return path
    uid, gid = find_ids(lowers, volume.owner)
    async with locked(store, [path.name + ".fill"]) as (descriptor,):
        # The mark names the directory it was made for: a pruned volume is filled anew.
        mark = str(os.stat(path).st_ino).encode()
        if os.pread(descriptor, 64, 0) != mark:
            await _to_the_end(lambda: _fill(store, volume, trees, path, (uid, gid)))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, mark, 0)
    return path


async def _to_the_end(work: Callable[[], None]) -> None:
    """Do `work` in a thread; a cancelled caller waits too, or the lock would be free while it goes on."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _fill(
    store: Store,
    volume: ops.CacheVolume,
    trees: Mapping[Digest, Snapshot],
    path: Path,
    owner: tuple[int, int],
) -> None:
    if volume.source is not None:
        copy = actions.Copy(source=volume.source, owner=f"{owner[0]}:{owner[1]}" if volume.owner else "")
        with store.snapshots.view(trees[volume.source.digest]) as root:
            edit.apply(copy, path, lambda _tree: root)
    if volume.owner:
        os.chown(path, *owner)
    if volume.mode is not None:
        os.chmod(path, volume.mode)


def lock_names(mounts: Sequence[ops.Mount]) -> list[str]:
    """Return the locks that an exec with these mounts holds while it runs, sorted."""
    volumes = [mount.volume for mount in mounts if isinstance(mount, ops.CacheMount)]
    exclusive = {digest_of(volume) for volume in volumes if volume.sharing != "SHARED"}
    return sorted(digest.removeprefix("sha256:") + ".use" for digest in exclusive)


@asynccontextmanager
async def locked(store: Store, names: Sequence[str]) -> AsyncIterator[list[int]]:
    """Hold the named locks of the store, against every task and engine; taken in the order given.

    Waits without limit; the caller's own limit counts. Yields the descriptors of the lock files.
    """
    folder = store.root / "locks"
    if names:
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptors: list[int] = []
    try:
        for name in names:
            descriptors.append(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            await _lock(descriptors[-1])
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


async def _lock(descriptor: int) -> None:
    pause = _FIRST_PAUSE_S
    while not try_lock(descriptor):
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE_S, pause * 2)
