"""Say which Python files do not parse, as a table of path and reason; for tools that pass over them silently.

    python parse_program.py FOLDER

This program runs in the tool's container, with the standard library alone: what parses depends on its Python.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from pathlib import Path


def why_not(data: bytes) -> str:
    """Why a file is no Python; "" when it is."""
    try:
        ast.parse(data)
    except (SyntaxError, ValueError) as error:
        return f"it does not parse: {error}"
    except (RecursionError, MemoryError):
        return "it is nested too deeply to parse"
    return ""


def main(folder: str) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # a doubtful escape in a text is no error
    paths = [path for path in sorted(Path(folder).rglob("*.py")) if path.is_file() and not path.is_symlink()]
    reasons = {str(path): why_not(path.read_bytes()) for path in paths}
    json.dump({path: why for path, why in reasons.items() if why}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
