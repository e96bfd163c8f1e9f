"""Our program as a container gets it: a package of its own name, on nothing but the standard library."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

PACKAGE: Final = "pipeline_dast"
FOLDER: Final = "/dast"


def program_files() -> dict[str, str]:
    """Absolute path in the container, and text."""
    folder = files("pipeline.scan.dast").joinpath("prober")
    return {
        f"{FOLDER}/{PACKAGE}/{one.name}": one.read_text(encoding="utf-8").replace(
            "pipeline.scan.dast.prober", PACKAGE
        )
        for one in sorted(folder.iterdir(), key=lambda one: one.name)
        if one.name.endswith(".py")
    }
