"""Records out of what advisories are shipped in: a zip archive, a folder (a git tree), or one file.

JSON and YAML. Nothing is unpacked to the disk; what is too large to be a record is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.errors import PipelineError
from pipeline.scan.advisories.osv import BadAdvisory
from pipeline.scan.yamls import load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_RECORD: Final = 32 * 1024**2
LARGEST_SUM: Final = 16 * 1024**3  # of an archive, unpacked
MOST_FILES: Final = 3_000_000
SUFFIXES: Final = (".json", ".yaml", ".yml")


class BulkBroken(PipelineError):
    """What should hold advisories cannot be read, or is not to be trusted."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"cannot read advisories from `{path}`: {why}")


def read_records(path: Path) -> Iterator[object]:
    """Every record of an archive, folder or file; `BadAdvisory` stands for one that cannot be read.

    Raises:
        BulkBroken: There is nothing, the archive is damaged, or it is larger than any database.
    """
    if path.is_dir():
        yield from _read_folder(path)
    elif not path.is_file():
        raise BulkBroken(path, "there is no such file or folder")
    elif path.suffix in SUFFIXES:
        yield from _records(path.name, path.read_bytes())
    else:
        yield from _read_zip(path)


def _read_folder(path: Path) -> Iterator[object]:
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder, name)
            if name.endswith(SUFFIXES) and not name.startswith(".") and not file.is_symlink():
                if file.stat().st_size > LARGEST_RECORD:
                    yield BadAdvisory(name, "it is too large")
                else:
                    yield from _records(name, file.read_bytes())


def _read_zip(path: Path) -> Iterator[object]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(SUFFIXES)]
            if len(members) > MOST_FILES or sum(one.file_size for one in members) > LARGEST_SUM:
                raise BulkBroken(path, "it is larger than any database of advisories")
            for one in members:
                if one.file_size > LARGEST_RECORD:
                    yield BadAdvisory(one.filename, "it is too large")
                    continue
                with archive.open(one) as file:  # the size is that of the directory: read no more
                    yield from _records(one.filename, file.read(LARGEST_RECORD))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BulkBroken(path, f"it is no whole zip archive ({error})") from error


def _records(name: str, data: bytes) -> Iterator[object]:
    """The records of one file; a file that is none at all (a list of settings) holds no record."""
    try:
        table: Any = _parse(name, data)
    except (ValueError, RecursionError) as error:
        yield BadAdvisory(name, str(error).splitlines()[0][:200] if str(error) else "it does not parse")
        return
    for one in table if isinstance(table, list) else [table]:
        if not isinstance(one, dict):
            yield BadAdvisory(name, "it is no table")
        elif "id" in one or "affected" in one:
            yield one


def _parse(name: str, data: bytes) -> Any:
    if name.endswith(".json"):
        return json.loads(data)
    import yaml

    try:
        return load_yaml(data.decode("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def digest_of(path: Path) -> str:
    """What tells whether an archive, file or folder changed; of a folder by names, sizes and times."""
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            found = os.lstat(Path(folder, name))
            line = f"{os.path.relpath(folder, path)}/{name}\0{found.st_size}\0{found.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return "sha256:" + digest.hexdigest()
