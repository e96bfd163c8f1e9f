"""Packages of Go: what `go.mod` requires, which since Go 1.17 is everything that is built."""

from __future__ import annotations

import re
from typing import Final

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken

_REQUIRE: Final = re.compile(r"^(\S+)\s+(v\S+)(?:\s*//\s*(.*))?$")
_REPLACE: Final = re.compile(r"^(\S+)(?:\s+(v\S+))?\s+=>\s+(\S+)(?:\s+(v\S+))?$")
_TOOLCHAIN: Final = re.compile(r"^(?:toolchain\s+go|go\s+)(\d\S*)")


def read_mod(path: str, text: str) -> list[Package]:
    """Requirements, after replacements; the standard library counts as the package `stdlib`.

    Raises:
        LockBroken: It is no `go.mod`.
    """
    if not re.search(r"^\s*module\s+\S", text, re.MULTILINE):
        raise LockBroken(path, "it names no module")
    required: dict[str, Package] = {}
    replaced: dict[tuple[str, str], tuple[str, str]] = {}
    toolchain = ""
    block = ""
    for raw in text.splitlines():
        line = raw.strip()
        verb, _, rest = line.partition(" ")
        if line.endswith("(") and verb in ("require", "replace", "exclude", "retract", "tool", "ignore"):
            block = verb
            continue
        if line == ")":
            block = ""
            continue
        kind, what = (block, line) if block else (verb, rest.strip())
        if kind == "require" and (found := _REQUIRE.match(what)):
            name, version, note = found.groups()
            required[name] = Package(
                name=name, version=version, ecosystem="Go", path=path, direct="indirect" not in (note or "")
            )
        elif kind == "replace" and (found := _REPLACE.match(re.sub(r"\s*//.*", "", what))):
            replaced[(found.group(1), found.group(2) or "")] = (found.group(3), found.group(4) or "")
        elif not block and (tool := _TOOLCHAIN.match(line)) and (not toolchain or verb == "toolchain"):
            toolchain = tool.group(1)
    packages = [_after(one, replaced) for one in required.values()]
    if toolchain:
        packages.append(Package(name="stdlib", version=toolchain, ecosystem="Go", path=path, direct=True))
    return packages


def _after(package: Package, replaced: dict[tuple[str, str], tuple[str, str]]) -> Package:
    """The module that is built in place of a required one."""
    to = replaced.get((package.name, package.version)) or replaced.get((package.name, ""))
    if to is None:
        return package
    name, version = to
    if not version:
        return Package(
            name=package.name,
            version=package.version,
            ecosystem="Go",
            path=package.path,
            direct=package.direct,
            private="a folder",
        )
    return Package(name=name, version=version, ecosystem="Go", path=package.path, direct=package.direct)
