"""Packages out of lock files: which file is read how. Nothing is resolved, built or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pipeline.scan.packages import golang, java, node, php, python_locks, requirements, ruby, rust
from pipeline.scan.packages.found import find_locks, is_pylock, is_requirements
from pipeline.scan.packages.reading import LockBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.scan.packages.package import Package

# Readers by the name of the file; each gets the path and the text.
READERS: Final[Mapping[str, Callable[[str, str], list[Package]]]] = {
    "uv.lock": python_locks.read_uv,
    "poetry.lock": python_locks.read_poetry,
    "pdm.lock": python_locks.read_pdm,
    "Pipfile.lock": python_locks.read_pipenv,
    "package-lock.json": node.read_npm,
    "npm-shrinkwrap.json": node.read_npm,
    "yarn.lock": node.read_yarn,
    "pnpm-lock.yaml": node.read_pnpm,
    "go.mod": golang.read_mod,
    "Cargo.lock": rust.read_cargo,
    "Gemfile.lock": ruby.read_gemfile,
    "composer.lock": php.read_composer,
    "pom.xml": java.read_pom,
}
LARGEST_LOCK: Final = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class LocksRead:
    """What the lock files of a project name."""

    packages: tuple[Package, ...]
    paths: tuple[str, ...]  # that were read
    broken: Mapping[str, str]  # that could not be read, and why


def reader_of(path: str) -> Callable[[str, str], list[Package]]:
    """What reads a file that `is_lock`."""
    if is_pylock(path):
        return python_locks.read_pylock
    if is_requirements(path):
        return requirements.read_requirements
    return READERS[PurePosixPath(path).name]


def read_locks(files: Mapping[str, bytes]) -> LocksRead:
    """Read every file that names packages; one that cannot be read is told, never passed over."""
    packages: list[Package] = []
    broken: dict[str, str] = {}
    paths = find_locks(sorted(files))
    for path in paths:
        try:
            packages += reader_of(path)(path, _text(path, files[path]))
        except LockBroken as error:
            broken[path] = error.why
    read = tuple(path for path in paths if path not in broken)
    return LocksRead(packages=tuple(dict.fromkeys(packages)), paths=read, broken=broken)


def _text(path: str, data: bytes) -> str:
    if len(data) > LARGEST_LOCK:
        raise LockBroken(path, "it is too large")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LockBroken(path, "it is not UTF-8") from error
