"""Facts about a Node project, read from its `package.json`; nothing is run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Runner = Literal["vitest", "jest", "mocha", "node"]

RUNNERS: Final[tuple[Runner, ...]] = ("vitest", "jest", "mocha")
LOCKS: Final = ("package-lock.json", "npm-shrinkwrap.json")
OTHER_LOCKS: Final = {"yarn.lock": "yarn", "pnpm-lock.yaml": "pnpm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProject:
    """What the stage must know of a Node project with tests; `folder` is "." at the root."""

    folder: str = "."
    version: str = ""  # of Node, such as "20"; "" takes any
    runner: Runner = "node"
    words: tuple[str, ...] = ()  # of the script `test`; empty when it is more than one command
    has_lock: bool = False
    other_installer: str = ""  # whose lock it has in place of npm's
    has_workspaces: bool = False  # its packages are needed to install it
    has_coverage: bool = False  # what the runner needs to measure is there


def find_node(files: Sequence[str], read: Callable[[str], str | None]) -> NodeProject | None:
    """Return the Node project with tests: at the root, else the one in a folder of the root; None without.

    Args:
        files: Tracked files, `/` between parts.
        read: Gives the text of a file, or None when it is missing or no UTF-8.
    """
    names = set(files)
    places = [name for name in files if re.fullmatch(r"(?:[^/]+/)?package\.json", name)]
    for name in sorted(places, key=lambda one: (one.count("/"), one)):
        folder = name.rpartition("/")[0]
        found = _parse(folder, _json(read(name)), names, read)
        if found is not None:
            return found
    return None


def _parse(
    folder: str, package: Mapping[str, Any], names: set[str], read: Callable[[str], str | None]
) -> NodeProject | None:
    script = _mapping(package, "scripts").get("test")
    needed = {**_mapping(package, "dependencies"), **_mapping(package, "devDependencies")}
    runner = _runner(str(script or ""), needed)
    if runner is None:
        return None

    def path(name: str) -> str:
        return f"{folder}/{name}" if folder else name

    chosen = next((read(path(one)) for one in (".nvmrc", ".node-version") if path(one) in names), None)
    coverage = {"jest"} if runner == "jest" else {"@vitest/coverage-v8", "@vitest/coverage-istanbul"}
    return NodeProject(
        folder=folder or ".",
        version=_version(chosen or str(_mapping(package, "engines").get("node", ""))),
        runner=runner,
        words=_words(str(script or "")),
        has_lock=any(path(one) in names for one in LOCKS),
        other_installer=next((tool for one, tool in OTHER_LOCKS.items() if path(one) in names), ""),
        has_workspaces="workspaces" in package,
        has_coverage=runner in ("jest", "vitest") and bool(coverage & needed.keys()),
    )


def _runner(script: str, needed: Mapping[str, Any]) -> Runner | None:
    """Return the runner the script names, else the one that is installed; None for none of those known."""
    if re.search(r"\bnode\b.*\s--test\b", script):
        return "node"
    for runner in RUNNERS:
        if re.search(rf"(?<![\w.-]){runner}(?![\w.-])", script):
            return runner
    return next((runner for runner in RUNNERS if runner in needed), None)


def _words(script: str) -> tuple[str, ...]:
    """Return the words of a script that is one plain command, which takes more words at its end."""
    if re.search(r"[;&|<>`$(){}*\n]", script):
        return ()
    try:
        return tuple(shlex.split(script))
    except ValueError:
        return ()


def _version(text: str) -> str:
    """Return the least major version of a range or a version; "" when there is no number in it."""
    found = re.search(r"(\d+)", text.replace("lts/", ""))
    return found[1] if found else ""


def _json(text: str | None) -> Mapping[str, Any]:
    """Read a table; a damaged file counts as empty here: npm will say so."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
