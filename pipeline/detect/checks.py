"""Which linters, formatters and type checkers a project has configured, and in which versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOOKS: Final = ".pre-commit-config.yaml"
HOOK_REPOSITORIES: Final[Mapping[str, str]] = {
    "astral-sh/ruff-pre-commit": "ruff",
    "charliermarsh/ruff-pre-commit": "ruff",
    "psf/black": "black",
    "psf/black-pre-commit-mirror": "black",
    "pycqa/flake8": "flake8",
}


def find_tools(
    names: set[str], pyproject: Mapping[str, Any], read: Callable[[str], str | None]
) -> tuple[str, ...]:
    """Return which checks the project itself has configured."""
    table = pyproject.get("tool", {})
    found = {name for name in ("black", "mypy", "pytest") if name in table}
    if "ruff" in table or {"ruff.toml", ".ruff.toml"} & names:
        found.add("ruff")
    hooks = read(HOOKS) or "" if HOOKS in names else ""
    if "format" in table.get("ruff", {}) or "id: ruff-format" in hooks:
        found.add("ruff-format")
    if "id: black" in hooks:
        found.add("black")
    if {"mypy.ini", ".mypy.ini"} & names:
        found.add("mypy")
    ini = "\n".join(read(name) or "" for name in ("setup.cfg", "tox.ini") if name in names)
    if "[mypy]" in ini:
        found.add("mypy")
    if ".flake8" in names or "[flake8]" in ini:
        found.add("flake8")
    return tuple(sorted(found))


def find_pins(hooks: str) -> tuple[str, ...]:
    """Return the versions of tools that the commit hooks fix, as pip takes them.

    Args:
        hooks: The text of pre-commit's configuration; a commit counts when a comment tells its version.
    """
    found = []
    for block in re.split(r"^\s*-\s+repo:", hooks, flags=re.MULTILINE)[1:]:
        repository = re.search(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?[\"'\s]", block)
        tool = HOOK_REPOSITORIES.get(repository.group(1).lower()) if repository else None
        revision = re.search(r"^\s*rev:(.*)$", block, re.MULTILINE)
        version = re.search(r"\bv?(\d+(?:\.\d+)+)\b", revision.group(1)) if revision else None
        if tool and version:
            found.append(f"{tool}=={version.group(1)}")
    return tuple(dict.fromkeys(found))


def mypy_knows_files(
    names: set[str], pyproject: Mapping[str, Any], read: Callable[[str], str | None]
) -> bool:
    """Say whether mypy's configuration names what to check."""
    table = pyproject.get("tool", {}).get("mypy", {})
    if {"files", "packages", "modules"} & table.keys():
        return True
    ini = "\n".join(read(name) or "" for name in ("mypy.ini", ".mypy.ini", "setup.cfg") if name in names)
    return re.search(r"^(?:files|packages|modules)\s*=", ini, re.MULTILINE) is not None
