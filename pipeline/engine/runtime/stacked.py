"""Looks into a stack of overlay layers without mounting it: where a path leads, what is there.

Also makes the *stubs*: a bottom layer with the places that mounts need. As the lowest layer it shows
only where the image has nothing, and what it holds never becomes part of a result.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.digest import digest_json
from pipeline.engine.store.layers import is_opaque, is_whiteout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MAX_LINKS: Final = 40
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a path leads: `real` has no links; `file` is None when nothing is there.

    `hidden` says that a removal in some layer would also hide what a lower layer adds there.
    """

    real: str
    file: str | None
    hidden: bool = False


def resolve(lowers: Sequence[Path], path: str) -> Place:
    """Follow `path` through the layers, top first, as a process whose root they are would."""
    pending = _components(path)
    at: list[str] = []
    links = 0
    place = Place(real="/", file=os.fspath(lowers[0]))
    while pending:
        part = pending.pop()
        if part == "..":
            del at[-1:]
            place = _find(lowers, at) if at else Place(real="/", file=os.fspath(lowers[0]))
            continue
        if place.file is None:
            at.append(part)
            place = Place(real="/" + "/".join(at), file=None, hidden=place.hidden)
            continue
        place = _find(lowers, [*at, part])
        if place.file is not None and os.path.islink(place.file) and links < _MAX_LINKS:
            links += 1
            target = os.readlink(place.file)
            if target.startswith("/"):
                at = []
            pending += _components(target)
            place = _find(lowers, at) if at else Place(real="/", file=os.fspath(lowers[0]))
            continue
        at.append(part)
    return place


def _components(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _find(lowers: Sequence[Path], parts: Sequence[str]) -> Place:
    return _find_in(tuple(map(os.fspath, lowers)), "/".join(parts))


# What a stack has at a path never changes, and the stack of the next exec in a chain is this one with a
# layer on top: so each exec looks into one layer, however many there are.
@functools.lru_cache(maxsize=_REMEMBERED)
def _find_in(lowers: tuple[str, ...], relative: str) -> Place:
    real = "/" + relative
    if not lowers:
        return Place(real=real, file=None)
    file = f"{lowers[0]}/{relative}"
    try:
        info = os.lstat(file)
    except FileNotFoundError:
        if _closes(lowers[0], relative.split("/")):
            return Place(real=real, file=None, hidden=True)
        return _find_in(lowers[1:], relative)
    except NotADirectoryError:
        return Place(real=real, file=None, hidden=True)
    if is_whiteout(info):
        return Place(real=real, file=None, hidden=True)
    return Place(real=real, file=file)


def _closes(lower: str, parts: Sequence[str]) -> bool:
    """Say whether this layer hides what lower ones have at `parts`."""
    at = lower
    for part in parts[:-1]:
        at = f"{at}/{part}"
        try:
            info = os.lstat(at)
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(info.st_mode) or is_opaque(at):
            return True
    return False


def make_stubs(folder: Path, targets: Mapping[str, bool]) -> Path:
    """Return a layer in `folder` with `targets` (path to "is a directory"); made once for each set."""
    name = digest_json(sorted(targets.items())).removeprefix("sha256:")[:32]
    layer = folder / name
    if layer.is_dir():
        return layer
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = tempfile.mkdtemp(prefix=".new-", dir=folder)
    os.chmod(fresh, 0o755)  # noqa: S103 - it may become the container's root
    for target, is_dir in sorted(targets.items()):
        place = fresh + target
        os.makedirs(place if is_dir else os.path.dirname(place), mode=0o755, exist_ok=True)
        if not is_dir:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT, 0o644))
    try:
        os.rename(fresh, layer)
    except OSError:
        # Another engine on this store was faster; its layer is the same.
        shutil.rmtree(fresh)
    return layer


def remove_left_stub(lowers: Sequence[Path], upper: Path, target: str) -> None:
    """Take an empty mount place that had to be made in `upper` out of it again, with its made parents."""
    parts = [part for part in target.split("/") if part]
    for end in range(len(parts), 0, -1):
        if _find(lowers, parts[:end]).file is not None:
            _restore_times(lowers, upper, parts[:end])
            return
        place = os.path.join(upper, *parts[:end])
        try:
            info = os.lstat(place)
            if stat.S_ISDIR(info.st_mode):
                os.rmdir(place)
            elif info.st_size == 0:
                os.unlink(place)
        except OSError:
            return  # not empty: the command put something there, so it is part of the result


def _restore_times(lowers: Sequence[Path], upper: Path, parts: Sequence[str]) -> None:
    original = _find(lowers, parts).file
    place = os.path.join(upper, *parts)
    if original is not None and os.path.isdir(place):
        info = os.lstat(original)
        os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
