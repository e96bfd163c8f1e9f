"""Packages of Python's lock files: uv, Poetry, PDM, Pipenv and the standard's pylock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.scan.advisories.names import normal_name
from pipeline.scan.packages.package import Package
from pipeline.scan.packages.reading import parse_json, parse_toml, reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

OWN = ("editable", "virtual", "workspace")


def read_uv(path: str, text: str) -> list[Package]:
    """`uv.lock`; the project itself and members of its workspace are no dependencies."""
    table = parse_toml(path, text)
    with reading(path):
        listed = [one for one in table.get("package", []) if isinstance(one, dict)]
        own = [one for one in listed if _is_own(one)]
        runtime = {_name(dep) for one in own for dep in one.get("dependencies", [])}
        runtime |= {
            _name(dep)
            for one in own
            for many in one.get("optional-dependencies", {}).values()
            for dep in many
        }
        dev = {_name(dep) for one in own for many in one.get("dev-dependencies", {}).values() for dep in many}
        reached = _reached(listed, runtime) if own else None
        return [
            Package(
                name=str(one["name"]),
                version=str(one.get("version", "")),
                ecosystem="PyPI",
                path=path,
                direct=_name(one) in runtime | dev if own else None,
                dev=reached is not None and _name(one) not in reached,
                private=_private(one.get("source", {})),
                released=_uploaded(one),
                hashes=_hashes(one),
            )
            for one in listed
            if not _is_own(one)
        ]


def _is_own(table: Mapping[str, Any]) -> bool:
    return any(kind in table.get("source", {}) for kind in OWN)


def _name(table: Mapping[str, Any]) -> str:
    return normal_name("PyPI", str(table["name"]))


def _reached(listed: Iterable[Mapping[str, Any]], names: set[str]) -> set[str]:
    """The names that are needed by `names`, themselves included."""
    needs: dict[str, set[str]] = {}
    for one in listed:
        extras = [dep for many in one.get("optional-dependencies", {}).values() for dep in many]
        needs.setdefault(_name(one), set()).update(
            _name(dep) for dep in [*one.get("dependencies", []), *extras]
        )
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs.get(name, set())
    return found


def _private(source: Mapping[str, Any]) -> str:
    """Why a package is private by where it comes from; "" for an index."""
    kinds = {
        "git": "a git repository",
        "path": "a folder or file",
        "directory": "a folder",
        "url": "an address",
    }
    return next((why for kind, why in kinds.items() if kind in source), "")


def _files(table: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in ("sdist", "archive"):
        if isinstance(table.get(key), dict):
            yield table[key]
    for key in ("wheels", "files"):
        yield from (one for one in table.get(key) or () if isinstance(one, dict))


def _hashes(table: Mapping[str, Any]) -> tuple[str, ...]:
    found = [one["hash"] for one in _files(table) if "hash" in one]
    found += [f"{kind}:{value}" for one in _files(table) for kind, value in one.get("hashes", {}).items()]
    return tuple(sorted(map(str, found)))


def _uploaded(table: Mapping[str, Any]) -> str:
    """When the first file of a release was uploaded, where the lock says so."""
    times = [str(one["upload-time"]) for one in _files(table) if "upload-time" in one]
    return min(times, default="")


def read_poetry(path: str, text: str) -> list[Package]:
    """`poetry.lock`; whether a package is direct only `pyproject.toml` says."""
    table = parse_toml(path, text)
    with reading(path):
        return [
            Package(
                name=str(one["name"]),
                version=str(one["version"]),
                ecosystem="PyPI",
                path=path,
                dev=_is_dev_only(one.get("groups"), one.get("category", "main")),
                private=_poetry_private(one.get("source", {})),
                hashes=_hashes(one),
            )
            for one in table.get("package", [])
        ]


def _is_dev_only(groups: object, category: object) -> bool:
    if isinstance(groups, list):
        return bool(groups) and "main" not in groups and "default" not in groups
    return category == "dev"


def _poetry_private(source: Mapping[str, Any]) -> str:
    kinds = {"git": "a git repository", "directory": "a folder", "file": "a file", "url": "an address"}
    return kinds.get(str(source.get("type", "")), "")


def read_pdm(path: str, text: str) -> list[Package]:
    """`pdm.lock`; a package with extras is listed again and counts once."""
    table = parse_toml(path, text)
    with reading(path):
        found = [
            Package(
                name=str(one["name"]),
                version=str(one["version"]),
                ecosystem="PyPI",
                path=path,
                dev=_is_dev_only(one.get("groups"), "main"),
                private=_private(one),
                hashes=_hashes(one),
            )
            for one in table.get("package", [])
            if not (one.get("path") == "." or one.get("editable"))
        ]
    return list({one.key: one for one in reversed(found)}.values())[::-1]


def read_pipenv(path: str, text: str) -> list[Package]:
    """`Pipfile.lock`."""
    table = parse_json(path, text)
    with reading(path):
        return [
            Package(
                name=name,
                version=str(one.get("version", "")).removeprefix("=="),
                ecosystem="PyPI",
                path=path,
                direct=True if "index" in one else None,
                dev=section == "develop",
                private=_private(one),
                hashes=tuple(sorted(map(str, one.get("hashes", ())))),
            )
            for section in ("default", "develop")
            for name, one in table.get(section, {}).items()
            if not one.get("editable") or "git" in one
        ]


def read_pylock(path: str, text: str) -> list[Package]:
    """`pylock.toml` of PEP 751."""
    table = parse_toml(path, text)
    with reading(path):
        return [
            Package(
                name=str(one["name"]),
                version=str(one.get("version", "")),
                ecosystem="PyPI",
                path=path,
                private="a git repository" if "vcs" in one else "an address" if "archive" in one else "",
                released=_uploaded(one),
                hashes=_hashes(one),
            )
            for one in table["packages"]
            if "directory" not in one
        ]
