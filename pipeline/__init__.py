"""Delivery pipelines as async Python functions over Dagger containers.

The public names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.graph.context import Artifact, CheckFailed, Context, NeedGone, Skip
    from pipeline.graph.outcome import Failure, Outcome
    from pipeline.graph.stage import Retry, Stage, stage
    from pipeline.stages.containers import python_container, source
    from pipeline.stages.results import Deps, Image, Images, Quality, Source, TestReport, Wheel

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "CheckFailed",
    "Context",
    "Deps",
    "Failure",
    "Image",
    "Images",
    "NeedGone",
    "Outcome",
    "Quality",
    "Retry",
    "Skip",
    "Source",
    "Stage",
    "TestReport",
    "Wheel",
    "python_container",
    "source",
    "stage",
]

_HOMES: Final = {
    "Artifact": "pipeline.graph.context",
    "CheckFailed": "pipeline.graph.context",
    "Context": "pipeline.graph.context",
    "Failure": "pipeline.graph.outcome",
    "NeedGone": "pipeline.graph.context",
    "Outcome": "pipeline.graph.outcome",
    "Retry": "pipeline.graph.stage",
    "Skip": "pipeline.graph.context",
    "Stage": "pipeline.graph.stage",
    "stage": "pipeline.graph.stage",
    "python_container": "pipeline.stages.containers",
    "source": "pipeline.stages.containers",
    **dict.fromkeys(
        ("Deps", "Image", "Images", "Quality", "Source", "TestReport", "Wheel"), "pipeline.stages.results"
    ),
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
