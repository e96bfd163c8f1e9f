"""Our programs as a container gets them: a package of its own name, on nothing but the standard library."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

PACKAGE: Final = "pipeline_load"  # a project, or what its locustfile imports, may be called `pipeline` itself
MODULES: Final = (
    *("__init__", "connection", "generator", "histogram", "http1"),
    *("listener", "probe", "sampler"),
)


def program_files() -> dict[str, str]:
    """Path below the folder they are put into, and text."""
    folder = files("pipeline.scan.load")
    return {
        f"{PACKAGE}/{name}.py": folder.joinpath(f"{name}.py")
        .read_text(encoding="utf-8")
        .replace("pipeline.scan.load", PACKAGE)
        for name in MODULES
    }
