"""Run vulture over each file alone: what looks unused in it, and the names it uses.

    python vulture_program.py PATH...

This program runs in the container that has vulture, with the standard library and vulture alone. It prints a
list of tables: `file`, `problem` (why it could not be read, or ""), `found` (line, message and
confidence), and `uses`. What one file defines another may use: `found` holds for the project where no file
uses the name. Vulture's settings in pyproject.toml count as they always do.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def look(path: Path, config: dict[str, Any], least: int) -> dict[str, Any]:
    """What vulture says of one file, and which names it uses."""
    from vulture.core import ExitCode, Vulture

    one = Vulture(ignore_names=config["ignore_names"], ignore_decorators=config["ignore_decorators"])
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            one.scavenge([str(path)], exclude=config["exclude"])
    except RecursionError:
        return {"file": str(path), "problem": "it is nested too deeply", "found": [], "uses": []}
    problem = told.getvalue().strip() if one.exit_code == ExitCode.InvalidInput else ""
    found = [
        [item.first_lineno, item.message, item.confidence]
        for item in one.get_unused_code(min_confidence=least)
        if item.filename.resolve() == path.resolve()  # else of a list of names that vulture has for a library
    ]
    return {"file": str(path), "problem": problem, "found": found, "uses": sorted(one.used_names)}


def main(argv: list[str]) -> None:
    """Look at every Python file below the given paths, and print what was seen."""
    from vulture.config import make_config

    config = make_config(argv)
    paths = [one for given in map(Path, config["paths"]) for one in sorted([*given.rglob("*.py"), given])]
    files = [one for one in paths if one.is_file() and not one.is_symlink()]
    json.dump([look(one, config, config["min_confidence"]) for one in files], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
