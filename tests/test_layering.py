"""The table of doors: which package may import which. Imports for types count as well."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "pipeline"

# What each room may import of ours, besides itself. `docs/design/architecture.md` draws it.
DOORS: Final[dict[str, frozenset[str]]] = {
    "errors": frozenset(),
    "digest": frozenset(),
    "config": frozenset({"errors"}),
    "text": frozenset(),
    "sshkeys": frozenset({"errors", "text"}),
    "wildcards": frozenset(),
    "globs": frozenset({"wildcards"}),
    "junit": frozenset({"errors", "text"}),
    "coverage": frozenset({"errors"}),
    "graph": frozenset({"errors", "digest", "config", "text", "globs"}),
    "engine": frozenset({"errors", "digest", "config", "text", "wildcards"}),
    "session": frozenset({"engine", "digest", "errors"}),
    "connect": frozenset({"session", "engine", "errors", "config"}),
    "detect": frozenset({"errors", "digest", "config"}),
    "deploy": frozenset({"errors", "digest", "config", "text", "sshkeys"}),
    "ops": frozenset({"errors", "digest", "config", "text", "sshkeys"}),
    "scan": frozenset({"errors", "digest", "config", "text", "globs"}),
    "release": frozenset({"errors", "digest", "config", "text"}),
    "stages": frozenset(
        {
            "graph",
            "detect",
            "scan",
            "release",
            "deploy",
            "ops",
            "connect",
            "text",
            "junit",
            "coverage",
            "errors",
            "digest",
            "config",
        }
    ),
    "report": frozenset({"graph", "errors", "junit", "text"}),
    "testing": frozenset({"graph", "errors", "digest"}),
    "__init__": frozenset({"graph", "stages"}),
    "__main__": frozenset({"cli"}),
}

ROOMS: Final = frozenset({*DOORS, "cli"})


def room_of(module: str) -> str:
    """The room a dotted name of ours lies in; the package itself stands for its public names."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "__init__"


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every module of ours that a file imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name) for alias in node.names if alias.name.startswith("pipeline")
            )
        elif (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and (node.module or "").startswith("pipeline")
        ):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "pipeline" else [module]
            yield from ((node.lineno, name) for name in names)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_only_goes_through_its_doors(path: Path) -> None:
    """Nothing is imported that the table does not allow; `cli` may import everything."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "cli":
        return

    allowed = {*DOORS[room], room, "__init__"}  # the package itself: its version
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} must not import {module}"
        for line, module in imports_of(path)
        if room_of(module) not in allowed
    ]

    assert wrong == []


def test_users_stages_need_only_public_names() -> None:
    """This project's own `ci/` imports the public package and the stages, as a user would."""
    imported = {module for path in (ROOT / "ci").glob("*.py") for _, module in imports_of(path)}

    assert {room_of(module) for module in imported} <= {"stages", "__init__"}


HEAVY: Final = ("dagger", "httpx", "graphql", "h11", "rich", "mypy")
LIGHT_ROOMS: Final = ("errors.py", "digest.py", "config", "graph", "detect", "stages", "cli", "__init__.py")


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_what_listing_loads_imports_nothing_heavy(room: str) -> None:
    """The SDK and its like are imported where containers are described, inside functions."""
    place = PACKAGE / room
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))

    heavy = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in _top_level(ast.parse(path.read_text(encoding="utf-8")).body)
        if any(name.split(".")[0] in HEAVY for name in _names(node))
    ]

    assert heavy == []


def _top_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is loaded: not those in functions or for types only."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.Try) or (isinstance(node, ast.If) and not _is_for_types(node)):
            yield from _top_level(node.body)


def _is_for_types(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""]
