"""The list of behaviours that the tests here state: each has a number, and each number has a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

BEHAVIOURS = frozenset(range(1, 187))
NUMBERS = re.compile(r"(\d+(?:, \d+)*)\. ")


def test_every_behaviour_has_a_test() -> None:
    """Docstrings begin with the numbers of what they state: all from 1 to 186, and no others."""
    folder = Path(__file__).parent

    stated = {number for path in sorted(folder.glob("test_*.py")) for number in numbers_in(path)}

    assert stated == BEHAVIOURS


def numbers_in(path: Path) -> set[int]:
    """Return the numbers that the docstrings of a file's tests begin with."""
    numbers = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            match = NUMBERS.match(ast.get_docstring(node) or "")
            numbers |= {int(number) for number in match[1].split(", ")} if match else set()
    return numbers
