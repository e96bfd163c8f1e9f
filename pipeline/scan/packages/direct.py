"""Which Python packages a project names itself, as its `pyproject.toml` says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pipeline.scan.advisories.names import normal_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipeline.scan.packages.package import Package

_NAME: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def named_by(pyproject: str) -> frozenset[str]:
    """The normalised names of dependencies, extras and groups; none where the file cannot be read."""
    try:
        table = tomllib.loads(pyproject)
        return frozenset(normal_name("PyPI", name) for name in _names(table))
    except (tomllib.TOMLDecodeError, AttributeError, TypeError):
        return frozenset()  # whoever needs the file says what is wrong with it


def _names(table: Mapping[str, Any]) -> Iterator[str]:
    project = table.get("project", {})
    poetry = table.get("tool", {}).get("poetry", {})
    told: list[Any] = [*project.get("dependencies", ())]
    for many in (
        *project.get("optional-dependencies", {}).values(),
        *table.get("dependency-groups", {}).values(),
    ):
        told += many
    for line in told:
        found = _NAME.match(line) if isinstance(line, str) else None
        if found:
            yield found[1]
    groups = [one.get("dependencies", {}) for one in poetry.get("group", {}).values()]
    for names in (poetry.get("dependencies", {}), poetry.get("dev-dependencies", {}), *groups):
        yield from (name for name in names if name != "python")


def with_direct(packages: Sequence[Package], names: frozenset[str]) -> list[Package]:
    """Packages with `direct` set where it was not known and the project names some itself."""
    return [
        replace(one, direct=one.key[1] in names)
        if names and one.direct is None and one.ecosystem == "PyPI"
        else one
        for one in packages
    ]
