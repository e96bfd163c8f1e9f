"""Which packages the project's own Python code imports; code that does not parse says nothing."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.scan.advisories.names import normal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.scan.packages.package import Package


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What code imports."""

    modules: frozenset[str]  # with their parents: "a.b" and "a"
    is_whole: bool  # False: some of it could not be read, so that more may be imported


def imports_of(texts: Iterable[str]) -> Imports:
    """The modules that Python files import, relative ones left out."""
    found: set[str] = set()
    is_whole = True
    for text in texts:
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            is_whole = False
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    parts = [name.split(".") for name in found]
    modules = frozenset(".".join(one[:end]) for one in parts for end in range(1, len(one) + 1))
    return Imports(modules=modules, is_whole=is_whole)


def with_imported(
    packages: Sequence[Package], modules: Mapping[str, Sequence[str]], imports: Imports
) -> list[Package]:
    """Packages with `imported` set where it is known: where what they install is known by name.

    Args:
        modules: The top-level names of each installed package.
    """
    known = {normal_name("PyPI", name): names for name, names in modules.items()}
    found: list[Package] = []
    for one in packages:
        names = known.get(normal_name("PyPI", one.name)) if one.ecosystem == "PyPI" else None
        is_imported = bool(names) and not imports.modules.isdisjoint(names or ())
        if names and (is_imported or imports.is_whole):
            one = replace(one, imported=is_imported)
        found.append(one)
    return found
