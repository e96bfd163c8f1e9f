"""Packages of requirements files; only what is pinned has a version."""

from __future__ import annotations

import re
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from pipeline.scan.packages.package import Package

_DEV: Final = re.compile(r"dev|test|lint|doc|typing|ci\b", re.IGNORECASE)
_HASH: Final = re.compile(r"--hash[= ](\S+)")
_PATH: Final = re.compile(r"[./~]|.*(?:\.whl|\.zip|\.tar\.\w+)$")
_EGG: Final = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")


def read_requirements(path: str, text: str) -> list[Package]:
    """Read one file; options and other files it names are passed over, for those are read by themselves."""
    is_dev = _DEV.search(path) is not None
    # What pip-compile and uv write says which packages it got there by others.
    is_compiled = "# via" in text or "--hash=" in text
    found: list[Package] = []
    for line in _lines(text):
        one = _parse(path, line, is_dev=is_dev, direct=None if is_compiled else True)
        if one is not None:
            found.append(one)
    return found


def _lines(text: str) -> list[str]:
    """Lines as pip reads them: joined at `\\`, without comments."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [re.sub(r"(?:^|\s)#.*$", "", line).strip() for line in joined.splitlines()]


def _parse(path: str, line: str, *, is_dev: bool, direct: bool | None) -> Package | None:
    if re.match(r"(?:-e|--editable)[= ]", line):
        egg = _EGG.search(line)
        return _of_repository(path, egg.group(1), is_dev, direct) if egg and "://" in line else None
    if not line or line.startswith("-"):
        return None
    bare = re.split(r"\s+--", line)[0].strip()
    if "://" in bare and "@" not in bare.partition("://")[0]:
        egg = _EGG.search(bare)
        return _of_repository(path, egg.group(1), is_dev, direct) if egg else None
    try:
        wanted = Requirement(bare)
    except InvalidRequirement:
        # A line nobody can read must not vanish: it ends as a package without a version.
        private = "a folder or file" if _PATH.match(bare) else ""
        return Package(
            name=bare[:80],
            version="",
            ecosystem="PyPI",
            path=path,
            direct=direct,
            dev=is_dev,
            private=private,
        )
    pins = [
        one.version for one in wanted.specifier if one.operator in ("==", "===") and "*" not in one.version
    ]
    return Package(
        name=wanted.name,
        version=pins[0] if pins else "",
        ecosystem="PyPI",
        path=path,
        direct=direct,
        dev=is_dev,
        private="a repository or an address" if wanted.url else "",
        hashes=tuple(sorted(_HASH.findall(line))),
    )


def _of_repository(path: str, name: str, is_dev: bool, direct: bool | None) -> Package:
    return Package(
        name=name,
        version="",
        ecosystem="PyPI",
        path=path,
        direct=direct,
        dev=is_dev,
        private="a repository or an address",
    )
