"""Images without a registry: OCI archives, kept by digest beside what runs of them."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

from pipeline.deploy.target import TargetUnfit

if TYPE_CHECKING:
    from pathlib import Path


class ArchiveUnfit(TargetUnfit):
    """An archive does not hold the image that the release names."""

    def __init__(self, path: Path, digest: str, what: str) -> None:
        super().__init__(f"cannot take image `{digest}` from `{path.name}`: {what}")


def keep_archive(source: Path, digest: str, place: Path) -> None:
    """Copy an archive to its place, durably and at once, unless it is there.

    Raises:
        ArchiveUnfit: It holds another image, or none.
    """
    if place.exists():
        return
    try:
        held = archive_digests(source)
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise ArchiveUnfit(source, digest, f"it is no OCI archive: {error}") from error
    if digest not in held:
        raise ArchiveUnfit(source, digest, f"it holds {', '.join(held) or 'nothing'}")
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = place.with_name(f".{place.name}.{os.getpid()}")
    with open(source, "rb") as old, open(fresh, "wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())
    fresh.replace(place)


def archive_digests(path: Path) -> tuple[str, ...]:
    """The digests of the manifests that an archive names.

    Raises:
        KeyError, ValueError, tarfile.TarError, OSError: It is no OCI archive.
    """
    with tarfile.open(path) as archive:
        index = archive.extractfile(archive.getmember("index.json"))
        if index is None:
            raise KeyError("index.json")
        return tuple(str(one["digest"]) for one in json.load(index)["manifests"])
