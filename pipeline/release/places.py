"""Where a project's releases go, by its settings: the remote, the key, the forge and the index."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Final

from pipeline.config import read_toml
from pipeline.errors import UsageError
from pipeline.release.forge import open_forge
from pipeline.release.index import open_index
from pipeline.release.publish import Places
from pipeline.release.sbom import FILE as SBOM_FILE
from pipeline.release.signing import find_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pipeline.config.release import ReleaseSettings
    from pipeline.release.forge import Forge
    from pipeline.release.repository import Repository

FOLDER: Final = "releases"


def find_places(
    repository: Repository,
    settings: ReleaseSettings,
    folder: Path,
    environ: Mapping[str, str],
    ca_bundle: str = "",
) -> Places:
    """Return where releases go. Nothing is asked of anybody yet.

    Args:
        folder: For what the release keeps here, see `folder_of`.

    Raises:
        UsageError: A key, a token or an address is missing.
    """
    url = repository.remote_url(settings.remote)
    return Places(
        repository=repository,
        folder=folder,
        remote=settings.remote if url else None,
        signer=find_signer(repository, settings),
        forge=open_forge(settings, url, environ, ca_bundle),
        index=open_index(settings, environ, ca_bundle),
    )


def folder_of(state: Path, tag: str) -> Path:
    """Return where a release keeps its own files, below a project's state folder."""
    return state / FOLDER / tag.replace("/", "-")


def last_bill(forge: Forge | None) -> Callable[[str], bytes | None] | None:
    """Return what brings the bill of materials of a release by its tag; None where none can be had."""
    return (lambda tag: forge.download(tag, SBOM_FILE)) if forge is not None else None


def find_files(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return the files that these globs match, sorted, each once.

    Raises:
        UsageError: A pattern leads out of the project.
    """
    found: set[Path] = set()
    for pattern in patterns:
        if os.path.isabs(pattern) or ".." in pattern.split("/"):
            raise UsageError(f"cannot release `{pattern}`: files of a release lie in the project")
        found |= {root / name for name in glob.glob(pattern, root_dir=root, recursive=True)}
    return sorted(path for path in found if path.is_file())


def project_name(root: Path) -> str:
    """Return the name of a project: the package's, else the folder's.

    Raises:
        ConfigUnreadable: `pyproject.toml` cannot be read.
    """
    project = read_toml(root / "pyproject.toml", "pyproject.toml").get("project")
    name = project.get("name") if isinstance(project, dict) else None
    return name if isinstance(name, str) and name.strip() else root.name
