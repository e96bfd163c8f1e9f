"""Which of a project's tests a stage runs: each runs in one stage, and none in two."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.stages.containers import SOURCE, VENV, stage_env

if TYPE_CHECKING:
    import dagger

    from pipeline.graph.context import Context

PLUGIN: Final = "pipeline_suites"


def with_suite(ctx: Context, python: str, container: dagger.Container) -> dagger.Container:
    """Leave the stage in whose container this is the tests that are its own; nothing where all are.

    Args:
        python: The version in the container, such as "3.11.2".
    """
    suites: list[dict[str, Any]] = [dict(one) for one in ctx.options.get("suites", ())]
    if not suites:
        return container
    version = ".".join(python.split(".")[:2])
    place = f"{VENV}/lib/python{version}/site-packages/{PLUGIN}.py"
    text = (Path(__file__).parent / "suite_plugin.py").read_text(encoding="utf-8")
    container = container.with_new_file(place, text)
    known = {"root": SOURCE, "stage": ctx.stage, "suites": suites}
    container = container.with_env_variable("PIPELINE_SUITES", json.dumps(known, sort_keys=True))
    others = [folder for one in suites if one["stage"] != ctx.stage for folder in one["folders"]]
    words = ["-p", PLUGIN, *(f"--ignore={folder}" for folder in others)]
    if any(one["stage"] == ctx.stage and one["is_left_out"] for one in suites):
        words += ["-m", ""]
    own = stage_env(ctx).get("PYTEST_ADDOPTS", "")
    return container.with_env_variable("PYTEST_ADDOPTS", f"{shlex.join(words)} {own}".rstrip())
