"""Packages of Node's lock files: npm, Yarn (both kinds) and pnpm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import LockBroken, parse_json, parse_yaml, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_YARN_HEAD: Final = re.compile(r'^(?P<names>(?:"[^"]+"|[^\s",#][^",]*)(?:,\s*(?:"[^"]+"|[^",]+))*):$')
_PNPM_KEY: Final = re.compile(r"^/?((?:@[^/@]+/)?[^/@]+)[@/]([^(_]+)")


def read_npm(path: str, text: str) -> list[Package]:
    """`package-lock.json` of npm 5 and later; members of a workspace are no dependencies."""
    table = parse_json(path, text)
    with reading(path):
        if "packages" in table:
            return list(_npm(path, table["packages"]))
        return list(_old_npm(path, table["dependencies"], frozenset()))


def _npm(path: str, listed: Mapping[str, Any]) -> Iterator[Package]:
    root = listed.get("", {})
    wanted = {
        name
        for key in ("dependencies", "devDependencies", "optionalDependencies")
        for name in root.get(key, {})
    }
    for place, one in listed.items():
        folder, separator, name = place.rpartition("node_modules/")
        if not separator or one.get("link"):
            continue
        yield Package(
            name=str(one.get("name", name)),
            version=_version(str(one.get("version", ""))),
            ecosystem="npm",
            path=path,
            direct=folder == "" and name in wanted,
            dev=bool(one.get("dev") or one.get("devOptional")),
            private=_private(str(one.get("resolved", ""))),
            hashes=tuple(str(one["integrity"]).split()) if one.get("integrity") else (),
        )


def _old_npm(path: str, listed: Mapping[str, Any], around: frozenset[int]) -> Iterator[Package]:
    for name, one in listed.items():
        version = str(one.get("version", ""))
        alias = re.match(r"npm:(.+)@([^@]+)$", version)
        yield Package(
            name=alias.group(1) if alias else name,
            version=_version(alias.group(2) if alias else version),
            ecosystem="npm",
            path=path,
            dev=bool(one.get("dev")),
            private=_private(version),
        )
        if isinstance(one.get("dependencies"), dict) and id(one) not in around:
            yield from _old_npm(path, one["dependencies"], around | {id(one)})


def _version(text: str) -> str:
    """A version, or nothing where an address stands for it."""
    return "" if re.match(r"(?:git|file|github|https?)[+:]", text) else text


def _private(address: str) -> str:
    if re.match(r"git[+:]|github:", address):
        return "a git repository"
    return "a folder or file" if address.startswith("file:") else ""


def read_yarn(path: str, text: str) -> list[Package]:
    """`yarn.lock` of Yarn 1, and of Yarn 2 and later, which is YAML."""
    if "__metadata:" in text:
        table = parse_yaml(path, text)
        with reading(path):
            return list(_yarn_berry(path, table))
    return list(_yarn_classic(path, text))


def _yarn_classic(path: str, text: str) -> Iterator[Package]:
    names: str = ""
    resolved = ""
    version = ""
    for line in [*text.splitlines(), "end:"]:
        if line and not line[0].isspace() and not line.startswith("#"):
            head = _YARN_HEAD.match(line)
            if head is None:
                raise LockBroken(path, f"this line is none of Yarn's: {line[:80]}")
            if names:
                yield _yarn_package(path, names, version, resolved)
            names, version, resolved = head.group("names"), "", ""
        elif found := re.match(r'\s{2}version "?([^"]+)"?$', line):
            version = found.group(1)
        elif found := re.match(r'\s{2}resolved "?([^"]+)"?$', line):
            resolved = found.group(1)


def _yarn_package(path: str, names: str, version: str, resolved: str) -> Package:
    """One entry; `a@npm:b@1` means the package b."""
    first = names.split(",")[0].strip().strip('"')
    name, _, wanted = first[1:].partition("@")
    name = first[0] + name
    if alias := re.match(r"npm:((?:@[^/]+/)?[^@]+)@", wanted):
        name = alias.group(1)
    private = _private(resolved or wanted)
    return Package(name=name, version=version, ecosystem="npm", path=path, private=private)


def _yarn_berry(path: str, table: Mapping[str, Any]) -> Iterator[Package]:
    for key, one in table.items():
        if (
            key == "__metadata"
            or not isinstance(one, dict)
            or "@workspace:" in str(one.get("resolution", ""))
        ):
            continue
        resolution = str(one["resolution"])
        name, _, source = resolution[1:].partition("@")
        kind = source.partition(":")[0]
        yield Package(
            name=resolution[0] + name,
            version=str(one["version"]),
            ecosystem="npm",
            path=path,
            private="" if kind in ("npm", "patch", "virtual") else "a repository or folder",
        )


def read_pnpm(path: str, text: str) -> list[Package]:
    """`pnpm-lock.yaml` of any version; the names of packages are its keys."""
    table = parse_yaml(path, text)
    with reading(path):
        importers = table.get("importers") or {".": table}
        told: dict[str, set[str]] = {
            "dependencies": set(),
            "devDependencies": set(),
            "optionalDependencies": set(),
        }
        for one in importers.values():
            for section, names in told.items():
                names.update(one.get(section) or {})
        direct = set().union(*told.values())
        found: list[Package] = []
        for key, one in (table.get("packages") or {}).items():
            match = _PNPM_KEY.match(str(key))
            version = str(one.get("version") or (match.group(2) if match else ""))
            name = str(one.get("name") or (match.group(1) if match else key))
            found.append(
                Package(
                    name=name,
                    version=_version(version),
                    ecosystem="npm",
                    path=path,
                    direct=name in direct,
                    dev=bool(one.get("dev"))
                    or (name in told["devDependencies"] and name not in told["dependencies"]),
                    private=_private(version) or ("" if match else "a repository or folder"),
                )
            )
        return found
