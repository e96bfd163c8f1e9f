"""Which packages the project's own Python code imports; code that does not parse says nothing."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.scan.advisories.names import normal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.scan.packages.package import Package


def imported_modules(texts: Iterable[str]) -> frozenset[str] | None:
    """The modules, with their parents, that Python files import; None where one of them does not parse."""
    found: set[str] = set()
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(
        ".".join(name.split(".")[:end]) for name in found for end in range(1, name.count(".") + 2)
    )


def with_imported(
    packages: Sequence[Package], modules: Mapping[str, Sequence[str]], imported: frozenset[str] | None
) -> list[Package]:
    """Packages with `imported` set where it is known: where what they install is known by name.

    Args:
        modules: The top-level names of each installed package.
    """
    known = {normal_name("PyPI", name): names for name, names in modules.items()}
    found: list[Package] = []
    for one in packages:
        names = known.get(normal_name("PyPI", one.name)) if one.ecosystem == "PyPI" else None
        if imported is None or not names:
            found.append(one)
        else:
            found.append(replace(one, imported=not imported.isdisjoint(names)))
    return found
