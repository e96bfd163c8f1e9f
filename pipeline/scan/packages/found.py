"""Which files of a project name packages, by their names alone."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: Final = (
    *("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "npm-shrinkwrap.json"),
    *("yarn.lock", "pnpm-lock.yaml", "go.mod", "Cargo.lock", "Gemfile.lock", "composer.lock", "pom.xml"),
)
LEFT_OUT: Final = frozenset({"node_modules", "vendor", ".venv", "venv", "site-packages"})
_PYLOCK: Final = re.compile(r"pylock(?:\.[^.]+)?\.toml")
_REQUIREMENTS: Final = re.compile(
    r"(?:[\w.-]*[-_.])?(?:requirements|constraints)(?:[-_.][\w.-]*)?\.(?:txt|lock)"
)


def find_locks(paths: Sequence[str]) -> list[str]:
    """The files that name packages, of a project's files; not those that belong to installed packages."""
    return sorted(path for path in paths if is_lock(path) and LEFT_OUT.isdisjoint(path.split("/")))


def is_lock(path: str) -> bool:
    """Whether a file names packages."""
    name = path.rpartition("/")[2]
    return name in NAMES or is_pylock(path) or is_requirements(path)


def is_pylock(path: str) -> bool:
    """Whether a file is one of the standard's lock files: `pylock.toml`, `pylock.dev.toml`."""
    return _PYLOCK.fullmatch(path.rpartition("/")[2]) is not None


def is_requirements(path: str) -> bool:
    """Whether a file is named as requirements are: `requirements-dev.txt`, `requirements/base.txt`."""
    place = PurePosixPath(path)
    in_folder = place.parent.name == "requirements" and place.suffix in (".txt", ".lock")
    return in_folder or (_REQUIREMENTS.fullmatch(place.name) is not None and "docs" not in place.parts[:-1])
