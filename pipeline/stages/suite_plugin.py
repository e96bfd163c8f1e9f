"""The pytest plugin in the tests' container that leaves each stage the tests that are its own.

It needs nothing but pytest; `suites` puts it there as `pipeline_suites`. Whose a test is: the stage's in
whose folder it lies, else the first one's that has a marker of the test, else `unit`'s.
"""

from __future__ import annotations

import json
import os
from typing import Any


def owner_of(path: str, markers: set[str], suites: list[dict[str, Any]]) -> str:
    """Say which stage a test belongs to.

    Args:
        path: Of its file, relative to the project.
    """
    for suite in suites:
        if any(path.startswith(folder + "/") for folder in suite["folders"]):
            return str(suite["stage"])
    for suite in suites:
        if markers.intersection(suite["markers"]):
            return str(suite["stage"])
    return "unit"


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Deselect what is another stage's."""
    known = json.loads(os.environ["PIPELINE_SUITES"])
    mine: list[Any] = []
    others: list[Any] = []
    for item in items:
        path = os.path.relpath(str(getattr(item, "path", None) or item.fspath), known["root"])
        markers = {mark.name for mark in item.iter_markers()}
        owner = owner_of(path.replace(os.sep, "/"), markers, known["suites"])
        (mine if owner == known["stage"] else others).append(item)
    if others:
        items[:] = mine
        config.hook.pytest_deselected(items=others)
