"""Packages kept from one build for the next: whole, and those of the archive.

What apt finds kept it takes by its size alone, so their digests are looked at here: before a build against
what they were when they were kept, after it against the index that the archive signed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.digest import digest_file
from pipeline.engine.recipes.tidy import Package, cached_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class DamagedPackage(Exception):
    """A kept package is not what the signed index says; it has been removed."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class KeptPackages:
    """The packages kept of one suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sums = folder.with_name(f"{folder.name}.sums")

    def drop_damaged(self) -> list[str]:
        """Remove what is not as it was kept, and return its names; an interrupted build leaves such files."""
        dropped: list[str] = []
        for path in sorted(self.folder.glob("*.deb")):
            recorded = self._sums / path.name
            if not recorded.exists() or recorded.read_text() != digest_file(path):
                path.unlink()
                dropped.append(path.name)
        return dropped

    def verify(self, packages: Sequence[Package]) -> None:
        """Compare what a build was made of with the signed index, note the digests, drop older versions.

        Raises:
            DamagedPackage: One is something else.
        """
        self._sums.mkdir(exist_ok=True)
        for package in packages:
            path = self.folder / cached_name(package)
            if not package.sha256 or not path.exists():
                continue
            digest = digest_file(path)
            if digest != f"sha256:{package.sha256}":
                path.unlink()
                raise DamagedPackage(path)
            (self._sums / path.name).write_text(digest)
            for older in self.folder.glob(f"{package.name}_*_{package.architecture}.deb"):
                if older != path:
                    older.unlink()
                    (self._sums / older.name).unlink(missing_ok=True)
