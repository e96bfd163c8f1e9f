"""Packages as single files on a disk tell them: Python's metadata, Node's manifests, Java archives."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_MEMBERS: Final = 50_000  # of one Java archive
MOST_INNER_BYTES: Final = 32 * 1024**2  # of an archive inside an archive
MOST_UNPACKED_BYTES: Final = 512 * 1024**2  # of one archive with those inside it
MOST_TEXT_BYTES: Final = 64 * 1024  # of a manifest
DEEPEST: Final = 2  # archives in archives, such as an application with its libraries
_HEADER: Final = re.compile(r"^(Name|Version|License|License-Expression):[ \t]*(.*)$", re.MULTILINE)
_NODE_PATH: Final = re.compile(r"(?:^|/)node_modules/((?:@[^/]+/)?[^/@][^/]*)/package\.json$")
_JAR_NAME: Final = re.compile(r"(?P<name>.+?)-(?P<version>\d[\w.+-]*)\.[jwe]ar$")


def read_python(path: str, text: str) -> list[Package]:
    """The package of a `METADATA` or `PKG-INFO` file; one without a name or version is none."""
    fields: dict[str, str] = {}
    for name, value in _HEADER.findall(re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]):
        fields.setdefault(name, value.strip())
    if not fields.get("Name") or not fields.get("Version"):
        return []
    return [
        Package(
            name=fields["Name"],
            version=fields["Version"],
            ecosystem="PyPI",
            path=path,
            licence=fields.get("License-Expression", ""),
            is_installed=True,
        )
    ]


def is_node_manifest(path: str) -> bool:
    """Whether a file is the manifest of a package in `node_modules`, and not one deeper inside it."""
    return _NODE_PATH.search(path) is not None


def read_node(path: str, text: str) -> list[Package]:
    """The package of a `package.json` in `node_modules`.

    Raises:
        LockBroken: It is no JSON table.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LockBroken(path, f"it is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(table, dict):
        raise LockBroken(path, "it is no table")
    found = _NODE_PATH.search(path)
    folder = found[1] if found else ""
    version = table.get("version")
    if not isinstance(version, str) or not version:
        return []  # a folder with settings for the loader, no package
    name = table.get("name")
    licence = table.get("license")
    return [
        Package(
            name=name if isinstance(name, str) and name else folder,
            version=version,
            ecosystem="npm",
            path=path,
            licence=licence if isinstance(licence, str) else "",
            is_installed=True,
        )
    ]


def read_jar(path: str, data: bytes, *, most_bytes: int = MOST_UNPACKED_BYTES) -> list[Package]:
    """The packages of a Java archive and of those inside it, by Maven's properties, else by its manifest.

    Raises:
        LockBroken: It is no archive, or larger inside than is read.
    """
    try:
        return list(dict.fromkeys(_jar(_Budget(path, most_bytes), path, data, 0)))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise LockBroken(path, f"it is no archive that can be read: {str(error)[:200]}") from error
    except (ValueError, UnicodeError, IndexError) as error:
        raise LockBroken(path, f"it is damaged: {str(error)[:200]}") from error


class _Budget:
    """How much more of a Java archive is unpacked, with all that is inside it."""

    def __init__(self, path: str, most_bytes: int) -> None:
        self.path = path
        self._left = most_bytes

    def read(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
        """The first bytes of a member: what its own header says of its size is not believed."""
        with archive.open(member) as stream:
            data = stream.read(most)
        self._left -= len(data)
        if self._left < 0:
            raise LockBroken(self.path, "it is larger inside than is read")
        return data


def _jar(budget: _Budget, name: str, data: bytes, depth: int) -> Iterator[Package]:
    path = budget.path
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise LockBroken(path, f"it has more than {MOST_MEMBERS} files")
        told = []
        for member in members:
            inner = member.filename
            if inner.startswith("META-INF/maven/") and inner.endswith("/pom.properties"):
                told += _by_properties(path, budget.read(archive, member, MOST_TEXT_BYTES))
            elif inner.endswith((".jar", ".war")) and depth < DEEPEST:
                if member.file_size > MOST_INNER_BYTES:
                    raise LockBroken(path, f"`{inner[:100]}` inside it is larger than is read")
                yield from _jar(budget, inner, budget.read(archive, member, MOST_INNER_BYTES), depth + 1)
        if not told:
            manifest = next((one for one in members if one.filename == "META-INF/MANIFEST.MF"), None)
            text = budget.read(archive, manifest, MOST_TEXT_BYTES) if manifest else b""
            told = _by_manifest(path, name, text)
        yield from told


def _by_properties(path: str, data: bytes) -> list[Package]:
    lines = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    names = [fields.get(key, "") for key in ("groupId", "artifactId", "version")]
    return [_java(path, *names)] if all(names) else []


def _by_manifest(path: str, name: str, data: bytes) -> list[Package]:
    """The package a manifest names; else the file's name, whose group nobody knows."""
    text = re.sub(r"\r?\n ", "", data.decode("utf-8", "replace"))
    fields = dict(re.findall(r"^([\w-]+): ?(.*?)\r?$", text, re.MULTILINE))
    version = fields.get("Implementation-Version") or fields.get("Bundle-Version", "")
    title = fields.get("Implementation-Title") or fields.get("Bundle-SymbolicName", "").partition(";")[0]
    group = fields.get("Implementation-Vendor-Id", "")
    by_name = _JAR_NAME.fullmatch(name.rpartition("/")[2])
    if by_name is not None:
        title, version = by_name["name"], by_name["version"]
    return [_java(path, group, title, version)] if title and version else []


def _java(path: str, group: str, artifact: str, version: str) -> Package:
    return Package(
        name=f"{group}:{artifact}" if group else artifact,
        version=version,
        ecosystem="Maven",
        path=path,
        is_installed=True,
        private="" if group else "a Java archive that does not name its group",
    )
